import { LRUCache } from "lru-cache";
import type { Hex } from "viem";
import { type Channel, chainNow, reserved, unsettled } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { describeError } from "../describeError.ts";
import { applyEvent } from "../ledger.ts";
import { Backoff } from "./backoff.ts";
import { type Candidate, findClosing, findDue } from "./candidates.ts";
import { mayBeWorth } from "./economics.ts";
import { PriceReader, type Prices } from "./market.ts";
import { type Result, rowOf } from "./outcome.ts";
import { batchLimits, planSettlement, type SettlementPlan } from "./plan.ts";
import { isOpen, type SettlementSettings } from "./policy.ts";
import { type SettlementRun, sendSteps, summary } from "./run.ts";
import { busyChannels, isOurs, isRedeemable, type Target, targetOf } from "./targets.ts";

/** How many channels wait to be settled at once; the store knows them all, this only makes it quick. */
const MOST_URGENT = 10_000;

/** How often a channel that can't wait is tried before the next run, where only the node is at fault. */
const URGENT_ATTEMPTS = 5;
const URGENT_PAUSE_MS = 500;

/** What is not worth it now, and would not be if gas cost this many times less, is dust. */
const SPIKE = 10n;

/** How many risks are remembered as told. */
const TOLD = 10_000;

/** How many channels are put off at a time. */
const DEFERRED_AT_ONCE = 100;

/**
 * Settles and closes the channels of one token when they are due: those whose payers have asked the chain to close at once,
 * the others as the policy says. A timer drives it; no request ever waits for it.
 *
 * @example
 * const settler = new Settler(context, settings);
 * settler.start();
 * await settler.run(); // now, and not when the timer says so
 * await settler.stop(30_000);
 */
export class Settler {
	readonly #context: EngineContext;
	readonly #settings: SettlementSettings;
	readonly #prices: PriceReader;
	readonly #backoff: Backoff;
	readonly #told = new LRUCache<string, true>({ max: TOLD });
	readonly #urgent = new Set<Hex>();
	#timer: NodeJS.Timeout | undefined;
	#running: Promise<SettlementRun> | undefined;
	#next: Promise<SettlementRun> | undefined;
	#hurrying: Promise<void> | undefined;
	#isStopping = false;

	constructor(context: EngineContext, settings: SettlementSettings) {
		this.#context = context;
		this.#settings = settings;
		this.#prices = new PriceReader(context, settings);
		this.#backoff = new Backoff(context.limits.settleEveryMs);
	}

	/** Looks at once, and then every `limits.settleEveryMs`. */
	start(): void {
		if (this.#timer !== undefined || this.#isStopping) return;
		this.#timer = setInterval(() => void this.#begin(), this.#context.limits.settleEveryMs).unref();
		void this.#begin();
	}

	/** The payer asked the chain to close: settles and closes at once (I9). Never throws. Before `start` that is left to the first run. */
	urgent({ channelId }: Channel): void {
		if (this.#timer === undefined || this.#isStopping || this.#urgent.size >= MOST_URGENT) return;
		this.#urgent.add(channelId);
		this.#hurrying ??= this.#hurry()
			.catch((error: unknown) => this.#fault(error))
			.finally(() => {
				this.#hurrying = undefined;
			});
	}

	/**
	 * One look at everything that is due; behind the one under way, which may have passed over what became due meanwhile.
	 * What can't wait and was begun before is done when it resolves. Never rejects: what goes wrong is logged and tried again.
	 */
	async run(): Promise<SettlementRun> {
		this.#next ??= (this.#running ?? Promise.resolve()).then(() => {
			this.#next = undefined;
			return this.#begin();
		});
		const run = await this.#next;
		await this.#hurrying;
		return run;
	}

	/** Joins the run under way. */
	#begin(): Promise<SettlementRun> {
		this.#running ??= this.#runOnce().finally(() => {
			this.#running = undefined;
		});
		return this.#running;
	}

	/** Begins nothing new; resolves when what runs has ended, or at the deadline: then the next start takes it up. */
	async stop(deadlineMs: number): Promise<void> {
		this.#isStopping = true;
		clearInterval(this.#timer);
		const { promise: late, resolve } = Promise.withResolvers<void>();
		const timer = setTimeout(resolve, deadlineMs);
		await Promise.race([Promise.all([this.#running, this.#hurrying]), late]);
		clearTimeout(timer);
	}

	async #runOnce(): Promise<SettlementRun> {
		const results: Result[] = [];
		for (const work of [() => this.#closing(), () => this.#due()]) {
			if (this.#isStopping) break;
			await work().then(
				(more) => void results.push(...more),
				(error: unknown) => this.#fault(error),
			);
		}
		return summary(results);
	}

	/** Those that were asked for since the last time, until none is left. */
	async #hurry(): Promise<void> {
		while (this.#urgent.size > 0 && !this.#isStopping) {
			let channels = await this.#channels([...this.#urgent]);
			this.#urgent.clear();
			for (let attempt = 1; channels.length > 0 && attempt <= URGENT_ATTEMPTS && !this.#isStopping; attempt++) {
				if (attempt > 1) await new Promise((resolve) => setTimeout(resolve, URGENT_PAUSE_MS * attempt).unref());
				const results = await this.#bringIn(channels).catch((error: unknown) => this.#fault(error));
				const again = results?.filter(({ fault }) => fault === "node").map(({ row }) => row.channelId);
				channels = await this.#channels(again ?? channels.map(({ channelId }) => channelId));
			}
		}
	}

	async #channels(channelIds: readonly Hex[]): Promise<readonly Channel[]> {
		const found: Channel[] = [];
		for (const channelId of channelIds) {
			const channel = await this.#context.store.channel(channelId).catch(() => undefined);
			if (channel === undefined || !isOurs(this.#context, channel) || !isRedeemable(channel)) continue;
			if (unsettled(channel) > 0n) found.push(channel);
		}
		return found;
	}

	/** What may be lost when the grace period is over: always first, whatever the time of the day. */
	async #closing(): Promise<readonly Result[]> {
		const channels = await findClosing(this.#context);
		for (const channel of channels) this.#tellLate(channel);
		return channels.length === 0 ? [] : this.#bringIn(channels);
	}

	/** Settles and closes channels that can't wait. */
	async #bringIn(channels: readonly Channel[]): Promise<readonly Result[]> {
		const isBusy = busyChannels(this.#context);
		const targets = channels.filter((channel) => !isBusy(channel)).map((channel) => this.#target(channel, false));
		if (targets.length === 0) return [];
		const { market } = await this.#prices.read();
		const bar = { kind: "urgent", minValue: this.#settings.minValue } as const;
		const limits = batchLimits(this.#context, this.#settings);
		// What has to be closed again owes nothing, perhaps, and is closed all the same.
		const { recloses } = this.#context;
		const again = targets.filter(({ channel }) => recloses.has(channel.channelId));
		const others = targets.filter((target) => !again.includes(target));
		const plans: readonly SettlementPlan[] = [
			await planSettlement(this.#context, { close: again, settle: [] }, { kind: "any" }, market, limits),
			await planSettlement(this.#context, { close: others, settle: [] }, bar, market, limits),
		];
		const uneconomic = plans.flatMap(({ rest }) => rest);
		for (const target of uneconomic) this.#tellUneconomic(target);
		const sent = await this.#send(plans.flatMap(({ steps }) => steps));
		return [...uneconomic.map((target) => ({ target, row: rowOf(target, "uneconomic") })), ...sent];
	}

	/** What the policy says, if it is the time for it. */
	async #due(): Promise<readonly Result[]> {
		const { now } = this.#context;
		if (!isOpen(this.#settings, now())) return [];
		const { candidates, isCrowded } = await findDue(this.#context, this.#settings, this.#backoff, now());
		const isBusy = busyChannels(this.#context);
		const free = candidates.filter(
			({ channel, close }) => !isBusy(channel) && !(close && reserved(channel) > 0n && this.#isRunning(channel)),
		);
		if (free.length === 0) return [];
		const prices = await this.#prices.read();
		if (prices.isUnknown) return [];
		const { minValue, minValueToGas } = this.#settings;
		const bar = { kind: "routine", minValue, minValueToGas } as const;
		const limits = batchLimits(this.#context, this.#settings);
		const wanted = {
			close: free.filter(({ close }) => close).map(({ channel }) => this.#target(channel, true)),
			settle: free.filter(({ close }) => !close).map(({ channel }) => this.#target(channel, false)),
		};
		const { steps, rest } = await planSettlement(this.#context, wanted, bar, prices.market, limits);
		await this.#putOff(rest, free, prices, isCrowded);
		return this.#send(steps);
	}

	/** Whether requests of this process run on the channel: what others have promised is void. */
	#isRunning({ reservations }: Channel): boolean {
		return Object.keys(reservations).some((owner) => !this.#context.store.isGone(owner));
	}

	#target(channel: Channel, whenIdle: boolean): Target {
		return targetOf(channel, { whenIdle, single: this.#backoff.isSingle(channel.channelId) });
	}

	async #send(steps: SettlementPlan["steps"]): Promise<readonly Result[]> {
		const { now } = this.#context;
		const results: Result[] = [];
		await sendSteps(this.#context, steps, {
			isStopping: () => this.#isStopping,
			onResults: (more) => {
				results.push(...more);
				for (const result of more) this.#backoff.note(result, now());
			},
		});
		return results;
	}

	/**
	 * Dust that is due by time is looked at again after another such time, so that it does not stand before others. What would be
	 * worth it if gas cost what it costs on other days is looked at again in the next run; unless there is a crowd.
	 */
	async #putOff(
		rest: readonly Target[],
		candidates: readonly Candidate[],
		{ market }: Prices,
		isCrowded: boolean,
	): Promise<void> {
		const { minValue, minValueToGas } = this.#settings;
		const bar = { kind: "routine", minValue, minValueToGas } as const;
		const limits = batchLimits(this.#context, this.#settings);
		const byTime = new Set(candidates.filter((one) => one.byTime).map(({ channel }) => channel.channelId));
		const dust: Target[] = [];
		for (const target of rest) {
			const { channelId } = target.channel;
			this.#backoff.forgiveSingle(channelId);
			const mayWait = !isCrowded && mayBeWorth("settle", target, bar, market, limits, SPIKE);
			if (byTime.has(channelId) && !mayWait) dust.push(target);
		}
		for (let at = 0; at < dust.length; at += DEFERRED_AT_ONCE)
			await Promise.all(dust.slice(at, at + DEFERRED_AT_ONCE).map(({ channel }) => this.#defer(channel.channelId)));
		const owing = dust.filter(({ value }) => value > 0n);
		if (owing.length === 0) return;
		const sum = owing.reduce((total, { value }) => total + value, 0n);
		const values = { channels: owing.length, unsettled: String(sum) };
		this.#context.log.info(values, "channels owe less than it costs to settle them; they are left for later");
	}

	async #defer(channelId: Hex): Promise<void> {
		const { store, now } = this.#context;
		await store
			.transact({ channel: channelId }, ({ channel }) => {
				const step = applyEvent(channel, { type: "deferred" }, now());
				return { value: undefined, ...(step.ok && { writes: { channel: step.channel } }) };
			})
			.then(({ durable }) => durable)
			.catch((error: unknown) => this.#fault(error));
	}

	#tellUneconomic({ channel }: Target): void {
		this.#tellOnce(channel, "uneconomic", "a close was requested, and what the channel owes is not worth the gas");
	}

	/** A quarter of the grace period is long for what takes one transaction. */
	#tellLate(channel: Channel): void {
		const { closeRequestedAt } = chainNow(channel);
		const { closeGraceSeconds, now } = this.#context;
		if (closeRequestedAt === 0 || now() < (closeRequestedAt + closeGraceSeconds / 4) * 1_000) return;
		this.#tellOnce(channel, "late", "a close was requested a while ago, and what the channel owes is not on chain yet");
	}

	#tellOnce(channel: Channel, reason: "uneconomic" | "late", message: string): void {
		const { log, listeners, closeGraceSeconds } = this.#context;
		const { channelId, payer } = channel;
		const { closeRequestedAt } = chainNow(channel);
		const key = `${reason}:${channelId}:${closeRequestedAt}`;
		if (this.#told.has(key)) return;
		this.#told.set(key, true);
		const owed = unsettled(channel);
		const until = new Date((closeRequestedAt + closeGraceSeconds) * 1_000).toISOString();
		log[reason === "late" ? "error" : "warn"]({ channelId, unsettled: String(owed), until }, message);
		listeners.tell("onAtRisk", { channelId, payer, unsettled: owed, reason });
	}

	#fault(error: unknown): undefined {
		const { log, terms } = this.#context;
		log.warn({ currency: terms.currency, reason: describeError(error) }, "settlement has to wait");
		return undefined;
	}
}
