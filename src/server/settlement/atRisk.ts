import { type Channel, chainNow } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { reopen } from "../session/closing.ts";
import type { Backoff } from "./backoff.ts";
import { type Market, worthOfWei } from "./economics.ts";
import { raiseLimits } from "./lift.ts";
import type { PriceReader } from "./market.ts";
import { type Result, rowOf } from "./outcome.ts";
import { batchLimits, planSettlement, type SettlementPlan } from "./plan.ts";
import type { SettlementSettings } from "./policy.ts";
import { RELAY_LIFETIME_SECONDS } from "./relay.ts";
import type { RiskTeller } from "./risks.ts";
import { busyChannels, type Target, targetOf } from "./targets.ts";

/** Which part of the grace period a channel waits at most until it is tried again after a failure. */
const PAUSE_PART = 16;

/** After how many failures that cost gas the grace period counts no more, where nobody knows what gas costs. */
const MOST_COSTLY_FAILURES = 12;

/** After how many failures a channel that was to be closed again is given back, once nobody can close it with what was signed. */
const RECLOSES = 7;
const RECLOSE_MARGIN_SECONDS = 60;

export type AtRiskParts = Readonly<{
	context: EngineContext;
	settings: SettlementSettings;
	prices: PriceReader;
	backoff: Backoff;
	risks: RiskTeller;
	/** Sends, and has the backoff learn what became of it. */
	send: (steps: SettlementPlan["steps"]) => Promise<readonly Result[]>;
}>;

/** Brings in what the payers of channels may soon withdraw (I9), for no more gas than it is worth. */
export class AtRisk {
	readonly #parts: AtRiskParts;

	constructor(parts: AtRiskParts) {
		this.#parts = parts;
	}

	/** Whether a channel is tried now. What has failed waits, but never for a large part of the grace period. */
	isReady(channel: Channel): boolean {
		const { now, closeGraceSeconds } = this.#parts.context;
		const graceMs = closeGraceSeconds * 1_000;
		const { channelId } = channel;
		const { failures, burntWei } = this.#parts.backoff.failuresOf(channelId);
		const { closeRequestedAt } = chainNow(channel);
		const isCostly = this.#parts.settings.coinPrice === undefined && burntWei > 0n && failures > MOST_COSTLY_FAILURES;
		const isLong = closeRequestedAt === 0 || now() > closeRequestedAt * 1_000 + 2 * graceMs;
		const longestMs = isCostly || isLong ? undefined : graceMs / PAUSE_PART;
		return !this.#parts.backoff.isHeldBack(channelId, now(), longestMs);
	}

	/** Settles and closes channels that can't wait. */
	async bringIn(channels: readonly Channel[]): Promise<readonly Result[]> {
		const { context, settings, prices, risks, backoff, send } = this.#parts;
		const { minValue } = settings;
		const ready = channels.filter((channel) => this.isReady(channel));
		if (ready.length === 0) return [];
		const { market } = await prices.read();
		const isBusy = busyChannels(context);
		raiseLimits(context, ready.filter(isBusy), market, minValue);
		const targets = ready
			.filter((channel) => !isBusy(channel))
			.map((channel) => targetOf(channel, { whenIdle: false, single: backoff.isSingle(channel.channelId) }));
		const { again, others } = await this.#divide(targets);
		const isWorthIt = (target: Target) => target.value > this.#burnt(target, market);
		const bar = { kind: "urgent", minValue } as const;
		const limits = batchLimits(context, settings);
		const plans: readonly SettlementPlan[] = [
			await planSettlement(context, { close: again, settle: [] }, { kind: "any" }, market, limits),
			await planSettlement(context, { close: others.filter(isWorthIt), settle: [] }, bar, market, limits),
		];
		const exhausted = others.filter((target) => !isWorthIt(target));
		const uneconomic = [...exhausted, ...plans.flatMap(({ rest }) => rest)];
		for (const { channel } of uneconomic) risks.tellUneconomic(channel);
		const sent = await send(plans.flatMap(({ steps }) => steps));
		for (const { fault, target } of sent) if (fault === "fees") risks.tellUneconomic(target.channel);
		return [...uneconomic.map((target) => ({ target, row: rowOf(target, "uneconomic") })), ...sent];
	}

	/** What failures of it have cost, in base units. */
	#burnt({ channel }: Target, market: Market | undefined): bigint {
		return worthOfWei(this.#parts.backoff.failuresOf(channel.channelId).burntWei, market);
	}

	/**
	 * What has to be closed again, whatever it owes, and the rest. What failed time and again is given back, once nobody can
	 * close it any more with what was signed: then it is worth a transaction, or not, as any other.
	 */
	async #divide(
		targets: readonly Target[],
	): Promise<Readonly<{ again: readonly Target[]; others: readonly Target[] }>> {
		const { recloses, now } = this.#parts.context;
		const again: Target[] = [];
		const others: Target[] = [];
		for (const target of targets) {
			const { channelId, acceptedCumulative } = target.channel;
			const { failures, at } = this.#parts.backoff.failuresOf(channelId);
			const isOver = now() > at + (RELAY_LIFETIME_SECONDS + RECLOSE_MARGIN_SECONDS) * 1_000;
			if (!recloses.has(channelId)) others.push(target);
			else if (failures < RECLOSES || !isOver) again.push(target);
			else if (!busyChannels(this.#parts.context)(target.channel)) {
				await reopen(this.#parts.context, channelId, { published: acceptedCumulative });
				recloses.delete(channelId);
			}
		}
		return { again, others };
	}
}
