import { LRUCache } from "lru-cache";

export type RateLimitOptions = Readonly<{
	/** How many in a second, on average and at once; at once at least one. */
	perSecond: number;
	/** How many keys are remembered, the least recently used forgotten first. */
	keys: number;
	/** Unix milliseconds. */
	now: () => number;
}>;

type Bucket = { left: number; at: number };

/** A token bucket for each key: `perSecond` at once, refilled evenly. Memory is bounded. */
export class RateLimit {
	readonly #options: RateLimitOptions;
	readonly #buckets: LRUCache<string, Bucket>;

	constructor(options: RateLimitOptions) {
		this.#options = options;
		this.#buckets = new LRUCache({ max: options.keys });
	}

	/** Takes one. @returns 0, or how many seconds to wait where there is none left */
	take(key: string): number {
		const { perSecond, now } = this.#options;
		const at = now();
		const most = Math.max(1, perSecond);
		const bucket = this.#buckets.get(key) ?? { left: most, at };
		// A clock that went back gives nothing.
		const refilled = Math.max(0, at - bucket.at) * (perSecond / 1_000);
		bucket.left = Math.min(most, bucket.left + refilled);
		bucket.at = at;
		this.#buckets.set(key, bucket);
		if (bucket.left < 1) return (1 - bucket.left) / perSecond;
		bucket.left -= 1;
		return 0;
	}
}
