import type { PayerChannel } from "./channel.ts";
import { orAborted } from "./orAborted.ts";

/** Who may do what with a channel at the same time: one opens or closes a key, many pay on its channel. */
export class Turns {
	/** An opening or a closing, one at a time per key: whoever else needs the channel waits for it. */
	readonly #turns = new Map<string, Promise<unknown>>();
	/** Requests on their way. */
	readonly #running = new WeakMap<PayerChannel, Set<Promise<unknown>>>();
	readonly #onEnd: (ended: Readonly<{ key: string } | { channel: PayerChannel }>) => void;

	/** @param onEnd - hears of every turn and request that has ended */
	constructor(onEnd: (ended: Readonly<{ key: string } | { channel: PayerChannel }>) => void) {
		this.#onEnd = onEnd;
	}

	isBusy(key: string): boolean {
		return this.#turns.has(key);
	}

	/** Resolves when the opening or closing of a key is over, however it ended. Look again: others waited too. */
	async free(key: string, signal?: AbortSignal): Promise<void> {
		const turn = this.#turns.get(key)?.catch(() => undefined);
		await orAborted(Promise.resolve(turn), signal);
	}

	/** Opens or closes a key; only while it is not busy. */
	alone<T>(key: string, task: () => Promise<T>): Promise<T> {
		const turn = task().finally(() => {
			this.#turns.delete(key);
			this.#onEnd({ key });
		});
		this.#turns.set(key, turn);
		return turn;
	}

	/** Lets `drained` know of a request on its way. */
	run<T>(channel: PayerChannel, task: Promise<T>): Promise<T> {
		const running = this.#running.get(channel) ?? new Set();
		this.#running.set(channel, running);
		const ended = task.finally(() => {
			running.delete(ended);
			this.#onEnd({ channel });
		});
		running.add(ended);
		return ended;
	}

	isRunning(channel: PayerChannel): boolean {
		return (this.#running.get(channel)?.size ?? 0) > 0;
	}

	/** Resolves when no request is on its way on the channel. */
	async drained(channel: PayerChannel): Promise<void> {
		const running = this.#running.get(channel) ?? new Set();
		while (running.size > 0) await Promise.allSettled(running);
	}
}
