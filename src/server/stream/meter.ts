import type { Hex } from "viem";
import type { Problem } from "../../protocol/index.ts";

/** What the next voucher has to say (draft-evm-session-00, Insufficient Balance During Streaming). Amounts in base units. */
export type VoucherNeed = Readonly<{
	channelId: Hex;
	/** The least the next voucher has to say. Above `deposit` the channel has to be topped up first. */
	requiredCumulative: bigint;
	acceptedCumulative: bigint;
	deposit: bigint;
}>;

/**
 * Counts what a handler delivers. Say what the next piece costs, wait, then let go of the piece: a payer is never ahead or
 * behind by more than a block.
 *
 * @example
 * app.get("/chat", { config: { payment: { price: "100", unitType: "token", metered: true } } }, async function* ({ payment }) {
 *   for await (const token of model) {
 *     await payment.meter.charge(1);
 *     yield { data: token };
 *   }
 * });
 */
export interface Meter {
	/**
	 * Resolves when `units` more are paid for, or promised to be; waits for a voucher where there is none.
	 *
	 * @param units A whole number from 0 on.
	 * @throws MeterStoppedError when they won't be paid: the payer has left, has stalled for too long, or a new stream has
	 * taken this one's place. What was delivered is charged, the rest is not.
	 */
	charge(units?: number | bigint): Promise<void>;
	/** What one unit costs, in base units. */
	readonly unitPrice: bigint;
	/** All units charged so far. */
	readonly units: bigint;
	/** Aborts when nothing more can be charged: for whatever feeds the handler. */
	readonly signal: AbortSignal;
}

/** Why a meter has stopped. */
export type MeterStop = "left" | "stalled" | "replaced" | "closed" | "ended" | "failed";

/** Nothing more is paid for on this meter; what was delivered is. */
export class MeterStoppedError extends Error {
	override readonly name = "MeterStoppedError";
	readonly code = "METER_STOPPED";
	readonly why: MeterStop;
	/** What is said of it on the wire, if anything. */
	readonly problem: Problem | undefined;
	constructor(why: MeterStop, problem?: Problem) {
		super(`nothing more is paid for on this meter: ${EXPLAINED[why]}`);
		this.why = why;
		this.problem = problem;
	}
}

const EXPLAINED: Readonly<Record<MeterStop, string>> = {
	left: "the client has left",
	stalled: "no voucher came in time",
	replaced: "a new stream on the same channel has taken its place",
	closed: "the channel takes no more charges",
	ended: "the answer has ended",
	failed: "what was charged could not be written down",
};

/** How a route is metered. */
export type MeterSettings = Readonly<{
	/** What is reserved before the handler runs, in units. */
	estimateUnits: bigint;
	/** How many units are reserved at a time: what a crash can cost the server, and how often it waits for the disk. */
	blockUnits: bigint;
	/** How long a charge waits for a voucher, in ms. */
	stallMs: number;
	/** Several such requests of one channel may be under way: for whole answers, which are paid by their use. */
	isShared: boolean;
	/** What a piece of the answer costs where the handler does not say it itself. */
	per?: "piece" | "byte" | "second";
}>;

/** A meter as the one who delivers works with it. */
export interface MeterControl {
	readonly meter: Meter;
	readonly settings: MeterSettings;
	/** Hears when a voucher is needed; the last one at once, where one is needed already. Returns an end to it. */
	onNeed(listener: (need: VoucherNeed) => void): () => void;
	/**
	 * Resolves when every charge so far is paid for, also those that nobody waits for; rejects where one is not. `undefined` where
	 * all are paid for already.
	 */
	settled(): Promise<void> | undefined;
	/**
	 * What `wait` gives is waited for before another block is reserved: what is about to leave is captured with the block that
	 * has paid for it, so that a crash does not cost more than one.
	 */
	beforeBlock(wait: () => Promise<void> | undefined): void;
	/** How much was charged so far, with what is not paid for yet, in base units: for `delivered`, when what it was charged for leaves later. */
	mark(): bigint;
	/** What was charged up to `mark`, all of it by default, has left: it stays charged whatever comes. */
	delivered(mark?: bigint): void;
	/** Charges no more. What was charged and has not left is given back unless the answer has ended well. */
	stop(why: MeterStop, problem?: Problem): void;
}
