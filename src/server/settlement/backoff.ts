import { LRUCache } from "lru-cache";
import type { Hex } from "viem";
import type { Result } from "./outcome.ts";

/** How many channels are remembered; of one that is forgotten the chain says again what is wrong. */
const REMEMBERED = 10_000;

const LONGEST_MS = 3_600_000;

/** A channel that could not be settled or closed. */
type Trouble = Readonly<{
	failures: number;
	/** Unix ms. */
	notBefore: number;
	/** What it was in failed as a whole: next time it goes by itself. */
	single: boolean;
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
	note({ row, fault }: Result, now: number): void {
		const { channelId, outcome } = row;
		if (outcome === "settled" || outcome === "closed") this.#troubles.delete(channelId);
		// The node's faults are not the channel's.
		if (fault === undefined || fault === "node") return;
		const failures = (this.#troubles.get(channelId)?.failures ?? 0) + 1;
		const pauseMs = Math.min(this.#firstMs * 2 ** Math.min(failures - 1, 30), LONGEST_MS);
		this.#troubles.set(channelId, { failures, notBefore: now + pauseMs, single: fault === "transaction" });
	}

	/** Whether what can wait has to wait longer. */
	isHeldBack(channelId: Hex, now: number): boolean {
		return now < (this.#troubles.get(channelId)?.notBefore ?? 0);
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
