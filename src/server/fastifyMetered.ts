/** Answers of metered routes: they are paid for while they leave. */
import { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { PAYMENT_RECEIPT } from "../protocol/index.ts";
import type { Refused } from "./admission.ts";
import { refusalAnswer, releaseQuietly } from "./answer.ts";
import type { PaymentEngine } from "./engine.ts";
import { isBodiless } from "./eventStream.ts";
import {
	assertSendableHead,
	clearHeaders,
	endsWithReceipt,
	isResponse,
	isStream,
	isWhole,
	setOwnAnswer,
	setReceipt,
	setReceiptHead,
	settlePayload,
	storedReply,
	takeHead,
	type WholePayload,
} from "./fastifyReply.ts";
import { asked, stateOf } from "./fastifyRequest.ts";
import { type AnyReceipt, receiptField } from "./receipts.ts";
import { openBody } from "./responseBody.ts";
import { type AdmittedMetered, MeteredBody } from "./stream/body.ts";
import { pieceBytes } from "./stream/events.ts";
import { lastly } from "./stream/lastly.ts";
import { MeterStoppedError } from "./stream/meter.ts";
import { endsAtOnce, onStop, stopOf, stopRefusal, untilStopped } from "./stream/meterStop.ts";
import { fromNode } from "./stream/nodeSource.ts";
import { paidSoFar } from "./stream/paidSoFar.ts";
import { fromPieces, fromReader, isPieces, type PieceSource } from "./stream/source.ts";
import { tariffOf } from "./stream/tariff.ts";

/** Lets the handler of a metered route answer with an async iterable, and gives its payment back where the meter stops first. */
export function meterReply(
	engine: PaymentEngine,
	request: FastifyRequest,
	reply: FastifyReply,
	admitted: AdmittedMetered,
): void {
	const state = stateOf(request);
	state.meteredSince = performance.now();
	const send: (payload?: unknown) => FastifyReply = reply.send.bind(reply);
	// Fastify would make JSON of it, before any hook sees it.
	reply.send = ((payload?: unknown) => {
		if (!isPieces(payload)) return send(payload);
		if (!reply.hasHeader("content-type")) reply.type("text/event-stream");
		state.pieces = new SourceStream(fromPieces(payload));
		return send(state.pieces);
	}) as typeof reply.send;
	const { signal } = admitted.metered.meter;
	signal.addEventListener("abort", () => {
		const stop = stopOf(admitted.metered);
		// Who takes its place waits for it, and its handler may go on for long.
		if (!state.answered && stop !== undefined && endsAtOnce(stop)) void releaseQuietly(engine, admitted);
	});
}

/** An answer on its way through other `onSend` hooks: a stream to whoever reads it, its pieces to us. */
class SourceStream extends Readable {
	readonly source: PieceSource;

	constructor(source: PieceSource) {
		super({ highWaterMark: 0 });
		this.source = source;
	}

	override _read(): void {
		this.#read().then(
			(bytes) => void this.push(bytes),
			(error: Error) => void this.destroy(error),
		);
	}

	async #read(): Promise<Uint8Array | null> {
		for (;;) {
			const { done, value } = await this.source.next();
			if (done) return null;
			const bytes = pieceBytes(value);
			if (bytes.length > 0) return bytes;
		}
	}

	override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
		this.source.cancel(error);
		done(error);
	}
}

/** What the last `onSend` hook does with an answer of a metered route. */
export async function settleMetered(
	engine: PaymentEngine,
	request: FastifyRequest,
	reply: FastifyReply,
	sent: unknown,
	admitted: AdmittedMetered,
): Promise<unknown> {
	const { offers = [], meteredSince = 0 } = stateOf(request);
	const refuse = (refusal: Refused) => {
		clearHeaders(reply);
		return setOwnAnswer(reply, refusalAnswer(engine, offers, refusal, asked(request)));
	};
	/** Nothing is delivered, nothing costs. */
	const giveUp = async (error: unknown) => {
		discard(request, sent);
		await releaseQuietly(engine, admitted);
		if (!(error instanceof MeterStoppedError)) throw error;
		if (error.why === "left" || error.why === "ended") return "";
		return refuse(stopRefusal(error) ?? engine.refusalFor(error));
	};
	const stop = isGone(request, reply) ? new MeterStoppedError("left") : stopOf(admitted.metered);
	if (stop !== undefined && (endsAtOnce(stop) || stop.why === "ended")) return giveUp(stop);
	try {
		const opened = await openAnswer(engine, reply, sent, admitted);
		if (opened.kind === "withdrawn") return await giveUp(stopOf(admitted.metered) ?? new MeterStoppedError("left"));
		if (opened.kind === "failed") {
			if (stop !== undefined && reply.statusCode >= 500) return await giveUp(stop);
			const { payload } = opened;
			const release = () => releaseQuietly(engine, admitted);
			// What feeds it may live as long as the meter.
			if (isStream(payload)) {
				onStop(admitted.metered, release);
				return new SourceStream(lastly(fromNode(payload), release));
			}
			await release();
			return payload;
		}
		const tariff = tariffOf(admitted.metered);
		const workedMs = performance.now() - meteredSince;
		if (opened.kind === "stream") {
			await tariff(0, workedMs);
			return await sendMetered(engine, request, reply, opened.source, { admitted, tariff });
		}
		const { payload } = opened;
		await tariff(Buffer.byteLength(payload ?? ""), workedMs);
		// Who has answered after a stop knows what is not paid for; who has not waited does not.
		if (stop === undefined) await admitted.metered.settled();
		const captured = await admitted
			.capture((receipt) => storedReply(reply, payload, receipt, engine.limits.maxReplayBytes))
			.catch((error: unknown) => engine.refusalFor(error));
		return captured.kind === "captured" ? setReceipt(reply, payload, captured.receipt) : refuse(captured);
	} catch (error) {
		return giveUp(error);
	}
}

type OpenedAnswer =
	| Readonly<{ kind: "whole"; payload: WholePayload }>
	| Readonly<{ kind: "stream"; source: PieceSource }>
	/** An answer from 400 on. */
	| Readonly<{ kind: "failed"; payload: unknown }>
	| Readonly<{ kind: "withdrawn" }>;

/** @throws what keeps the answer from being sent, or what it fails with before it begins */
async function openAnswer(
	{ limits }: PaymentEngine,
	reply: FastifyReply,
	sent: unknown,
	{ metered }: AdmittedMetered,
): Promise<OpenedAnswer> {
	if (isResponse(sent)) takeHead(reply, sent);
	const body = isResponse(sent) ? (sent.body ?? "") : sent;
	if (reply.statusCode >= 400) return { kind: "failed", payload: settlePayload(reply, body) };
	assertSendableHead(reply);
	if (isWhole(body)) return { kind: "whole", payload: body };
	if (isBodiless(reply.statusCode)) {
		await cancel(body);
		return { kind: "whole", payload: undefined };
	}
	if (body instanceof SourceStream) return { kind: "stream", source: body.source };
	// What is there at once is charged before its head leaves; events leave one by one in any case.
	if (isResponse(sent) && !endsWithReceipt(reply)) {
		const left = new AbortController();
		const leave = () => left.abort();
		reply.raw.once("close", leave);
		const opened = await openBody(sent, untilStopped(metered, left.signal), limits.maxReplayBytes, 2).finally(() =>
			reply.raw.off("close", leave),
		);
		if (opened.kind === "withdrawn") return opened;
		if (opened.kind === "whole") return { kind: "whole", payload: Buffer.from(opened.bytes) };
		return { kind: "stream", source: fromReader(opened.stream) };
	}
	if (typeof (body as Partial<ReadableStream>).getReader === "function") {
		return { kind: "stream", source: fromReader(body as ReadableStream) };
	}
	const stream = settlePayload(reply, body);
	return isStream(stream)
		? { kind: "stream", source: fromNode(stream, () => paidSoFar(metered)) }
		: { kind: "whole", payload: stream };
}

/** Sends the head of an answer whose first piece is there, and the pieces as they are paid for. */
async function sendMetered(
	engine: PaymentEngine,
	request: FastifyRequest,
	reply: FastifyReply,
	source: PieceSource,
	{ admitted, tariff }: Pick<ConstructorParameters<typeof MeteredBody>[0], "admitted" | "tariff">,
): Promise<Readable> {
	const { pieces } = stateOf(request);
	const isEventStream = endsWithReceipt(reply);
	const cancel = (reason: unknown) => {
		source.cancel(reason);
		// Where a hook has piped it into something else, that may not let go of it.
		pieces?.destroy();
	};
	const body = new MeteredBody({
		source: { ...source, cancel },
		admitted,
		tariff,
		isEventStream,
		stored: (receipt) => storedReply(reply, stream, receipt, engine.limits.maxReplayBytes),
		onFault: (error) => void engine.refusalFor(error),
	});
	const stream = nodeBody(body);
	const leave = () => void body.leave();
	reply.raw.once("close", leave);
	try {
		await body.begin();
		const receipt = await admitted.receipt?.();
		body.throwIfFailed();
		if (receipt !== undefined) setReceiptHead(reply, receipt);
	} catch (error) {
		await body.leave();
		throw error;
	} finally {
		reply.raw.off("close", leave);
	}
	if (!isEventStream && takesTrailers(request)) {
		// It is framed by chunks then.
		reply.removeHeader("content-length");
		reply.trailer(PAYMENT_RECEIPT, async () => {
			const receipt: AnyReceipt | undefined = await body.receipt;
			return receipt === undefined ? "" : receiptField(receipt);
		});
	}
	return stream;
}

/** How much of one answer is written at a time, about: what other streams wait for. */
const TURN_BYTES = 16_384;

/** As a Node stream that reads nothing ahead. */
function nodeBody(body: MeteredBody): Readable {
	const stream = new Readable({
		highWaterMark: 0,
		read() {
			body.nextOfTurn(TURN_BYTES).then(
				(bytes) => void this.push(bytes ?? null),
				(error: Error) => void this.destroy(error),
			);
		},
		destroy(error, done) {
			void body.leave();
			done(error);
		},
	});
	// It may fail before Fastify listens.
	stream.on("error", () => undefined);
	body.onFailure((error) => void stream.destroy(error as Error));
	return stream;
}

/** Whether the client keeps what comes after the last chunk (draft-evm-session-00, Receipt Generation). */
function takesTrailers({ headers, raw }: FastifyRequest): boolean {
	// An HTTP/1.0 client knows no chunks.
	if (raw.httpVersionMajor === 1 && raw.httpVersionMinor === 0) return false;
	return String(headers.te ?? "")
		.split(",")
		.some((coding) => /^\s*trailers\s*(;|$)/i.test(coding));
}

function isGone({ raw }: FastifyRequest, { raw: answer }: FastifyReply): boolean {
	const { stream } = answer as Readonly<{ stream?: Readonly<{ destroyed?: boolean }> }>;
	return raw.socket?.destroyed === true || answer.destroyed || answer.closed || stream?.destroyed === true;
}

/** Nobody reads it: whoever feeds it may stop. */
function discard(request: FastifyRequest, sent: unknown): void {
	stateOf(request).pieces?.destroy();
	void cancel(isResponse(sent) ? sent.body : sent).catch(() => undefined);
}

async function cancel(body: unknown): Promise<void> {
	if (typeof body !== "object" || body === null) return;
	const { destroy, cancel } = body as Readonly<{ destroy?: unknown; cancel?: unknown }>;
	if (typeof destroy === "function") destroy.call(body);
	else if (typeof cancel === "function") await cancel.call(body);
}
