/** Answers of metered prices: they are paid for while they leave. */
import type { Refused } from "./admission.ts";
import { releaseQuietly, storedResponse } from "./answer.ts";
import type { PaymentEngine } from "./engine.ts";
import { isBodiless } from "./eventStream.ts";
import { assertSendable, endsWithReceipt, paidResponse, withdrawn, withEvent } from "./fetchResponse.ts";
import type { AnyReceipt } from "./receipts.ts";
import { openBody, remember } from "./responseBody.ts";
import { type AdmittedMetered, MeteredBody, webBody } from "./stream/body.ts";
import type { Piece } from "./stream/events.ts";
import { lastly } from "./stream/lastly.ts";
import { MeterStoppedError } from "./stream/meter.ts";
import { endsAtOnce, onStop, stopOf, stopRefusal, untilStopped } from "./stream/meterStop.ts";
import { fromPieces, fromReader, isPieces, type PieceSource } from "./stream/source.ts";
import { tariffOf } from "./stream/tariff.ts";

/** Runs the handler of a metered price, and takes the payment as its answer leaves, or gives it back. */
export async function deliverMetered(
	engine: PaymentEngine,
	admitted: AdmittedMetered,
	signal: AbortSignal,
	serve: () => Response | AsyncIterable<Piece> | Promise<Response | AsyncIterable<Piece>>,
): Promise<Response | Refused> {
	const { metered } = admitted;
	const startedAt = performance.now();
	let isAnswered = false;
	let served: Response | AsyncIterable<Piece> | undefined;
	// The client may leave at any time.
	const leave = () => metered.stop("left");
	signal.addEventListener("abort", leave);
	metered.meter.signal.addEventListener("abort", () => {
		const stop = stopOf(metered);
		// Who takes its place waits for it, and its handler may go on for long.
		if (!isAnswered && stop !== undefined && endsAtOnce(stop)) void releaseQuietly(engine, admitted);
	});
	/** Nothing is delivered, nothing costs. */
	const giveUp = async (error: unknown): Promise<Response | Refused> => {
		isAnswered = true;
		signal.removeEventListener("abort", leave);
		discard(served);
		await releaseQuietly(engine, admitted);
		if (!(error instanceof MeterStoppedError)) throw error;
		if (error.why === "left" || error.why === "ended") return withdrawn();
		return stopRefusal(error) ?? engine.refusalFor(error);
	};
	if (signal.aborted) return giveUp(new MeterStoppedError("left"));
	try {
		served = await serve();
	} catch (error) {
		// A handler that fails because nobody pays has no part in it.
		return giveUp(stopOf(metered) ?? error);
	}
	isAnswered = true;
	const stop = stopOf(metered);
	if (stop !== undefined && (endsAtOnce(stop) || stop.why === "ended")) return giveUp(stop);
	try {
		const head = isPieces(served) ? new Response(null, { headers: { "content-type": "text/event-stream" } }) : served;
		assertSendable(head);
		if (head.status >= 400) {
			if (stop !== undefined && head.status >= 500) return await giveUp(stop);
			const release = async () => {
				signal.removeEventListener("abort", leave);
				await releaseQuietly(engine, admitted);
			};
			// What feeds its body may live as long as the meter.
			if (head.body !== null) {
				onStop(metered, () => void release());
				return new Response(webSource(lastly(fromReader(head.body), release)), head);
			}
			await release();
			return head;
		}
		const opened = isPieces(served)
			? ({ kind: "source", source: fromPieces(served) } as const)
			: await openResponse(engine, head, untilStopped(metered, signal));
		if (opened.kind === "withdrawn") return await giveUp(stopOf(metered) ?? new MeterStoppedError("left"));
		const stored = (receipt: AnyReceipt) => {
			const bytes = opened.kind === "whole" ? withEvent(head, opened.bytes, receipt) : null;
			return storedResponse(head.status, remember(head.headers), bytes, receipt, engine.limits.maxReplayBytes);
		};
		const tariff = tariffOf(metered);
		const workedMs = performance.now() - startedAt;
		if (opened.kind === "source") {
			await tariff(0, workedMs);
			const onFault = (error: unknown) => void engine.refusalFor(error);
			const isEventStream = endsWithReceipt(head);
			const body = new MeteredBody({ source: opened.source, admitted, tariff, isEventStream, stored, onFault });
			// It hears of the client through the meter until it is over.
			void body.receipt.then(() => signal.removeEventListener("abort", leave));
			await body.begin();
			const receipt = await admitted.receipt?.();
			body.throwIfFailed();
			return paidResponse(head, webBody(body), receipt);
		}
		await tariff(opened.bytes.length, workedMs);
		// Who has answered after a stop knows what is not paid for; who has not waited does not.
		if (stop === undefined) await metered.settled();
		signal.removeEventListener("abort", leave);
		const captured = await admitted.capture(stored).catch((error: unknown) => engine.refusalFor(error));
		if (captured.kind !== "captured") return captured;
		return paidResponse(head, withEvent(head, opened.bytes, captured.receipt), captured.receipt);
	} catch (error) {
		return giveUp(error);
	}
}

type OpenedResponse =
	| Readonly<{ kind: "whole"; bytes: Uint8Array<ArrayBuffer> }>
	| Readonly<{ kind: "source"; source: PieceSource }>
	| Readonly<{ kind: "withdrawn" }>;

/** What is there at once is charged before its head leaves; events leave one by one in any case. */
async function openResponse(
	{ limits }: PaymentEngine,
	response: Response,
	signal: AbortSignal,
): Promise<OpenedResponse> {
	const { body, status } = response;
	if (body !== null && endsWithReceipt(response)) return { kind: "source", source: fromReader(body) };
	if (isBodiless(status)) {
		await body?.cancel();
		return { kind: "whole", bytes: new Uint8Array() };
	}
	const opened = await openBody(response, signal, limits.maxReplayBytes, 2);
	return opened.kind === "stream" ? { kind: "source", source: fromReader(opened.stream) } : opened;
}

function webSource({ next, cancel }: PieceSource): ReadableStream<Uint8Array<ArrayBuffer>> {
	return new ReadableStream<Uint8Array<ArrayBuffer>>(
		{
			async pull(controller) {
				const { done, value } = await next();
				if (done) controller.close();
				else controller.enqueue(value as Uint8Array<ArrayBuffer>);
			},
			cancel,
		},
		{ highWaterMark: 0 },
	);
}

/** Nobody reads it: whoever feeds it may stop. */
function discard(served: Response | AsyncIterable<Piece> | undefined): void {
	if (isPieces(served)) fromPieces(served).cancel(undefined);
	else void served?.body?.cancel().catch(() => undefined);
}
