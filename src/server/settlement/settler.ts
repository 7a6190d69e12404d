import type { Hex } from "viem";
import { type Channel, chainNow, owes, reserved } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { describeError } from "../describeError.ts";
import { AtRisk } from "./atRisk.ts";
import { Backoff } from "./backoff.ts";
import { type Candidate, findClosing, findDue } from "./candidates.ts";
import { deferAll } from "./defer.ts";
import { mayBeWorth } from "./economics.ts";
import { PriceReader, type Prices } from "./market.ts";
import type { Result } from "./outcome.ts";
import { Pass } from "./pass.ts";
import { batchLimits, planSettlement, type SettlementPlan } from "./plan.ts";
import { isOpen, type SettlementSettings } from "./policy.ts";
import { RiskTeller } from "./risks.ts";
import { type SettlementRun, sendSteps, summary } from "./run.ts";
import { busyChannels, isOurs, type Target, targetOf } from "./targets.ts";

/** How many channels wait to be settled at once; the store knows them all, this only makes it quick. */
const MOST_URGENT = 10_000;

/** How often a channel that can't wait is tried in a row where only the node is at fault, and when it is tried again then. */
const URGENT_ATTEMPTS = 5;
const URGENT_PAUSE_MS = 500;
const URGENT_AGAIN_MS = 5_000;

/** Which part of the grace period may pass until channels at risk are looked for again. */
const CLOSING_PART = 20;

/** After how many failures in a row a channel is looked at again only when it has been due once more. */
const DEFER_AFTER = 6;

/** What is not worth it now, and would not be if gas cost this many times less, is dust. */
const SPIKE = 10n;

/** How many times as long as a look at what is due took the timer leaves it alone afterwards: others want the disk, too. */
const REST = 9;

/**
 * Settles and closes the channels of one token when they are due: those whose payers have asked the chain to close at once,
 * the others as the policy says. Timers drive it; no request ever waits for it.
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
	readonly #risks: RiskTeller;
	readonly #atRisk: AtRisk;
	readonly #urgent = new Set<Hex>();
	/** What may be lost, and what can wait: the first never waits for the second. */
	readonly #closingPass = new Pass(() => this.#attempt(() => this.#closing()));
	readonly #duePass = new Pass(() => this.#attempt(() => this.#due()));
	#timers: readonly NodeJS.Timeout[] = [];
	#hurrying: Promise<void> | undefined;
	#isStopping = false;
	/** On the process's own clock, in ms. */
	#restUntil = 0;

	constructor(context: EngineContext, settings: SettlementSettings) {
		this.#context = context;
		this.#settings = settings;
		this.#prices = new PriceReader(context, settings);
		this.#backoff = new Backoff(context.limits.settleEveryMs);
		this.#risks = new RiskTeller(context);
		const { prices, backoff, risks } = { prices: this.#prices, backoff: this.#backoff, risks: this.#risks };
		this.#atRisk = new AtRisk({ context, settings, prices, backoff, risks, send: (steps) => this.#send(steps) });
	}

	/** Looks at once, and then every `limits.settleEveryMs`; for what may be lost every twentieth of the grace period at least. */
	start(): void {
		if (this.#timers.length > 0 || this.#isStopping) return;
		const { settleEveryMs } = this.#context.limits;
		const closingEveryMs = Math.max(1, Math.min(settleEveryMs, this.#graceMs / CLOSING_PART));
		this.#timers = [
			setInterval(() => void this.#closingPass.begin(), closingEveryMs).unref(),
			setInterval(() => {
				if (performance.now() >= this.#restUntil) void this.#duePass.begin();
			}, settleEveryMs).unref(),
		];
		void this.run();
	}

	/** The payer asked the chain to close: settles and closes at once (I9). Never throws. Before `start` that is left to the first run. */
	urgent({ channelId }: Channel): void {
		if (this.#timers.length === 0 || this.#isStopping || this.#urgent.size >= MOST_URGENT) return;
		this.#urgent.add(channelId);
		this.#beginHurrying();
	}

	/**
	 * One look at everything that is due; behind the one under way, which may have passed over what became due meanwhile.
	 * What can't wait and was begun before is done when it resolves. Never rejects: what goes wrong is logged and tried again.
	 */
	async run(): Promise<SettlementRun> {
		const results = [...(await this.#closingPass.next()), ...(await this.#duePass.next())];
		await this.#hurrying;
		return summary(results);
	}

	/** Begins nothing new; resolves when what runs has ended, or at the deadline: then the next start takes it up. */
	async stop(deadlineMs: number): Promise<void> {
		this.#isStopping = true;
		for (const timer of this.#timers) clearInterval(timer);
		const { promise: late, resolve } = Promise.withResolvers<void>();
		const timer = setTimeout(resolve, deadlineMs);
		await Promise.race([Promise.all([this.#closingPass.idle(), this.#duePass.idle(), this.#hurrying]), late]);
		clearTimeout(timer);
	}

	get #graceMs(): number {
		return this.#context.closeGraceSeconds * 1_000;
	}

	async #attempt(work: () => Promise<readonly Result[]>): Promise<readonly Result[]> {
		if (this.#isStopping) return [];
		return (await work().catch((error: unknown) => this.#fault(error))) ?? [];
	}

	#beginHurrying(): void {
		this.#hurrying ??= this.#hurry()
			.catch((error: unknown) => this.#fault(error))
			.finally(() => {
				this.#hurrying = undefined;
				if (this.#urgent.size === 0 || this.#isStopping) return;
				setTimeout(() => this.#beginHurrying(), URGENT_AGAIN_MS).unref();
			});
	}

	/** Those that were asked for since the last time, until none is left; those that the node can't be asked for later again. */
	async #hurry(): Promise<void> {
		const left = new Set<Hex>();
		while (this.#urgent.size > 0 && !this.#isStopping) {
			let waiting = [...this.#urgent];
			// Before anything is waited for: what is asked for meanwhile comes next.
			this.#urgent.clear();
			for (let attempt = 1; waiting.length > 0 && attempt <= URGENT_ATTEMPTS && !this.#isStopping; attempt++) {
				if (attempt > 1) await new Promise((resolve) => setTimeout(resolve, URGENT_PAUSE_MS * attempt).unref());
				const results = await this.#atRisk
					.bringIn(await this.#channels(waiting))
					.catch((error: unknown) => this.#fault(error));
				if (results === undefined) continue;
				waiting = results.filter(({ fault }) => fault === "node").map(({ row }) => row.channelId);
			}
			for (const channelId of waiting) left.add(channelId);
		}
		for (const channelId of left) this.#urgent.add(channelId);
	}

	async #channels(channelIds: readonly Hex[]): Promise<readonly Channel[]> {
		const found: Channel[] = [];
		for (const channelId of channelIds) {
			const channel = await this.#context.store.channel(channelId).catch(() => undefined);
			if (channel !== undefined && isOurs(this.#context, channel) && owes(channel)) found.push(channel);
		}
		return found;
	}

	/** What may be lost when the grace period is over, whatever the time of the day. */
	async #closing(): Promise<readonly Result[]> {
		const channels = await findClosing(this.#context, (channel) => {
			this.#risks.tellLate(channel);
			return this.#atRisk.isReady(channel);
		});
		return this.#atRisk.bringIn(channels);
	}

	/** What the policy says, if it is the time for it. */
	async #due(): Promise<readonly Result[]> {
		const { now } = this.#context;
		if (!isOpen(this.#settings, now())) return [];
		const begun = performance.now();
		const { candidates, isCrowded } = await findDue(this.#context, this.#settings, this.#backoff, now());
		this.#restUntil = performance.now() + REST * (performance.now() - begun);
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
			close: free
				.filter(({ close }) => close)
				.map(({ channel }) => targetOf(channel, { whenIdle: true, single: this.#backoff.isSingle(channel.channelId) })),
			settle: free
				.filter(({ close }) => !close)
				.map(({ channel }) =>
					targetOf(channel, { whenIdle: false, single: this.#backoff.isSingle(channel.channelId) }),
				),
		};
		const { steps, rest } = await planSettlement(this.#context, wanted, bar, prices.market, limits);
		await this.#putOff(rest, free, prices, isCrowded);
		return this.#send(steps);
	}

	/** Whether requests of this process run on the channel: what others have promised is void. */
	#isRunning({ reservations }: Channel): boolean {
		return Object.keys(reservations).some((owner) => !this.#context.store.isGone(owner));
	}

	async #send(steps: SettlementPlan["steps"]): Promise<readonly Result[]> {
		const results: Result[] = [];
		await sendSteps(this.#context, steps, {
			isStopping: () => this.#isStopping,
			onResults: (more) => {
				results.push(...more);
				for (const result of more) this.#learn(result);
			},
		});
		// Each would stand before others for nothing.
		const isHopeless = ({ row, fault }: Result) =>
			fault === "row" && this.#backoff.failuresOf(row.channelId).failures % DEFER_AFTER === 0;
		await this.#deferAll(results.filter(isHopeless).map(({ target }) => target));
		return results;
	}

	#learn(result: Result): void {
		const { fault, row, target } = result;
		if (fault === "account") this.#risks.tellNoFunds(row.reason ?? "");
		// Where the payer has asked to close, each run looks at what gas costs then.
		const isAtRisk = chainNow(target.channel).closeRequestedAt !== 0;
		if (!(fault === "fees" && isAtRisk)) this.#backoff.note(result, this.#context.now());
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
		await this.#deferAll(dust);
		const owing = dust.filter(({ value }) => value > 0n);
		if (owing.length === 0) return;
		const sum = owing.reduce((total, { value }) => total + value, 0n);
		const values = { channels: owing.length, unsettled: String(sum) };
		this.#context.log.info(values, "channels owe less than it costs to settle them; they are left for later");
	}

	#deferAll(targets: readonly Target[]): Promise<void> {
		const channelIds = targets.map(({ channel }) => channel.channelId);
		return deferAll(this.#context, channelIds, (error) => this.#fault(error));
	}

	#fault(error: unknown): undefined {
		const { log, terms } = this.#context;
		log.warn({ currency: terms.currency, reason: describeError(error) }, "settlement has to wait");
		return undefined;
	}
}
