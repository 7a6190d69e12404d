import { once } from "node:events";
import { type ServerResponse, validateHeaderName, validateHeaderValue } from "node:http";
import { pipeline, Readable, Transform } from "node:stream";
import type { FastifyReply } from "fastify";
import { CACHE_CONTROL, PAYMENT_RECEIPT } from "../protocol/index.ts";
import { type OwnAnswer, privateCache, storedResponse } from "./answer.ts";
import { isEventStream, receiptEvent } from "./eventStream.ts";
import { type AnyReceipt, receiptField } from "./receipts.ts";
import type { StoredResponse } from "./store/store.ts";

/** Puts an answer of ours into the reply; returns its body, for `onSend`. */
export function setOwnAnswer(reply: FastifyReply, { status, headers, body }: OwnAnswer): string | Buffer | undefined {
	reply.code(status);
	for (const [name, value] of Object.entries(headers)) reply.header(name, value);
	if (body === null || body.length === 0) return undefined;
	return typeof body === "string" ? body : Buffer.from(body);
}

/** Takes back what a handler has put into its answer's head; what browsers need to read any answer stays. */
export function clearHeaders(reply: FastifyReply): void {
	for (const name of Object.keys(reply.getHeaders())) {
		if (!name.startsWith("access-control-") && name !== "vary") reply.removeHeader(name);
	}
}

/** Puts the receipt into a paid reply; returns what goes out: an event stream ends with its receipt once more. */
export function setReceipt(reply: FastifyReply, payload: Payload, receipt: AnyReceipt): Payload {
	if (!setReceiptHead(reply, receipt)) return payload;
	return isStream(payload) ? withLastEvent(payload, receipt) : withEvent(payload, receipt);
}

/** The receipt in the head of a paid reply. @returns whether the answer ends with it as well */
export function setReceiptHead(reply: FastifyReply, receipt: AnyReceipt): boolean {
	reply
		.header(PAYMENT_RECEIPT, receiptField(receipt))
		.header(CACHE_CONTROL, privateCache(String(reply.getHeader(CACHE_CONTROL) ?? "")));
	const endsWithIt = endsWithReceipt(reply);
	// It is of the answer without the receipt's event.
	if (endsWithIt) reply.removeHeader("content-length");
	return endsWithIt;
}

/** What Fastify is going to send, its status and headers settled. */
export type Payload = WholePayload | Readable;
export type WholePayload = string | Uint8Array | null | undefined;

export function isWhole(payload: unknown): payload is WholePayload {
	return payload === undefined || payload === null || typeof payload === "string" || payload instanceof Uint8Array;
}

/** Fastify would not, or might not, send this: its fate is not known before it is paid for. */
export class UnsendableError extends TypeError {
	override readonly name = "UnsendableError";
	readonly code = "UNSENDABLE";
}

/**
 * The payload as `onSend` can judge it: of a `Response`, which Fastify unpacks only later, status and headers are taken
 * over now; of whatever Fastify would read as a stream a Node stream is made. Told apart as Fastify does it, by shape.
 *
 * @throws UnsendableError for everything else
 */
export function settlePayload(reply: FastifyReply, payload: unknown): Payload {
	if (isWhole(payload)) return payload;
	if (isResponse(payload)) {
		takeHead(reply, payload);
		return payload.body === null ? "" : fromReader(payload.body);
	}
	if (hasMethod(payload, "getReader")) return fromReader(payload as unknown as ReadableStream);
	if (payload instanceof Readable) return payload;
	if (hasMethod(payload, "pipe")) return new Readable().wrap(payload as unknown as NodeJS.ReadableStream);
	throw new UnsendableError(`a handler returned ${Object.prototype.toString.call(payload)}, which can't be sent`);
}

/** Told as Fastify tells it: it may be of another package. */
export function isResponse(payload: unknown): payload is Response {
	return Object.prototype.toString.call(payload) === "[object Response]";
}

export function takeHead(reply: FastifyReply, { status, headers }: Response): void {
	reply.code(status);
	for (const [name, value] of headers) reply.header(name, value);
}

function hasMethod<Name extends string>(value: object, name: Name): value is Record<Name, () => unknown> {
	return name in value && typeof (value as Record<Name, unknown>)[name] === "function";
}

/** Not `Readable.from`: that waits for the read under way before it lets go, which may be for ever. */
function fromReader(stream: Pick<ReadableStream<Uint8Array>, "getReader">): Readable {
	const reader = stream.getReader();
	return new Readable({
		read() {
			reader.read().then(
				({ done, value }) => void this.push(done ? null : value),
				(error: Error) => void this.destroy(error),
			);
		},
		destroy(error, done) {
			// Whoever feeds it may stop.
			void Promise.resolve(reader.cancel?.(error)).catch(() => undefined);
			done(error);
		},
	});
}

export function endsWithReceipt(reply: FastifyReply): boolean {
	const field = (name: string) => String(reply.getHeader(name) ?? "");
	return isEventStream({
		status: reply.statusCode,
		contentType: field("content-type"),
		contentEncoding: field("content-encoding"),
	});
}

function withEvent(payload: WholePayload, receipt: AnyReceipt): Buffer {
	return Buffer.concat([bytesOf(payload), receiptEvent(receipt)]);
}

function withLastEvent(stream: Readable, receipt: AnyReceipt): Readable {
	const longer = new Transform({
		transform: (chunk, _encoding, done) => done(null, chunk),
		flush: (done) => done(null, receiptEvent(receipt)),
	});
	// What one of them ends with, the other one does; who reads it hears of it.
	pipeline(stream, longer, () => undefined);
	return longer;
}

export function isStream(payload: unknown): payload is Readable {
	return payload instanceof Readable;
}

/** @throws what Node would throw when the head is written: after the payment was taken */
export function assertSendableHead(reply: FastifyReply): void {
	const headers = reply.getHeaders();
	for (const name in headers) {
		const value = headers[name];
		validateHeaderName(name);
		if (Array.isArray(value)) for (const one of value) validateHeaderValue(name, String(one));
		else validateHeaderValue(name, String(value));
	}
}

/**
 * Resolves to true when a stream has its first bytes, or its end; to false when the client left first.
 *
 * @throws what the stream fails with before that
 */
export async function hasBegun(stream: Readable, client: ServerResponse): Promise<boolean> {
	// A stream may fail while nobody listens: before Fastify takes it over, it is ours to hear.
	stream.on("error", () => undefined);
	if (stream.errored) throw stream.errored;
	if (stream.readableLength > 0 || stream.readableEnded) return true;
	if (stream.destroyed) throw new UnsendableError("the stream was closed before it began");
	if (client.closed) return false;
	const over = new AbortController();
	const { signal } = over;
	try {
		// `readable` also comes at the end; `once` rejects when the stream fails first.
		const outcomes = [
			once(stream, "readable", { signal }).then(() => true),
			once(client, "close", { signal }).then(() => false),
			once(stream, "close", { signal }).then(() => {
				if (stream.errored) throw stream.errored;
				throw new UnsendableError("the stream was closed before it began");
			}),
		];
		for (const outcome of outcomes) outcome.catch(() => undefined);
		return await Promise.race(outcomes);
	} finally {
		over.abort();
	}
}

/** The answer as a retry gets it again. Streams are not kept. */
export function storedReply(
	reply: FastifyReply,
	payload: Payload,
	receipt: AnyReceipt,
	maxBytes: number,
): StoredResponse {
	const headers = Object.entries(reply.getHeaders()).flatMap(([name, value]) =>
		value === undefined ? [] : [[name, Array.isArray(value) ? value.map(String) : String(value)] as const],
	);
	const bytes = isStream(payload) ? null : endsWithReceipt(reply) ? withEvent(payload, receipt) : bytesOf(payload);
	return storedResponse(reply.statusCode, headers, bytes, receipt, maxBytes);
}

function bytesOf(payload: WholePayload): Uint8Array {
	if (payload === undefined || payload === null) return new Uint8Array();
	return typeof payload === "string" ? Buffer.from(payload) : payload;
}
