import { LRUCache } from "lru-cache";
import type { Hex } from "viem";
import type { Result } from "./outcome.ts";

/** How many channels are remembered; of one that is forgotten the chain says again what is wrong. */
const REMEMBERED = 100_000;

const LONGEST_MS = 3_600_000;

/** How many times the first pause those wait at most whose trouble is not their own: gas gets cheaper at any time. */
const MOST_PAUSES = 16;

/** A channel that could not be settled or closed. */
type Trouble = Readonly<{
	failures: number;
	/** Unix ms of the last failure. */
	at: number;
	pauseMs: number;
	/** What it was in failed as a whole: next time it goes by itself. */
	single: boolean;
	/** What its failures have cost. */
	burntWei: bigint;
}>;

/** Remembers which channels could not be settled, so that they are tried again, less and less often. */
export class Backoff {
	readonly #troubles = new LRUCache<Hex, Trouble>({ max: REMEMBERED });
	readonly #firstMs: number;

	/** @param firstMs how long the first pause is; each further one is twice as long, up to an hour. */
	constructor(firstMs: number) {
		this.#firstMs = firstMs;
	}

	/** Learns from what became of a channel. */
	note({ row, fault, burntWei = 0n }: Result, now: number): void {
		const { channelId, outcome } = row;
		if (outcome === "settled" || outcome === "closed") this.#troubles.delete(channelId);
		// The node's faults are not the channel's, nor are the account's.
		if (fault === undefined || fault === "node" || fault === "account") return;
		const before = this.#troubles.get(channelId);
		const failures = (before?.failures ?? 0) + 1;
		const isItsOwn = fault === "row" || fault === "transaction";
		const longest = isItsOwn ? LONGEST_MS : Math.min(MOST_PAUSES * this.#firstMs, LONGEST_MS);
		const pauseMs = Math.min(this.#firstMs * 2 ** Math.min(failures - 1, 30), longest);
		this.#troubles.set(channelId, {
			failures,
			at: now,
			pauseMs,
			single: fault === "transaction",
			burntWei: (before?.burntWei ?? 0n) + burntWei,
		});
	}

	/**
	 * Whether it has to wait longer.
	 *
	 * @param longestMs how long it can wait at most
	 */
	isHeldBack(channelId: Hex, now: number, longestMs = LONGEST_MS): boolean {
		const trouble = this.#troubles.get(channelId);
		if (trouble === undefined) return false;
		const waited = now - trouble.at;
		// A clock that was set back says nothing.
		return waited >= 0 && waited < Math.min(trouble.pauseMs, longestMs);
	}

	/** How often in a row it could not be settled, what that has cost, and when it was last (Unix ms). */
	failuresOf(channelId: Hex): Pick<Trouble, "failures" | "at" | "burntWei"> {
		return this.#troubles.get(channelId) ?? { failures: 0, at: 0, burntWei: 0n };
	}

	/** Whether it goes by itself the next time. */
	isSingle(channelId: Hex): boolean {
		return this.#troubles.get(channelId)?.single ?? false;
	}

	/** It was not worth going by itself: with others again. */
	forgiveSingle(channelId: Hex): void {
		const trouble = this.#troubles.get(channelId);
		if (trouble?.single) this.#troubles.set(channelId, { ...trouble, single: false });
	}
}
