import type { Admitted } from "../admission.ts";
import { receiptEvent } from "../eventStream.ts";
import type { AnyReceipt } from "../receipts.ts";
import type { StoredResponse } from "../store/store.ts";
import { EventCutter } from "./eventCutter.ts";
import { needEvent, pieceBytes } from "./events.ts";
import { type MeterControl, MeterStoppedError, type VoucherNeed } from "./meter.ts";
import { paidSoFar } from "./paidSoFar.ts";
import type { PieceSource } from "./source.ts";
import type { Tariff } from "./tariff.ts";

/** An admitted request that is paid by what it uses. */
export type AdmittedMetered = Admitted & Readonly<{ metered: MeterControl }>;

export function isMetered(admitted: Admitted): admitted is AdmittedMetered {
	return admitted.metered !== undefined;
}

export type MeteredBodyParts = Readonly<{
	/** The handler's answer, piece by piece. */
	source: PieceSource;
	admitted: AdmittedMetered;
	/** What a piece costs besides what the handler charges itself. */
	tariff: Tariff;
	/** Whether it is a stream of Server-Sent Events: then it says when it needs a voucher, and ends with its receipt. */
	isEventStream: boolean;
	/** The answer as a retry gets it: its body is not kept. */
	stored: (receipt: AnyReceipt) => StoredResponse;
	/** Hears of what the payment fails with. */
	onFault: (error: unknown) => void;
	/** Monotonic milliseconds. */
	clock?: () => number;
}>;

/** What leaves next. `mark`: of a piece, what was charged when it was made. */
type Step = Readonly<{ bytes: Uint8Array | undefined; mark?: bigint }>;

const END: Step = { bytes: undefined };

const NOTHING = new Uint8Array();

/**
 * The body of a metered answer, as any face takes it: each piece leaves when it is paid for, and is made when its reader
 * asks for it. Nothing is buffered but the piece in hand, so that a slow reader slows the meter. It fails, also while
 * nobody reads, where the meter stops before the handler's end: what has left by then is charged, nothing else.
 *
 * One `next` at a time.
 */
export class MeteredBody {
	/** What the whole answer was charged with, once it has ended well; for a trailer. `undefined` when it has not. */
	readonly receipt: Promise<AnyReceipt | undefined>;
	readonly #parts: MeteredBodyParts;
	readonly #clock: () => number;
	readonly #tellReceipt: (receipt: AnyReceipt | undefined) => void;
	readonly #cutter: EventCutter | undefined;
	readonly #stopNeeds: () => void;
	/** Paid for, but not asked for yet. */
	readonly #blocks: Step[] = [];
	#prepared: Step | undefined;
	#isMaking = false;
	/** The source has nothing more. */
	#isDry = false;
	/** To be said. */
	#need: VoucherNeed | undefined;
	/** Heard of last: a meter looks again whenever something happens on its channel. */
	#heard: VoucherNeed | undefined;
	#failure: Readonly<{ error: unknown; isDue: Promise<void> }> | undefined;
	/** Ends well, or has failed. */
	#isOver = false;
	#ending: Promise<unknown> = Promise.resolve();
	#wake: () => void = () => undefined;
	#onFailure: (error: unknown) => void = () => undefined;

	constructor(parts: MeteredBodyParts) {
		const { admitted, isEventStream, clock = () => performance.now() } = parts;
		const { metered } = admitted;
		this.#parts = parts;
		this.#clock = clock;
		this.#cutter = isEventStream ? new EventCutter() : undefined;
		const { promise, resolve } = Promise.withResolvers<AnyReceipt | undefined>();
		this.receipt = promise;
		this.#tellReceipt = resolve;
		this.#stopNeeds = metered.onNeed((need) => {
			if (this.#heard !== undefined && isSame(need, this.#heard)) return;
			this.#heard = need;
			this.#need = need;
			this.#wake();
		});
		const { signal } = metered.meter;
		if (signal.aborted) this.#fail(signal.reason);
		else signal.addEventListener("abort", this.#onStop);
	}

	/** Calls `listener` when the body fails, also while nobody reads, or where it has failed already. */
	onFailure(listener: (error: unknown) => void): void {
		this.#onFailure = listener;
		const failure = this.#failure;
		void failure?.isDue.then(() => listener(failure.error));
	}

	/**
	 * Resolves when there is something to send, or the answer has ended. Nothing has left then.
	 *
	 * @throws what the body fails with before that: it has cost nothing
	 */
	async begin(): Promise<void> {
		this.#prepared ??= await this.#step();
		this.throwIfFailed();
	}

	/** For whoever has waited after `begin`, before the head leaves. @throws what the body has failed with */
	throwIfFailed(): void {
		if (this.#failure !== undefined) throw this.#failure.error;
	}

	/**
	 * The next bytes, never none; `undefined` after the last ones.
	 *
	 * @throws what the handler or the payment fails with
	 */
	async next(): Promise<Uint8Array | undefined> {
		const { bytes, mark } = this.#prepared ?? (await this.#step());
		this.#prepared = undefined;
		if (this.#failure !== undefined) await this.#throw(this.#failure);
		if (mark !== undefined) this.#parts.admitted.metered.delivered(mark);
		return bytes;
	}

	/** The client has left, or never came: what it has got is charged. Resolves when that is written down. */
	async leave(): Promise<void> {
		if (!this.#isOver) this.#parts.admitted.metered.stop("left");
		await this.#ending;
	}

	async #step(): Promise<Step> {
		for (;;) {
			if (this.#failure !== undefined) return this.#throw(this.#failure);
			const block = this.#blocks.shift();
			if (block !== undefined) return block;
			if (this.#isDry) return this.#end();
			const need = this.#takeNeed();
			if (need !== undefined && this.#cutter !== undefined) return { bytes: needEvent(need) };
			const { promise, resolve } = Promise.withResolvers<void>();
			this.#wake = resolve;
			this.#make();
			await promise;
		}
	}

	/** The need that is to be said, if it has not been met while nobody read. */
	#takeNeed(): VoucherNeed | undefined {
		if (this.#need === undefined) return undefined;
		this.#need = undefined;
		this.#heard = this.#standingNeed();
		return this.#heard;
	}

	#standingNeed(): VoucherNeed | undefined {
		let standing: VoucherNeed | undefined;
		this.#parts.admitted.metered.onNeed((need) => {
			standing = need;
		})();
		return standing;
	}

	/** Has one more piece made, unless one is under way. */
	#make(): void {
		if (this.#isMaking) return;
		this.#isMaking = true;
		this.#makeOne().then(
			() => {
				this.#isMaking = false;
				this.#wake();
			},
			(error: unknown) => this.#fail(error),
		);
	}

	async #makeOne(): Promise<void> {
		const { source, tariff, admitted } = this.#parts;
		const { metered } = admitted;
		const startedAt = this.#clock();
		const { done, value } = await source.next();
		const bytes = done ? NOTHING : pieceBytes(value);
		// Also what the handler has charged and not waited for.
		const paid = source.paid?.() ?? paidSoFar(metered);
		await tariff(bytes.length, this.#clock() - startedAt);
		const before = await paid;
		const mark = metered.settings.per === undefined ? before : metered.mark();
		// Whatever was needed for it has come.
		if (this.#heard !== undefined && this.#standingNeed() === undefined) this.#heard = undefined;
		for (const block of this.#blocksOf(bytes, done === true)) {
			if (block.length > 0) this.#blocks.push({ bytes: block, mark });
		}
		this.#isDry = done === true;
	}

	#blocksOf(bytes: Uint8Array, isEnd: boolean): readonly Uint8Array[] {
		if (this.#cutter === undefined) return [bytes];
		return isEnd ? [this.#cutter.rest()] : this.#cutter.push(bytes);
	}

	async #end(): Promise<Step> {
		if (this.#isOver) return END;
		const { admitted, stored, isEventStream, onFault } = this.#parts;
		this.#over();
		const capturing = admitted.capture(stored).catch((error: unknown) => {
			onFault(error);
			return undefined;
		});
		this.#ending = capturing;
		const captured = await capturing;
		if (captured?.kind === "captured") {
			const { receipt } = captured;
			this.#tellReceipt(receipt);
			return isEventStream ? { bytes: receiptEvent(receipt) } : END;
		}
		this.#tellReceipt(undefined);
		const failure = this.#break(new MeterStoppedError(captured === undefined ? "failed" : "closed", captured?.problem));
		return this.#throw(failure);
	}

	#break(error: unknown) {
		const failure = { error, isDue: afterWrites() };
		this.#failure = failure;
		void failure.isDue.then(() => this.#onFailure(error));
		return failure;
	}

	async #throw({ error, isDue }: Readonly<{ error: unknown; isDue: Promise<void> }>): Promise<never> {
		await isDue;
		throw error;
	}

	readonly #onStop = () => this.#fail(this.#parts.admitted.metered.meter.signal.reason);

	#fail(error: unknown): void {
		if (this.#isOver) return;
		this.#over();
		const { admitted, source, onFault } = this.#parts;
		this.#break(error);
		source.cancel(error);
		this.#ending = admitted
			.release()
			.catch(onFault)
			.finally(() => this.#tellReceipt(undefined));
		this.#wake();
	}

	#over(): void {
		this.#isOver = true;
		this.#stopNeeds();
		this.#parts.admitted.metered.meter.signal.removeEventListener("abort", this.#onStop);
	}
}

/** Whoever closes the socket throws away what it still holds: what was handed over in this task has left it after that. */
function afterWrites(): Promise<void> {
	return new Promise((resolve) => setTimeout(resolve, 0));
}

function isSame(a: VoucherNeed, b: VoucherNeed): boolean {
	return (
		a.requiredCumulative === b.requiredCumulative &&
		a.acceptedCumulative === b.acceptedCumulative &&
		a.deposit === b.deposit
	);
}

/** For faces that take Web streams: a piece is made when it is read. */
export function webBody(body: MeteredBody): ReadableStream<Uint8Array<ArrayBuffer>> {
	return new ReadableStream<Uint8Array<ArrayBuffer>>(
		{
			start: (controller) => body.onFailure((error) => controller.error(error)),
			async pull(controller) {
				const bytes = await body.next();
				if (bytes === undefined) controller.close();
				else controller.enqueue(bytes as Uint8Array<ArrayBuffer>);
			},
			cancel: () => body.leave(),
		},
		{ highWaterMark: 0 },
	);
}
