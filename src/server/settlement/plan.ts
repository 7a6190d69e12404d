/** From channels to transactions: what is worth sending, together with what. */
import type { EngineContext } from "../context.ts";
import { type Bar, type BatchLimits, type Market, mayBeWorth, planSteps, type Step } from "./economics.ts";
import { type Target, withSigners } from "./targets.ts";

/** The transactions to send, the most valuable first, and the channels that are not worth one. */
export type SettlementPlan = Readonly<{ steps: readonly Step<Target>[]; rest: readonly Target[] }>;

export function batchLimits(
	{ limits, relayed }: EngineContext,
	{ batchSize }: Readonly<{ batchSize: number }>,
): BatchLimits {
	return { batchSize, maxGas: BigInt(limits.maxTransactionGas), relayed };
}

/**
 * Plans closes and settlements. What is not worth a close may be worth a settlement, which costs less.
 *
 * @param wanted what is to be closed, and what is only to be settled
 */
export async function planSettlement(
	context: EngineContext,
	wanted: Readonly<{ close: readonly Target[]; settle: readonly Target[] }>,
	bar: Bar,
	market: Market | undefined,
	limits: BatchLimits,
): Promise<SettlementPlan> {
	const isPromising = (target: Target) =>
		target.single ||
		mayBeWorth("settle", target, bar, market, limits) ||
		mayBeWorth("close", target, bar, market, limits);
	// Looking at a signature takes longer than all the rest.
	const [close, hopelessCloses] = divide(wanted.close, isPromising);
	const [settle, hopelessSettles] = divide(wanted.settle, isPromising);
	const closes = planSteps("close", await withSigners(context, close), bar, market, limits);
	const owing = closes.rest.filter(({ value }) => value > 0n);
	const settles = planSteps("settle", [...owing, ...(await withSigners(context, settle))], bar, market, limits);
	return {
		steps: [...closes.steps, ...settles.steps],
		rest: [...settles.rest, ...closes.rest.filter(({ value }) => value === 0n), ...hopelessCloses, ...hopelessSettles],
	};
}

function divide<T>(items: readonly T[], isFirst: (item: T) => boolean): readonly [T[], T[]] {
	const first: T[] = [];
	const second: T[] = [];
	for (const item of items) (isFirst(item) ? first : second).push(item);
	return [first, second];
}
