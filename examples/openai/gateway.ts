import type { FastifyInstance, FastifyRequest } from "fastify";
import { meterEvents, meterOf } from "sluice/server";

/** Where OpenAI's API is spoken, its version included: `https://api.openai.com/v1`, for example. */
export type Upstream = Readonly<{ baseURL: string; apiKey: string }>;

/** Sells somebody else's model by the token: `await app.register(gatewayRoutes, { baseURL, apiKey })`, after sluice. */
export async function gatewayRoutes(app: FastifyInstance, { baseURL, apiKey }: Upstream) {
	const url = "/v1/chat/completions";
	// A stream's prompt is paid for at its end, when the upstream counts it: keep it small.
	app.post(url, { config: { payment: priceOf }, bodyLimit: 16_384 }, async ({ body, payment }) => {
		const meter = meterOf(payment);
		const chat = chatOf(body);
		const answer = await fetch(`${baseURL}/chat/completions`, {
			method: "POST",
			headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
			body: JSON.stringify({ ...chat, ...(chat.stream && { stream_options: { include_usage: true } }) }),
			signal: meter.signal, // who leaves takes the upstream along
		});
		// Events one by one as they come, and errors as they are, which are free.
		if (chat.stream || !answer.ok) return meterEvents(meter, answer, ({ data }) => costOf(data));
		const completion = (await answer.json()) as Used;
		await meter.charge(completion.usage?.total_tokens ?? 0);
		return completion;
	});
	app.head(url, { config: { payment: priceOf } }, async () => "");
}

type Used = Readonly<{ usage?: Readonly<{ total_tokens: number }> | null }>;

/** An event is one token, until the upstream says how many there were in all, those of the prompt included. */
function costOf(data: string) {
	if (data === "[DONE]") return 0;
	const { usage } = JSON.parse(data) as Used;
	return usage ? { total: usage.total_tokens } : 1;
}

/** What is passed on is what has a bound: other members could make an answer longer than it was reserved for. */
function chatOf(body: unknown) {
	const { model, messages, temperature, stream, max_tokens, max_completion_tokens } = { ...(body as Asked) };
	const most = Number(max_completion_tokens ?? max_tokens ?? 128);
	const isText = Array.isArray(messages) && messages.every((message) => typeof message?.content === "string");
	if (!isText || !Number.isInteger(most) || most < 1 || most > 4_096)
		throw Object.assign(new Error("give messages of text, and at most 4,096 tokens to answer"), { statusCode: 400 });
	return { model, messages, temperature, stream: stream === true, max_completion_tokens: most };
}

type Asked = Readonly<Record<string, unknown>>;

/** A token has a byte at least. What a whole answer does not use of that is given back. */
function estimateOf(body: unknown) {
	const { stream, messages, max_completion_tokens } = chatOf(body);
	return stream ? 1 : Buffer.byteLength(JSON.stringify(messages)) + max_completion_tokens;
}

function priceOf({ body }: FastifyRequest) {
	const estimateUnits = body ? estimateOf(body) : 1; // no body: it is about the channel alone, a voucher or a close
	return { price: "120", unitType: "token", suggestedDeposit: "120000", metered: { estimateUnits } };
}
