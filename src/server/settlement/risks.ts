import { LRUCache } from "lru-cache";
import { type Channel, chainNow, unsettled } from "../channel.ts";
import type { EngineContext } from "../context.ts";

/** How many risks are remembered as told. */
const TOLD = 100_000;

/** How often it is logged that the account has no gas money. */
const LOG_EVERY_MS = 60_000;

/** Tells application and operator of money that may be lost: of each close request once, why. */
export class RiskTeller {
	readonly #context: EngineContext;
	readonly #told = new LRUCache<string, true>({ max: TOLD });
	#noFundsLoggedAt = Number.NEGATIVE_INFINITY;

	constructor(context: EngineContext) {
		this.#context = context;
	}

	tellUneconomic(channel: Channel): void {
		this.#tellOnce(channel, "uneconomic", "a close was requested, and what the channel owes is not worth the gas");
	}

	/** A quarter of the grace period is long for what takes one transaction. */
	tellLate(channel: Channel): void {
		const { closeRequestedAt } = chainNow(channel);
		const { closeGraceSeconds, now } = this.#context;
		if (closeRequestedAt === 0 || now() < (closeRequestedAt + closeGraceSeconds / 4) * 1_000) return;
		this.#tellOnce(channel, "late", "a close was requested a while ago, and what the channel owes is not on chain yet");
	}

	/** Nothing can be sent, whatever the channel: said again and again until the account is funded. */
	tellNoFunds(reason: string): void {
		const { log, now, sender, terms } = this.#context;
		const since = now() - this.#noFundsLoggedAt;
		if (since >= 0 && since < LOG_EVERY_MS) return;
		this.#noFundsLoggedAt = now();
		const values = { account: sender, chainId: terms.chainId, reason };
		log.error(values, "nothing can be settled or closed: the account that sends transactions can't pay for their gas");
	}

	#tellOnce(channel: Channel, reason: "uneconomic" | "late", message: string): void {
		const { log, listeners, closeGraceSeconds } = this.#context;
		const { channelId, payer } = channel;
		const { closeRequestedAt } = chainNow(channel);
		// Closed for another reason than a request of the payer's.
		if (closeRequestedAt === 0) return;
		const key = `${reason}:${channelId}:${closeRequestedAt}`;
		if (this.#told.has(key)) return;
		this.#told.set(key, true);
		const owed = unsettled(channel);
		const until = new Date((closeRequestedAt + closeGraceSeconds) * 1_000).toISOString();
		log[reason === "late" ? "error" : "warn"]({ channelId, unsettled: String(owed), until }, message);
		listeners.tell("onAtRisk", { channelId, payer, unsettled: owed, reason });
	}
}
