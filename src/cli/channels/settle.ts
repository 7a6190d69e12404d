import type { Hex } from "viem";
import { type Channel, chainNow, unsettled } from "../../server/channel.ts";
import type { SettlementRun } from "../../server/settlement/run.ts";
import type { ChannelStore } from "../../server/store/store.ts";
import type { Run } from "../shared/command.ts";
import { tellDamaged } from "../shared/damaged.ts";
import { estimate } from "../shared/estimate.ts";
import { type ExitCode, UsageError } from "../shared/exit.ts";
import { mayOwe, type SettlementOptions, type Workshop, withOperators } from "../shared/operators.ts";
import { progressLine, writeReport } from "../shared/settlementReport.ts";
import { ChannelClosedError, ChannelNotFoundError } from "./errors.ts";

export type SettleOptions = SettlementOptions & Readonly<{ all?: boolean }>;

/** Settles channels, or closes them: those that are named, or all that owe something. */
export async function bringIn(
	run: Run,
	way: "settle" | "close",
	channelIds: readonly Hex[],
	options: SettleOptions,
): Promise<ExitCode> {
	const { all = false, dryRun = false, force = false } = options;
	if (all === channelIds.length > 0) throw new UsageError(`which channels? Name them, or give --all`);
	return withOperators(run, options, `sluice channels ${way}`, async (workshop) => {
		const { store, operators, chain } = workshop;
		const chosen = all ? await allOf(workshop, way) : await named(store, channelIds, workshop, options.data);
		const channels = new Map<string, Channel>();
		const runs: SettlementRun[] = [];
		for (const [payee, operator] of operators) {
			const own = chosen.filter((channel) => channel.payee === payee);
			const read = await operator.refresh(own);
			for (const channel of [...own, ...read]) channels.set(channel.channelId, channel);
			const unread = own.filter((channel) => operator.graceSeconds(channel) === undefined);
			const progress = dryRun ? {} : { progress: (row: SettlementRun["rows"][number]) => run.say(progressLine(row)) };
			const wanted = all ? read.filter((channel) => unsettled(channel) > 0n || (way === "close" && force)) : read;
			runs.push(await operator.settle([...wanted, ...unread], { dryRun, force, close: way === "close", ...progress }));
		}
		const sending = runs.flatMap(({ rows }) => rows).filter(({ outcome }) => outcome.startsWith("would-"));
		const sent = sending.flatMap(({ channelId }) => channels.get(channelId) ?? []);
		return writeReport(run, {
			chainId: chain.chainId,
			payees: [...operators.keys()],
			dryRun,
			runs,
			channels,
			others: workshop.others,
			damaged: all ? tellDamaged(run, store) : [],
			...(dryRun && { estimate: await estimate(chain.client, way, sent, workshop.relayed) }),
		});
	});
}

async function allOf({ store, operators, chain }: Workshop, way: "settle" | "close"): Promise<readonly Channel[]> {
	const found: Channel[] = [];
	for await (const channel of store.channels()) {
		if (chainNow(channel).finalized || channel.chainId !== chain.chainId || !operators.has(channel.payee)) continue;
		if (way === "close" || mayOwe(channel)) found.push(channel);
	}
	return found;
}

/** Nothing is sent when one of them can't be: who names channels means these. */
async function named(
	store: ChannelStore,
	channelIds: readonly Hex[],
	{ operators, chain }: Workshop,
	folder: string,
): Promise<readonly Channel[]> {
	const found: Channel[] = [];
	const missing: Hex[] = [];
	for (const channelId of new Set(channelIds)) {
		const channel = await store.channel(channelId);
		if (channel === undefined) missing.push(channelId);
		else found.push(channel);
	}
	if (missing.length > 0) throw new ChannelNotFoundError(missing, folder);
	for (const channel of found) {
		const { channelId, chainId, payee } = channel;
		if (chainNow(channel).finalized) throw new ChannelClosedError(channelId);
		if (chainId !== chain.chainId) {
			throw new UsageError(`channel ${channelId} is of chain ${chainId}: give --rpc of that chain`);
		}
		if (!operators.has(payee)) {
			throw new UsageError(`channel ${channelId} pays ${payee}: give the key of that account`);
		}
	}
	return found;
}
