import type { FastifyError, FastifyInstance, FastifyRequest } from "fastify";
import { type Meter, meterOf } from "sluice/server";
import { answerTo, type Chat, chunkOf, completionOf, lastChunksOf, promptTokens, readChat } from "./model.ts";

/** An OpenAI-compatible chat at one price for each token, read or written: `await app.register(chatRoutes)`, after sluice. */
export async function chatRoutes(app: FastifyInstance) {
	const url = "/v1/chat/completions";
	app.post(url, { config: { payment: priceOf } }, async ({ body, payment }) => {
		const chat = readChat(body);
		return chat.stream ? stream(chat, meterOf(payment)) : whole(chat, meterOf(payment));
	});
	// What a stream needs comes beside it, by HEAD to its own URL. This handler is never called.
	app.head(url, { config: { payment: priceOf } }, async () => "");
	app.setErrorHandler<FastifyError>(({ statusCode = 500, message }, _request, reply) => {
		const error = statusCode < 500 ? { message, type: "invalid_request_error" } : { message: "the model failed" };
		return reply.code(statusCode).send({ error }); // whatever was paid for is free
	});
}

/** A stream asks for vouchers as it goes; a whole answer has all reserved that it may use, and gives the rest back. */
function priceOf({ body }: FastifyRequest) {
	const chat = body ? readChat(body) : undefined; // none: it is about the channel alone, a voucher or a close
	const isShared = chat !== undefined && !chat.stream; // whole answers may be made side by side
	const estimateUnits = isShared ? promptTokens(chat) + chat.maxTokens : 1;
	return { price: "100", unitType: "token", suggestedDeposit: "100000", metered: { estimateUnits, isShared } };
}

async function* stream(chat: Chat, meter: Meter) {
	const tokens = answerTo(chat);
	let count = 0;
	await meter.charge(promptTokens(chat));
	yield { data: chunkOf(chat, { role: "assistant", content: "" }) };
	for await (const content of tokens) {
		await meter.charge(1); // waits until it is paid for, and for its reader
		count++;
		yield { data: chunkOf(chat, { content }) };
	}
	for (const data of lastChunksOf(chat, count)) yield { data };
	yield { data: "[DONE]" };
}

async function whole(chat: Chat, meter: Meter) {
	const tokens = answerTo(chat);
	await meter.charge(promptTokens(chat));
	let text = "";
	let count = 0;
	for await (const content of tokens) {
		await meter.charge(1);
		count++;
		text += content;
	}
	return completionOf(chat, text, count);
}
