import type { Admitted } from "../admission.ts";
import { receiptEvent } from "../eventStream.ts";
import type { AnyReceipt } from "../receipts.ts";
import type { StoredResponse } from "../store/store.ts";
import { needEvent } from "./events.ts";
import { Making } from "./making.ts";
import { type MeterControl, MeterStoppedError, type VoucherNeed } from "./meter.ts";
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

/** What leaves next. `mark`: of pieces, what was charged when the last of them was made. */
type Step = Readonly<{ bytes: Uint8Array | undefined; mark?: bigint }>;

const END: Step = { bytes: undefined };

/**
 * The body of a metered answer, as any face takes it: each piece leaves when it is paid for, and is made when its reader
 * asks for it. Nothing is buffered but what is in hand, so that a slow reader slows the meter. It fails, also while
 * nobody reads, where the meter stops before the handler's end: what has left by then is charged, nothing else.
 *
 * One `next` or `nextOfTurn` at a time.
 */
export class MeteredBody {
	/** What the whole answer was charged with, once it has ended well; for a trailer. `undefined` when it has not. */
	readonly receipt: Promise<AnyReceipt | undefined>;
	readonly #parts: MeteredBodyParts;
	readonly #making: Making;
	readonly #tellReceipt: (receipt: AnyReceipt | undefined) => void;
	readonly #stopNeeds: () => void;
	#prepared: Step | undefined;
	/** To be said. */
	#need: VoucherNeed | undefined;
	/** Heard of last: a meter looks again whenever something happens on its channel. */
	#heard: VoucherNeed | undefined;
	#failure: Readonly<{ error: unknown; isDue: Promise<void> }> | undefined;
	/** Ends well, or has failed. */
	#isOver = false;
	#ending: Promise<unknown> = Promise.resolve();
	/** Of who waits for the next step. */
	#wake: () => void = nothing;
	/** Who waits takes all that comes in one turn of the event loop, and when that is over. */
	#isOfTurn = false;
	#turn: NodeJS.Immediate | undefined;
	/** Resolves when whoever reads has taken what is there. */
	#taking: PromiseWithResolvers<void> | undefined;
	#isReading = false;
	#onFailure: (error: unknown) => void = nothing;

	constructor(parts: MeteredBodyParts) {
		const { source, admitted, tariff, isEventStream, clock = () => performance.now() } = parts;
		const { metered } = admitted;
		this.#parts = parts;
		this.#making = new Making({ source, metered, tariff, isEventStream, clock, onNews: () => this.#onNews() });
		const { promise, resolve } = Promise.withResolvers<AnyReceipt | undefined>();
		this.receipt = promise;
		this.#tellReceipt = resolve;
		this.#stopNeeds = metered.onNeed((need) => {
			if (this.#heard !== undefined && isSame(need, this.#heard)) return;
			this.#heard = need;
			this.#need = need;
			this.#wake();
		});
		metered.beforeBlock(() => this.#takenSoon());
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
	 * The next bytes, never none; `undefined` after the last ones. Of an event stream one event, of others one piece.
	 *
	 * @throws what the handler or the payment fails with
	 */
	next(): Promise<Uint8Array | undefined> {
		return this.#read(0);
	}

	/**
	 * The same, with what becomes ready in the same turn of the event loop: a write to a socket costs more than all the rest of
	 * a small event. A handler that waits for something lets go of what it has given.
	 *
	 * @param size Characters or bytes: no more pieces are asked for when there are so many.
	 * @throws what the handler or the payment fails with, when what was made before has been read
	 */
	nextOfTurn(size: number): Promise<Uint8Array | undefined> {
		return this.#read(size);
	}

	/** The client has left, or never came: what it has got is charged. Resolves when that is written down. */
	async leave(): Promise<void> {
		if (!this.#isOver) this.#parts.admitted.metered.stop("left");
		await this.#ending;
	}

	async #read(size: number): Promise<Uint8Array | undefined> {
		this.#isReading = true;
		const { bytes, mark } = this.#prepared ?? (await this.#step(size));
		this.#prepared = undefined;
		this.#isReading = false;
		const taking = this.#taking;
		this.#taking = undefined;
		if (this.#failure === undefined && mark !== undefined) this.#parts.admitted.metered.delivered(mark);
		taking?.resolve();
		if (this.#failure !== undefined) await this.#throw(this.#failure);
		return bytes;
	}

	/** @param size 0: one block; else all of a turn, until there is so much */
	async #step(size = 0): Promise<Step> {
		const making = this.#making;
		this.#isOfTurn = size > 0;
		let isOver = !this.#isOfTurn;
		for (;;) {
			// It may have failed in the same turn: then nothing of it leaves.
			if (this.#failure !== undefined) return this.#throw(this.#failure);
			const taken = isOver ? making.take(this.#isOfTurn) : undefined;
			if (taken !== undefined) return taken;
			if (making.failure !== undefined) {
				this.#fail(making.failure.error);
				continue;
			}
			if (making.isDry) return this.#end();
			const need = making.hasBlocks ? undefined : this.#takeNeed();
			if (need !== undefined && this.#parts.isEventStream) return { bytes: needEvent(need) };
			const { promise, resolve } = Promise.withResolvers<void>();
			this.#wake = resolve;
			making.want(size > 0 ? size : 1);
			// Made while nobody read.
			if (making.hasBlocks) this.#onBlocks();
			await promise;
			isOver = true;
		}
	}

	/** The turn is over when nothing more comes of itself, or when others are to have theirs. */
	#onBlocks(): void {
		if (!this.#isOfTurn || !this.#making.isAtWork) this.#wake();
		else this.#turn ??= setImmediate(this.#onTurn);
	}

	readonly #onTurn = () => {
		this.#turn = undefined;
		this.#wake();
	};

	/** What is made and about to be read is taken first; nobody waits for a reader who is not there. */
	#takenSoon(): Promise<void> | undefined {
		if (!this.#isReading || !this.#making.hasBlocks) return undefined;
		this.#taking ??= Promise.withResolvers<void>();
		this.#wake();
		return this.#taking.promise;
	}

	#onNews(): void {
		if (this.#isOver) return;
		const { failure } = this.#making;
		if (failure !== undefined) {
			this.#fail(failure.error);
			return;
		}
		// Whatever was needed for it has come.
		if (this.#heard !== undefined && this.#standingNeed() === undefined) this.#heard = undefined;
		this.#onBlocks();
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
		this.#taking?.resolve();
		this.#wake();
	}

	#over(): void {
		this.#isOver = true;
		this.#stopNeeds();
		this.#parts.admitted.metered.meter.signal.removeEventListener("abort", this.#onStop);
	}
}

const nothing = () => undefined;

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
/** Whoever gets it may look at all of its buffer, or take it away: in Node's pool other answers are in it too. */
function ownBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
	return bytes.byteLength === bytes.buffer.byteLength ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);
}

export function webBody(body: MeteredBody): ReadableStream<Uint8Array<ArrayBuffer>> {
	return new ReadableStream<Uint8Array<ArrayBuffer>>(
		{
			start: (controller) => body.onFailure((error) => controller.error(error)),
			async pull(controller) {
				const bytes = await body.next();
				if (bytes === undefined) controller.close();
				else controller.enqueue(ownBytes(bytes));
			},
			cancel: () => body.leave(),
		},
		{ highWaterMark: 0 },
	);
}
