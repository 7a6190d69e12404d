import type { Admitted } from "../admission.ts";
import { receiptEvent } from "../eventStream.ts";
import type { AnyReceipt } from "../receipts.ts";
import type { StoredResponse } from "../store/store.ts";
import { needEvent, type Piece, pieceBytes } from "./events.ts";
import { type MeterControl, MeterStoppedError, type VoucherNeed } from "./meter.ts";

export type MeteredBodyParts = Readonly<{
	/** The handler's answer, piece by piece. */
	source: AsyncIterable<Piece>;
	admitted: Admitted & Readonly<{ metered: MeterControl }>;
	/** Whether it is a stream of Server-Sent Events: then it says when it needs a voucher, and ends with its receipt. */
	isEventStream: boolean;
	/** The answer as a retry gets it: its body is not kept. */
	stored: (receipt: AnyReceipt) => StoredResponse;
	/** Hears of what the payment fails with. */
	onFault: (error: unknown) => void;
	/** Unix milliseconds. */
	now: () => number;
}>;

export type MeteredBody = Readonly<{
	stream: ReadableStream<Uint8Array>;
	/** What the whole answer was charged with, once it has ended well; for a trailer. `undefined` when it has not. */
	receipt: Promise<AnyReceipt | undefined>;
}>;

/**
 * The body of a metered answer: each piece leaves when it is paid for, and is made when its reader asks for it. Nothing is
 * buffered but the piece in hand, so that a slow reader slows the meter. It fails where the meter stops before the
 * handler's end: what has left by then is charged, nothing else.
 */
export function meteredBody(parts: MeteredBodyParts): MeteredBody {
	const { admitted, isEventStream, stored, onFault } = parts;
	const { metered } = admitted;
	const { promise: receipt, resolve: tellReceipt } = Promise.withResolvers<AnyReceipt | undefined>();
	const pieces = paidPieces(parts);
	let pending: Promise<IteratorResult<Piece, unknown>> | undefined;
	let need: VoucherNeed | undefined;
	let wake: () => void = () => undefined;
	const stopNeeds = metered.onNeed((latest) => {
		need = latest;
		wake();
	});

	const end = async (work: () => Promise<AnyReceipt | undefined>) => {
		stopNeeds();
		let taken: AnyReceipt | undefined;
		try {
			taken = await work();
			return taken;
		} catch (error) {
			onFault(error);
			return undefined;
		} finally {
			tellReceipt(taken);
		}
	};
	const abandon = () => {
		// It may hang in its handler: nobody waits for that.
		void pieces.return(undefined).catch(() => undefined);
		return end(async () => {
			await admitted.release();
			return undefined;
		});
	};

	const stream = new ReadableStream<Uint8Array>(
		{
			async pull(controller) {
				for (;;) {
					if (need !== undefined) {
						const event = needEvent(need);
						need = undefined;
						if (isEventStream) return controller.enqueue(event);
					}
					const { promise: woken, resolve } = Promise.withResolvers<"woken">();
					wake = () => resolve("woken");
					if (need !== undefined) continue;
					pending ??= pieces.next();
					let next: IteratorResult<Piece, unknown> | "woken";
					try {
						next = await orStopped(metered.meter.signal, Promise.race([pending, woken]));
					} catch (error) {
						await abandon();
						return controller.error(error);
					}
					if (next === "woken") continue;
					pending = undefined;
					if (!next.done) {
						const bytes = pieceBytes(next.value);
						metered.delivered();
						if (bytes.length === 0) continue;
						return controller.enqueue(bytes);
					}
					const taken = await end(async () => {
						const captured = await admitted.capture(stored);
						return captured.kind === "captured" ? captured.receipt : undefined;
					});
					if (taken === undefined) return controller.error(new MeterStoppedError("failed"));
					if (isEventStream) controller.enqueue(receiptEvent(taken));
					return controller.close();
				}
			},
			async cancel() {
				metered.stop("left");
				await abandon();
			},
		},
		{ highWaterMark: 0 },
	);
	return { stream, receipt };
}

/** The handler's pieces, each after it was charged where the route says what one costs. */
async function* paidPieces({ source, admitted, now }: MeteredBodyParts): AsyncGenerator<Piece, void, undefined> {
	const { meter, settings } = admitted.metered;
	const startedAt = now();
	let seconds = 0n;
	for await (const piece of source) {
		if (settings.per === "piece") await meter.charge(1n);
		if (settings.per === "byte") await meter.charge(pieceBytes(piece).length);
		if (settings.per === "second") {
			// The second that has begun is paid as well.
			const begun = BigInt(Math.floor((now() - startedAt) / 1_000)) + 1n;
			if (begun > seconds) await meter.charge(begun - seconds);
			seconds = begun;
		}
		yield piece;
	}
}

/** What `promise` says, or why the meter has stopped, whichever is first. */
async function orStopped<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
	const { promise: stopped, reject } = Promise.withResolvers<never>();
	const onAbort = () => reject(signal.reason);
	if (signal.aborted) onAbort();
	signal.addEventListener("abort", onAbort);
	try {
		return await Promise.race([promise, stopped]);
	} finally {
		signal.removeEventListener("abort", onAbort);
	}
}
