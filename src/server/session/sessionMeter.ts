import type { Hex } from "viem";
import { type Problem, problem } from "../../protocol/index.ts";
import { available, type Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent, type Effect, type Reservation, requiredCumulative } from "../ledger.ts";
import { insufficientProblem } from "../refusals.ts";
import type { Turn } from "../store/store.ts";
import {
	type Meter,
	type MeterControl,
	type MeterSettings,
	type MeterStop,
	MeterStoppedError,
	type VoucherNeed,
} from "../stream/meter.ts";
import { blockToReserve } from "./block.ts";
import { withoutTheGone } from "./current.ts";

export type SessionMeterParts = Readonly<{
	context: Pick<EngineContext, "store" | "wakes" | "chainState" | "onEffects" | "now">;
	channelId: Hex;
	/** Base units. */
	unitPrice: bigint;
	minVoucherDelta: bigint;
	settings: MeterSettings;
	/** What the request has reserved when it was admitted. */
	reservation: Reservation;
}>;

/** What is left to be captured of a meter that has ended. */
export type MeterRest = Readonly<{
	reservation: Reservation;
	/** Of the reservation, what is charged. Base units. */
	used: bigint;
	/** All that was charged in the life of the meter, `used` included. */
	total: bigint;
	units: bigint;
}>;

/**
 * Meters one request on a channel. Units are reserved in blocks: a charge within the block costs nothing but an addition,
 * the next block's reservation captures the last one in the same turn. What a crash finds reserved was never captured, so
 * that the payer is at most one block ahead (draft-evm-session-00, Cost Calculation; Crash Safety).
 */
export class SessionMeter implements MeterControl {
	readonly settings: MeterSettings;
	readonly meter: Meter;
	readonly #parts: SessionMeterParts;
	readonly #ended = new AbortController();
	readonly #listeners = new Set<(need: VoucherNeed) => void>();
	#reservation: Reservation;
	/** Of the reservation: charged, without `#fresh`, and of that what has left. Base units. */
	#charged = 0n;
	#delivered = 0n;
	/** Captured by earlier blocks, base units. */
	#captured = 0n;
	#units = 0n;
	/** Units that were charged since `#charged` and `#units` were last brought up to date. */
	#fresh = 0;
	/** How many more units the reservation has room for; below 0 where a charge has to wait or fails, whatever it costs. */
	#room = CLOSED;
	/** Charges wait for each other from the first one that needs another block. */
	#queue: Promise<void> | undefined;
	/** Charges in the queue, and their cost. */
	#waiting = 0;
	#waitingCost = 0n;
	/** A charge that was none: what it was for has not been paid. */
	#refused: UnitsError | undefined;
	#need: VoucherNeed | undefined;
	#stopped: MeterStoppedError | undefined;
	#beforeBlock: () => Promise<void> | undefined = () => undefined;

	constructor(parts: SessionMeterParts) {
		const { settings, unitPrice, reservation } = parts;
		this.#parts = parts;
		this.settings = settings;
		this.#reservation = reservation;
		this.#makeRoom();
		const unitsSoFar = () => this.#units + BigInt(this.#fresh);
		this.meter = {
			unitPrice,
			signal: this.#ended.signal,
			charge: (units = 1n) => this.#charge(units),
			get units() {
				return unitsSoFar();
			},
		};
	}

	onNeed(listener: (need: VoucherNeed) => void): () => void {
		this.#listeners.add(listener);
		if (this.#need !== undefined) listener(this.#need);
		return () => void this.#listeners.delete(listener);
	}

	beforeBlock(wait: () => Promise<void> | undefined): void {
		this.#beforeBlock = wait;
	}

	settled(): Promise<void> | undefined {
		const error = this.#stopped ?? this.#refused;
		return error === undefined ? this.#queue : rejected(error);
	}

	mark(): bigint {
		this.#countFresh();
		return this.#captured + this.#charged + this.#waitingCost;
	}

	delivered(mark = this.mark()): void {
		this.#countFresh();
		const left = mark - this.#captured;
		if (left > this.#delivered) this.#delivered = left < this.#charged ? left : this.#charged;
	}

	stop(why: MeterStop, problem?: Problem): void {
		if (this.#stopped !== undefined) return;
		this.#stopped = new MeterStoppedError(why, problem);
		this.#countFresh();
		this.#room = CLOSED;
		this.#ended.abort(this.#stopped);
	}

	/**
	 * Ends the meter and says what is to be captured of it.
	 *
	 * @param isComplete The answer has ended well: what was charged last is charged, also where no piece followed it.
	 */
	async end(isComplete: boolean): Promise<MeterRest> {
		this.stop("ended");
		await this.#queue?.catch(() => undefined);
		this.#listeners.clear();
		const used = isComplete ? this.#charged : this.#delivered;
		const total = this.#captured + used;
		return { reservation: this.#reservation, used, total, units: total / this.#parts.unitPrice };
	}

	#charge(units: number | bigint): Promise<void> {
		// Nearly every charge is this one: numbers only, which is a third of a microsecond less than big integers.
		if (typeof units === "number" && units >= 0 && units <= this.#room && Number.isInteger(units)) {
			this.#room -= units;
			this.#fresh += units;
			return DONE;
		}
		if (this.#stopped !== undefined) return rejected(this.#stopped);
		if (units < 0 || (typeof units === "number" && !Number.isSafeInteger(units))) return this.#refuse(units);
		if (this.#waiting >= MAX_WAITING) return this.#refuse(units, "wait for the charges before");
		const cost = BigInt(units) * this.#parts.unitPrice;
		if (this.#queue === undefined && this.#take(cost)) {
			this.#makeRoom();
			return DONE;
		}
		this.#waiting++;
		this.#waitingCost += cost;
		// Who comes later waits for it, also where there is room.
		this.#countFresh();
		this.#room = CLOSED;
		const charging = (this.#queue ?? DONE).catch(() => undefined).then(() => this.#chargeInTurn(cost));
		const queue = charging.finally(() => {
			this.#waiting--;
			if (this.#queue !== queue) return;
			this.#queue = undefined;
			this.#makeRoom();
		});
		this.#queue = queue;
		// A handler that does not wait for its charge must not bring the process down.
		queue.catch(() => undefined);
		charging.catch(() => undefined);
		return charging;
	}

	#refuse(...refusal: ConstructorParameters<typeof UnitsError>): Promise<never> {
		this.#refused = new UnitsError(...refusal);
		return rejected(this.#refused);
	}

	async #chargeInTurn(cost: bigint): Promise<void> {
		const { wakes } = this.#parts.context;
		const { channelId } = this.#parts;
		let stallsAt: number | undefined;
		for (;;) {
			// Refused is refused, whatever has become free meanwhile.
			if (this.#stopped !== undefined) throw this.#stopped;
			if (this.#take(cost)) {
				this.#waitingCost -= cost;
				return;
			}
			// Listens first: what comes while the store is asked is not missed.
			const { promise: woken, resolve: wake } = Promise.withResolvers<void>();
			const stopListening = wakes.listen(channelId, wake);
			try {
				if (await this.#nextBlock(cost)) continue;
				// From its first wait on: a voucher that does not bring enough is no reason to wait longer.
				stallsAt ??= performance.now() + this.settings.stallMs;
				await this.#orStopped(woken, stallsAt);
			} finally {
				stopListening();
			}
		}
	}

	/** Nobody waits: what fits into the reservation may be charged at once. */
	#makeRoom(): void {
		if (this.#stopped !== undefined) return;
		const room = (this.#reservation.amount - this.#charged) / this.#parts.unitPrice;
		this.#room = Math.min(Number(room), Number.MAX_SAFE_INTEGER);
	}

	#countFresh(): void {
		if (this.#fresh === 0) return;
		const fresh = BigInt(this.#fresh);
		this.#fresh = 0;
		this.#units += fresh;
		this.#charged += fresh * this.#parts.unitPrice;
	}

	#take(cost: bigint): boolean {
		this.#countFresh();
		if (this.#charged + cost > this.#reservation.amount) return false;
		this.#charged += cost;
		this.#units += cost / this.#parts.unitPrice;
		return true;
	}

	/** Captures what was delivered and reserves the next block, which is on disk when this resolves; false when there is too little. */
	async #nextBlock(cost: bigint): Promise<boolean> {
		const { context, channelId } = this.#parts;
		const { store } = context;
		const leaving = this.#beforeBlock();
		if (leaving !== undefined) await leaving;
		await this.#ensureFresh();
		const { value, durable } = await store
			.transact({ channel: channelId }, ({ channel }) => this.#swap(channel, cost))
			.catch((error: unknown) => this.#fail(error));
		if ("problem" in value) {
			this.stop("closed", value.problem);
			throw this.#stopped;
		}
		// More may have left since the turn ran: that belongs to the next block.
		const { used } = value;
		this.#captured += used;
		this.#charged -= used;
		this.#delivered -= used;
		this.#reservation = value.reservation;
		await durable.catch((error: unknown) => this.#fail(error));
		context.onEffects(value.channel, value.effects);
		this.#need = value.need;
		if (value.need !== undefined) for (const listener of this.#listeners) listener(value.need);
		return value.need === undefined;
	}

	/** No more is sold on a channel than was known of it lately (D2, I10). */
	async #ensureFresh(): Promise<void> {
		const { context, channelId } = this.#parts;
		try {
			const channel = await context.store.channel(channelId);
			if (channel !== undefined) await context.chainState.ensureFresh(channel);
		} catch (error) {
			const detail = "The chain can't be asked right now: the answer has ended with what was paid for.";
			this.stop("failed", problem("service-unavailable", detail, { channelId }));
			throw error;
		}
	}

	#swap(stored: Channel | undefined, cost: bigint): Turn<Swapped> {
		const { context, unitPrice, minVoucherDelta, settings } = this.#parts;
		const { store } = context;
		const at = context.now();
		const used = this.#delivered;
		const captured = applyEvent(
			withoutTheGone(stored, store, at),
			{ type: "capture", reservation: this.#reservation, used },
			at,
		);
		if (!captured.ok) return { value: { problem: captured.problem } };
		const pending = this.#charged - used;
		const least = pending + cost;
		const covered = available(captured.channel) >= least;
		const wanted = pending + settings.blockUnits * unitPrice;
		const amount = covered ? blockToReserve(available(captured.channel), { unitPrice, wanted, least }) : pending;
		const held = applyEvent(captured.channel, { type: "extend", owner: store.owner, amount }, at);
		if (!held.ok) {
			// The channel sells no more: what has left stays captured.
			return { value: { problem: held.problem } };
		}
		const { channel } = held;
		const { channelId, acceptedCumulative, deposit } = channel;
		const need = covered
			? undefined
			: {
					channelId,
					requiredCumulative: requiredCumulative(channel, cost, minVoucherDelta),
					acceptedCumulative,
					deposit,
				};
		const reservation = { owner: store.owner, generation: channel.generation, amount };
		return { value: { channel, used, reservation, need, effects: captured.effects }, writes: { channel } };
	}

	#fail(error: unknown): never {
		this.stop("failed");
		throw error;
	}

	/** Waits for the next voucher, but not longer than a payer may stall. */
	async #orStopped(woken: Promise<void>, stallsAt: number): Promise<void> {
		const { signal } = this.#ended;
		const { promise: over, resolve: end } = Promise.withResolvers<void>();
		const timer = setTimeout(() => {
			const need = this.#need;
			const detail = "No voucher came in time: the stream has ended with what was paid for.";
			this.stop("stalled", need && insufficientProblem(need, need.requiredCumulative, detail));
		}, stallsAt - performance.now());
		const onAbort = () => end();
		signal.addEventListener("abort", onAbort);
		if (signal.aborted) end();
		try {
			await Promise.race([woken, over]);
		} finally {
			clearTimeout(timer);
			signal.removeEventListener("abort", onAbort);
		}
	}
}

const DONE: Promise<void> = Promise.resolve();

const CLOSED = -1;

/** How many charges may wait at a time: of a handler that does not wait for them. */
const MAX_WAITING = 4_096;

/** What was to be charged is no number of units, or comes too fast. */
export class UnitsError extends RangeError {
	override readonly name = "UnitsError";
	readonly code = "UNITS";
	constructor(units: number | bigint, hint = "a whole number from 0 on, please") {
		super(`${units} units can't be charged: ${hint}`);
	}
}

function rejected(error: Error): Promise<never> {
	const rejection = Promise.reject(error);
	rejection.catch(() => undefined);
	return rejection;
}

type Swapped =
	| Readonly<{ problem: Problem }>
	| Readonly<{
			channel: Channel;
			/** What the turn captured. */
			used: bigint;
			reservation: Reservation;
			need: VoucherNeed | undefined;
			effects: readonly Effect[];
	  }>;
