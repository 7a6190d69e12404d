/** Which channels are due, by the policy. Bounded: what is not looked at in one run is in a later one. */
import type { Hex } from "viem";
import { type Channel, chainNow, unsettled } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { dueSince } from "../store/dueIndex.ts";
import type { DueOrder } from "../store/store.ts";
import type { Backoff } from "./backoff.ts";
import type { SettlementSettings } from "./policy.ts";
import { isOurs, isRedeemable } from "./targets.ts";

/** How many channels of this token a scan looks at in a run, and how many of all tokens. */
const MOST_OURS = 2_000;
const MOST_SCANNED = 20_000;

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

/** Channels whose payers have asked the chain to close, and that owe something; the earliest requests first. */
export async function findClosing(context: EngineContext): Promise<readonly Channel[]> {
	const found = new Map<Hex, Channel>();
	for await (const channel of ours(context, "closing")) {
		if (unsettled(channel) > 0n && isRedeemable(channel)) found.set(channel.channelId, channel);
	}
	for (const channelId of context.recloses) {
		const channel = await context.store.channel(channelId).catch(() => undefined);
		if (channel === undefined || chainNow(channel).finalized) context.recloses.delete(channelId);
		else if (isOurs(context, channel) && isRedeemable(channel)) found.set(channelId, channel);
	}
	return [...found.values()];
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
	const add = (channel: Channel, { close = false, byTime = true } = {}) => {
		const { channelId } = channel;
		if (chainNow(channel).closeRequestedAt !== 0 || backoff.isHeldBack(channelId, at)) return;
		if (!isRedeemable(channel)) return;
		const before = found.get(channelId);
		found.set(channelId, {
			channel,
			close: close || (before?.close ?? false),
			byTime: byTime || (before?.byTime ?? false),
		});
	};
	const scan = new Scan(context);
	if (maxUnsettled !== undefined) {
		for await (const channel of scan.run("unsettled")) {
			if (unsettled(channel) >= maxUnsettled) add(channel, { byTime: false });
			// In order to within a factor of two.
			else if (unsettled(channel) * 2n < maxUnsettled) break;
		}
	}
	for await (const channel of scan.since("age", at - maxAgeSeconds * 1_000)) add(channel);
	for await (const channel of scan.since("contract", at - contractSigner.maxAgeSeconds * 1_000)) add(channel);
	if (contractSigner.maxUnsettled !== undefined) {
		const most = contractSigner.maxUnsettled;
		for await (const channel of scan.run("contract")) if (unsettled(channel) >= most) add(channel, { byTime: false });
	}
	for await (const channel of scan.since("idle", at - idleSeconds * 1_000)) add(channel, { close: onIdle === "close" });
	return { candidates: [...found.values()], isCrowded: scan.isCrowded };
}

/** Several scans, and whether one of them had to end early. */
class Scan {
	readonly #context: EngineContext;
	isCrowded = false;

	constructor(context: EngineContext) {
		this.#context = context;
	}

	run(order: DueOrder): AsyncGenerator<Channel> {
		return ours(this.#context, order, () => {
			this.isCrowded = true;
		});
	}

	/** Those that have waited since `limit` (Unix ms) or longer. */
	async *since(order: Exclude<DueOrder, "unsettled">, limit: number): AsyncGenerator<Channel> {
		for await (const channel of this.run(order)) {
			const since = dueSince(order, channel);
			if (since === undefined) continue;
			if (since > limit) return;
			yield channel;
		}
	}
}

async function* ours(context: EngineContext, order: DueOrder, onLimit?: () => void): AsyncGenerator<Channel> {
	let scanned = 0;
	let found = 0;
	for await (const channel of context.store.due(order, { limit: MOST_SCANNED })) {
		scanned++;
		if (!isOurs(context, channel)) continue;
		yield channel;
		if (++found === MOST_OURS) break;
	}
	if (found === MOST_OURS || scanned === MOST_SCANNED) onLimit?.();
}
