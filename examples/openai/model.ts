/** Stands for your model: one that counts, in the shapes of OpenAI's API. The same question has always the same answer. */

/** A chat, as far as this model reads it. */
export type Chat = Readonly<{
	model: string;
	messages: readonly Readonly<{ role: string; content: string }>[];
	/** The most that the answer may have. */
	maxTokens: number;
	stream: boolean;
	includeUsage: boolean;
}>;

/** The request can't be answered. Fastify makes a 400 of it, whoever throws it: a handler, or a price. */
export class BadChatError extends Error {
	override readonly name = "BadChatError";
	readonly code = "BAD_CHAT";
	readonly statusCode = 400;
}

/** @throws BadChatError */
export function readChat(body: unknown): Chat {
	const { model, messages, max_tokens, max_completion_tokens = max_tokens, stream, stream_options } = object(body);
	const maxTokens = Number(max_completion_tokens ?? 128);
	if (typeof model !== "string" || !Array.isArray(messages) || messages.length === 0)
		throw new BadChatError("give a model, and messages");
	if (!Number.isInteger(maxTokens) || maxTokens < 1 || maxTokens > 1_000_000)
		throw new BadChatError("max_completion_tokens: give a number from 1 to 1,000,000");
	return {
		model,
		messages: messages.map((message) => ({ role: String(message?.role), content: String(message?.content) })),
		maxTokens,
		stream: stream === true,
		includeUsage: object(stream_options).include_usage === true,
	};
}

/** How many tokens a chat has: as many as words. */
export function promptTokens({ messages }: Chat): number {
	return messages.reduce((sum, { content }) => sum + content.split(/\s+/).filter(Boolean).length, 0);
}

/**
 * Counts as far as the last message says; each number is a token.
 *
 * @throws BadChatError when it says nothing of the kind
 */
export function answerTo({ messages, maxTokens }: Chat): AsyncIterable<string> {
	const [count] = messages.at(-1)?.content.match(/\d+/) ?? [];
	if (count === undefined) throw new BadChatError('there is nothing to count to; say "Count to 20."');
	return numbers(Math.min(Number(count), maxTokens));
}

async function* numbers(count: number): AsyncGenerator<string, void, undefined> {
	for (let number = 1; number <= count; number++) yield number === 1 ? "1" : ` ${number}`;
}

/** One event of a stream: what it adds to the answer. */
export function chunkOf({ model }: Chat, delta: Readonly<{ role?: string; content?: string }>) {
	const choices = [{ index: 0, delta, finish_reason: null }];
	return { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1_750_000_000, model, choices };
}

/** The events behind the last token. */
export function lastChunksOf(chat: Chat, completionTokens: number) {
	const empty = chunkOf(chat, {});
	const last = { ...empty, choices: [{ index: 0, delta: {}, finish_reason: finishOf(chat, completionTokens) }] };
	if (!chat.includeUsage) return [last];
	return [last, { ...empty, choices: [], usage: usageOf(chat, completionTokens) }];
}

/** A whole answer. */
export function completionOf(chat: Chat, content: string, completionTokens: number) {
	const { model } = chat;
	const message = { role: "assistant", content, refusal: null };
	const choices = [{ index: 0, message, finish_reason: finishOf(chat, completionTokens) }];
	const usage = usageOf(chat, completionTokens);
	return { id: "chatcmpl-1", object: "chat.completion", created: 1_750_000_000, model, choices, usage };
}

function finishOf({ maxTokens }: Chat, completionTokens: number) {
	return completionTokens < maxTokens ? "stop" : "length";
}

function usageOf(chat: Chat, completion_tokens: number) {
	const prompt_tokens = promptTokens(chat);
	return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
}

function object(value: unknown): Readonly<Record<string, unknown>> {
	return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
