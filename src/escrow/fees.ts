/** What a transaction bids for its gas, and what a later version of it has to bid to take its place. */
import type { PublicClient } from "viem";
import type { Fees } from "./outbox.ts";
import { FeesTooHighError } from "./transactionErrors.ts";

/** Wei per gas. */
export type GasFees = Readonly<{ maxFeePerGas: bigint; maxPriorityFeePerGas: bigint }>;

/** What nodes ask of a replacement at most: an eighth more than the version before (others are content with a tenth). */
const STEP_PERMILLE = 125n;

/** Doublings of the step that still make sense. */
const MAX_DOUBLINGS = 3;

/** Head-room over the estimate: the state may move a little between estimate and execution. */
const GAS_MARGIN_PERCENT = 20n;

/** How many times what it bid first, or what the chain asks now, a transaction bids at most. */
const MAX_MULTIPLE = 10n;

/**
 * What to bid now, as the chain's own fees and the limit have it.
 *
 * @throws FeesTooHighError when the limit does not even cover the base fee of the latest block
 */
export async function firstFees(client: PublicClient, limit: bigint | undefined): Promise<GasFees> {
	const estimate = await client.estimateFeesPerGas();
	if (limit === undefined || estimate.maxFeePerGas <= limit) return pick(estimate);
	const { baseFeePerGas } = await client.getBlock({ blockTag: "latest" });
	if (baseFeePerGas !== null && baseFeePerGas > limit) throw new FeesTooHighError(baseFeePerGas, limit);
	return { maxFeePerGas: limit, maxPriorityFeePerGas: smaller(estimate.maxPriorityFeePerGas, limit) };
}

/** The gas limit of a transaction that is estimated to need `gas`. */
export function withMargin(gas: bigint): bigint {
	return gas + (gas * GAS_MARGIN_PERCENT) / 100n;
}

/** What a transaction with this gas limit was estimated to need. */
export function withoutMargin(gasLimit: bigint): bigint {
	return (gasLimit * 100n) / (100n + GAS_MARGIN_PERCENT);
}

/**
 * The most that may be bid for a call that needs `gas`, where `feeLimit` was reckoned for one that needs `plannedGas`: it never
 * costs more than was planned.
 */
export function limitForGas(
	{ feeLimit, plannedGas }: Readonly<{ feeLimit?: bigint; plannedGas?: bigint }>,
	gas: bigint,
): bigint | undefined {
	if (feeLimit === undefined || plannedGas === undefined || gas <= plannedGas) return feeLimit;
	return (feeLimit * plannedGas) / gas;
}

/** Bounds of a replacement. */
export type BidTerms = Readonly<{
	/** Of the first version. */
	first: GasFees;
	/** The most that may be bid, wei per gas. */
	limit?: bigint | undefined;
	/** How often in a row a replacement was refused as too low: each time doubles the step. */
	underpriced?: number;
}>;

/**
 * What a replacement of a version with fees `last` has to bid; `undefined` when the limit forbids even the least of it, or
 * when it would be beyond all reason: a node that always wants more must not run away with the account's gas money.
 */
export function raisedFees(
	last: GasFees,
	estimate: GasFees,
	{ first, limit: given, underpriced = 0 }: BidTerms,
): GasFees | undefined {
	const limit = lowerLimit(given, MAX_MULTIPLE * larger(first.maxFeePerGas, estimate.maxFeePerGas));
	const priorityLimit = larger(
		MAX_MULTIPLE * larger(first.maxPriorityFeePerGas, estimate.maxPriorityFeePerGas),
		estimate.maxFeePerGas,
	);
	const permille = STEP_PERMILLE << BigInt(Math.min(underpriced, MAX_DOUBLINGS));
	const least = raised(last.maxFeePerGas, STEP_PERMILLE);
	if (limit !== undefined && limit < least) return undefined;
	const leastPriority = raised(last.maxPriorityFeePerGas, STEP_PERMILLE);
	if (priorityLimit < leastPriority) return undefined;
	const wanted = larger(estimate.maxFeePerGas, raised(last.maxFeePerGas, permille));
	const maxFeePerGas = limit === undefined ? wanted : smaller(wanted, limit);
	const priority = larger(estimate.maxPriorityFeePerGas, raised(last.maxPriorityFeePerGas, permille));
	return {
		maxFeePerGas,
		maxPriorityFeePerGas: larger(smaller(priority, smaller(priorityLimit, maxFeePerGas)), leastPriority),
	};
}

export function writtenFees({ maxFeePerGas, maxPriorityFeePerGas }: GasFees): Fees {
	return { maxFeePerGas: String(maxFeePerGas), maxPriorityFeePerGas: String(maxPriorityFeePerGas) };
}

/** The lower of two limits; `undefined` is none. */
export function lowerLimit(a: bigint | undefined, b: bigint | undefined): bigint | undefined {
	if (a === undefined || b === undefined) return a ?? b;
	return smaller(a, b);
}

/** Rounded up, and by one wei at least: a tip of nothing must grow too. */
function raised(value: bigint, permille: bigint): bigint {
	return larger((value * (1_000n + permille) + 999n) / 1_000n, value + 1n);
}

function pick({ maxFeePerGas, maxPriorityFeePerGas }: GasFees): GasFees {
	return { maxFeePerGas, maxPriorityFeePerGas };
}

function smaller(a: bigint, b: bigint): bigint {
	return a < b ? a : b;
}

function larger(a: bigint, b: bigint): bigint {
	return a > b ? a : b;
}
