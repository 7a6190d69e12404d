/** Which channels are due, by the policy. Bounded: what is not taken in one run is in a later one. */
import type { Hex } from "viem";
import { type Channel, chainNow, isRedeemable, owes, unsettled } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { dueSince } from "../store/dueIndex.ts";
import type { DueOrder } from "../store/store.ts";
import type { Backoff } from "./backoff.ts";
import type { SettlementSettings } from "./policy.ts";
import { isOurs } from "./targets.ts";

/** How many channels one scan takes in a run. */
const MOST_TAKEN = 2_000;
/** How many channels that it can't take, or that are another token's, a scan passes by: reading one takes some microseconds. */
const MOST_SCANNED = 1_000_000;

/** A channel that is due, and may wait. */
export type Candidate = Readonly<{
	channel: Channel;
	/** It is to be closed, and not only settled. */
	close: boolean;
	/** It is due by time: not worth it, it is looked at again after another such time. */
	byTime: boolean;
}>;

/** What is due; `isCrowded` where more may be than was looked at. */
export type Due = Readonly<{ candidates: readonly Candidate[]; isCrowded: boolean }>;

/**
 * Channels whose payers have asked the chain to close, and that owe something: of all there are, however many, those that owe
 * most. What has to be closed again as well.
 *
 * @param isReady whether it may be taken now; asked of each channel at risk
 */
export async function findClosing(
	context: EngineContext,
	isReady: (channel: Channel) => boolean = () => true,
): Promise<readonly Channel[]> {
	const { store, recloses } = context;
	let found: Channel[] = [];
	for await (const channel of store.due("closing")) {
		if (!isOurs(context, channel) || !owes(channel) || !isReady(channel)) continue;
		if (recloses.has(channel.channelId)) continue;
		found.push(channel);
		if (found.length >= 2 * MOST_TAKEN) found = highest(found);
	}
	const again: Channel[] = [];
	for (const channelId of recloses) {
		const channel = await store.channel(channelId).catch(() => undefined);
		if (channel === undefined || chainNow(channel).finalized) recloses.delete(channelId);
		else if (isOurs(context, channel) && isRedeemable(channel) && isReady(channel)) again.push(channel);
	}
	return [...highest(found), ...again];
}

function highest(channels: readonly Channel[]): Channel[] {
	return channels.toSorted((a, b) => (unsettled(a) > unsettled(b) ? -1 : 1)).slice(0, MOST_TAKEN);
}

/** Channels that are due for anything else. */
export async function findDue(
	context: EngineContext,
	settings: SettlementSettings,
	backoff: Backoff,
	at: number,
): Promise<Due> {
	const { maxUnsettled, maxAgeSeconds, idleSeconds, onIdle, contractSigner } = settings;
	const found = new Map<Hex, Candidate>();
	/** Whether it is a candidate. */
	const add = (channel: Channel, { close = false, byTime = true } = {}): boolean => {
		const { channelId } = channel;
		if (chainNow(channel).closeRequestedAt !== 0 || backoff.isHeldBack(channelId, at)) return false;
		if (!isRedeemable(channel)) return false;
		const before = found.get(channelId);
		found.set(channelId, {
			channel,
			close: close || (before?.close ?? false),
			byTime: byTime || (before?.byTime ?? false),
		});
		return true;
	};
	const isCrowded: boolean[] = [];
	const scan = async (order: DueOrder, isOver: (channel: Channel) => boolean, take: (channel: Channel) => boolean) =>
		void isCrowded.push(await scanDue(context, order, isOver, take));
	/** Those that have waited since `limit` (Unix ms) or longer. */
	const since = (order: Exclude<DueOrder, "unsettled">, limit: number, take: (channel: Channel) => boolean) =>
		scan(order, (channel) => (dueSince(order, channel) ?? 0) > limit, take);
	if (maxUnsettled !== undefined) {
		await scan(
			"unsettled",
			// In order to within a factor of two.
			(channel) => unsettled(channel) * 2n < maxUnsettled,
			(channel) => unsettled(channel) >= maxUnsettled && add(channel, { byTime: false }),
		);
	}
	await since("age", at - maxAgeSeconds * 1_000, (channel) => add(channel));
	await since("contract", at - contractSigner.maxAgeSeconds * 1_000, (channel) => add(channel));
	const most = contractSigner.maxUnsettled;
	if (most !== undefined) {
		await scan(
			"contract",
			() => false,
			(channel) => unsettled(channel) >= most && add(channel, { byTime: false }),
		);
	}
	await since("idle", at - idleSeconds * 1_000, (channel) => add(channel, { close: onIdle === "close" }));
	return { candidates: [...found.values()], isCrowded: isCrowded.includes(true) };
}

/**
 * Walks over the channels of all tokens in their order, and offers this token's. What is not taken, held back for example, takes
 * nobody's place. Resolves to whether it had to end early.
 */
async function scanDue(
	context: EngineContext,
	order: DueOrder,
	isOver: (channel: Channel) => boolean,
	take: (channel: Channel) => boolean,
): Promise<boolean> {
	let scanned = 0;
	let taken = 0;
	for await (const channel of context.store.due(order, { limit: MOST_SCANNED })) {
		if (isOver(channel)) return false;
		scanned++;
		if (isOurs(context, channel) && take(channel) && ++taken === MOST_TAKEN) return true;
	}
	return scanned === MOST_SCANNED;
}
