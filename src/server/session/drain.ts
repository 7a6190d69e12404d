import type { Hex } from "viem";

/** Lets a close wait until the requests that run on its channel have finished (D6). */
export class Drains {
	readonly #waiting = new Map<Hex, Set<() => void>>();

	/** The ledger says that nothing runs on the channel any more. */
	drained(channelId: Hex): void {
		for (const wake of this.#waiting.get(channelId) ?? []) wake();
	}

	/** `done` resolves when the channel is drained, after `deadlineMs`, or on `stop`. Listens from the call on. */
	listen(channelId: Hex, deadlineMs: number): Readonly<{ done: Promise<void>; stop: () => void }> {
		const { promise, resolve } = Promise.withResolvers<void>();
		const waiters = this.#waiting.get(channelId) ?? new Set();
		this.#waiting.set(channelId, waiters);
		const stop = () => {
			clearTimeout(timer);
			waiters.delete(stop);
			if (waiters.size === 0) this.#waiting.delete(channelId);
			resolve();
		};
		const timer = setTimeout(stop, deadlineMs);
		waiters.add(stop);
		return { done: promise, stop };
	}
}
