import type { Hex } from "viem";

/** Wakes who waits for a channel's next voucher, at once. Nobody polls. */
export class Wakes {
	readonly #waiting = new Map<Hex, Set<() => void>>();

	/** How many wait: 0 when nothing streams. */
	get size(): number {
		let size = 0;
		for (const waiting of this.#waiting.values()) size += waiting.size;
		return size;
	}

	/** Whether anybody waits for this channel. */
	has(channelId: Hex): boolean {
		return this.#waiting.has(channelId);
	}

	/** The channel has more to spend, or its deposit has grown. */
	wake(channelId: Hex): void {
		for (const wake of [...(this.#waiting.get(channelId) ?? [])]) wake();
	}

	/** Calls `wake` with each change from now on; returns an end to it. */
	listen(channelId: Hex, wake: () => void): () => void {
		const waiting = this.#waiting.get(channelId) ?? new Set();
		this.#waiting.set(channelId, waiting);
		// One entry for each call, also where the same function listens twice.
		const entry = () => wake();
		waiting.add(entry);
		return () => {
			waiting.delete(entry);
			if (waiting.size === 0 && this.#waiting.get(channelId) === waiting) this.#waiting.delete(channelId);
		};
	}
}
