import type { Channel } from "../channel.ts";
import { chainNow, isRedeemable, unsettled } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { Bar, Step } from "./economics.ts";
import { PriceReader } from "./market.ts";
import { failedResults, type Result, rowOf, type SettlementRunRow, skipped } from "./outcome.ts";
import { batchLimits, planSettlement, type SettlementPlan } from "./plan.ts";
import { settlementSchema } from "./policy.ts";
import { retire } from "./retire.ts";
import { settle } from "./settle.ts";
import { busyChannels, isOurs, type Target, targetOf } from "./targets.ts";

export type { SettlementOutcome, SettlementRunRow } from "./outcome.ts";

/** How many transactions are on their way at a time. */
const IN_FLIGHT = 16;

/** What a run did. */
export type SettlementRun = Readonly<{
	rows: readonly SettlementRunRow[];
	/** How many transactions were sent. */
	transactions: number;
	/** How many channels were settled or closed. */
	settled: number;
	/** How many were not. */
	skipped: number;
}>;

export type SettleChannelsOptions = Readonly<{
	/** Only says what would be done. */
	dryRun?: boolean;
	/** Whatever it costs. */
	force?: boolean;
	/** Closes them, which also gives payers the rest of their deposits. */
	close?: boolean;
	/** Is told of each channel as soon as its outcome is known. */
	progress?: (row: SettlementRunRow) => void;
}>;

/**
 * Settles or closes these channels because somebody wants it, on the same way to the chain as the timer's: in batches, each
 * channel with its highest voucher, and no channel that something is under way for. What failed in a batch goes by itself.
 * Never rejects for what goes wrong with a channel or on the way to the chain: the rows say so.
 *
 * @param channels of this context; others are skipped
 * @example
 * const { rows, settled } = await settleChannels(context, channels, { dryRun: true });
 */
export async function settleChannels(
	context: EngineContext,
	channels: readonly Channel[],
	{ dryRun = false, force = false, close = false, progress }: SettleChannelsOptions = {},
): Promise<SettlementRun> {
	const settings = context.settlement ?? settlementSchema.parse({});
	const results: Result[] = [];
	const report = (more: readonly Result[]) => {
		results.push(...more);
		if (progress) for (const { row } of more) progress(row);
	};
	const { chosen, left } = choose(context, channels, { close, force });
	report(left);
	const { market } = force ? { market: undefined } : await new PriceReader(context, settings).read();
	const limits = batchLimits(context, settings);
	const plan = async (targets: readonly Target[], bar: Bar) =>
		planSettlement(
			context,
			close ? { close: targets, settle: [] } : { close: [], settle: targets },
			bar,
			market,
			limits,
		);
	const { minValue, minValueToGas } = settings;
	const isUrgent = ({ channel }: Target) => chainNow(channel).closeRequestedAt !== 0;
	const plans: readonly SettlementPlan[] = force
		? [await plan(chosen, { kind: "any" })]
		: [
				await plan(chosen.filter(isUrgent), { kind: "urgent", minValue }),
				await plan(
					chosen.filter((target) => !isUrgent(target)),
					{ kind: "routine", minValue, minValueToGas },
				),
			];
	const notWorth = { reason: "it costs more than it is worth by the policy" };
	for (const { rest } of plans) report(rest.map((target) => ({ target, row: rowOf(target, "uneconomic", notWorth) })));
	const steps = plans.flatMap((one) => one.steps);
	if (dryRun) {
		report(steps.flatMap(({ way, rows }) => rows.map((target) => ({ target, row: rowOf(target, `would-${way}`) }))));
		return summary(results);
	}
	const again: Step<Target>[] = [];
	await sendSteps(context, steps, {
		onResults(more, { way }) {
			const alone = more.filter(({ fault }) => fault === "transaction");
			again.push(...alone.map(({ target }) => ({ way, rows: [target] })));
			report(more.filter((result) => !alone.includes(result)));
		},
	});
	await sendSteps(context, again, { onResults: report });
	return summary(results);
}

/** Those that can be settled or closed at all, and why the others can't. */
function choose(
	context: EngineContext,
	channels: readonly Channel[],
	{ close, force }: Readonly<{ close: boolean; force: boolean }>,
): Readonly<{ chosen: readonly Target[]; left: readonly Result[] }> {
	const isBusy = busyChannels(context);
	const chosen: Target[] = [];
	const left: Result[] = [];
	for (const channel of channels) {
		const target = targetOf(channel, { whenIdle: false, single: false });
		const reason = !isOurs(context, channel)
			? "it is not one of this server's channels"
			: chainNow(channel).finalized
				? "it is closed"
				: isBusy(channel)
					? "it is being settled or closed"
					: !isRedeemable(channel)
						? "a reorganization took back part of its deposit"
						: unsettled(channel) === 0n && !(close && force)
							? "nothing is owed"
							: undefined;
		if (reason === undefined) chosen.push(target);
		else left.push(skipped(target, reason));
	}
	return { chosen, left };
}

export type SendOptions = Readonly<{
	/** Told of each step's channels. */
	onResults: (results: readonly Result[], step: Step<Target>) => void;
	/** Nothing more is begun from then on. */
	isStopping?: () => boolean;
}>;

/** Sends transactions, several at a time, in their order. An error in one never stops the others. */
export async function sendSteps(
	context: EngineContext,
	steps: readonly Step<Target>[],
	{ onResults, isStopping = () => false }: SendOptions,
): Promise<void> {
	let next = 0;
	const work = async () => {
		for (let step = steps[next++]; step !== undefined && !isStopping(); step = steps[next++]) {
			const current = step;
			const send = current.way === "settle" ? settle : retire;
			const results = await send(context, current).catch((error: unknown) => failedResults(current.rows, error));
			onResults(results, current);
		}
	};
	await Promise.all(Array.from({ length: Math.min(IN_FLIGHT, steps.length) }, work));
}

export function summary(results: readonly Pick<Result, "row">[]): SettlementRun {
	const rows = results.map(({ row }) => row);
	const settled = rows.filter(({ outcome }) => outcome === "settled" || outcome === "closed").length;
	const transactions = new Set(rows.flatMap(({ txHash }) => (txHash === undefined ? [] : [txHash]))).size;
	return { rows, transactions, settled, skipped: rows.length - settled };
}
