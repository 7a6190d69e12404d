import { setImmediate } from "node:timers";
import type { Found } from "./disk.ts";

type Group = Readonly<{ keys: Set<string>; done: Promise<void> }>;

/**
 * Reads ahead, so that the event loop need not wait for the disk. Whatever is asked for while one group is being read
 * goes into the next one: never more than one of the threads that also write is busy reading for it.
 */
export class Prefetch {
	readonly #read: (keys: readonly string[]) => Promise<readonly Found[]>;
	readonly #onFound: (key: string, found: Found) => void;
	readonly #reading = new Map<string, Group>();
	#next: Group | undefined;
	#last: Promise<void> = Promise.resolve();

	/** @param onFound gets what was read, unless the key was written after its reading began */
	constructor(
		read: (keys: readonly string[]) => Promise<readonly Found[]>,
		onFound: (key: string, found: Found) => void,
	) {
		this.#read = read;
		this.#onFound = onFound;
	}

	/** Resolves when `key` was read, or trying to failed. */
	async load(key: string): Promise<void> {
		let group = this.#reading.get(key);
		if (group === undefined) {
			group = this.#next ??= this.#open();
			group.keys.add(key);
			this.#reading.set(key, group);
		}
		await group.done;
	}

	/** `key` is being written: what was read of it, and is not handed over yet, is old. */
	forget(key: string): void {
		this.#reading.delete(key);
	}

	#open(): Group {
		const keys = new Set<string>();
		const done = this.#run(keys, this.#last);
		this.#last = done;
		return { keys, done };
	}

	async #run(keys: Set<string>, previous: Promise<void>): Promise<void> {
		await new Promise<void>((resolve) => setImmediate(resolve));
		await previous;
		this.#next = undefined;
		const asked = [...keys];
		const found = await this.#read(asked);
		for (const [i, key] of asked.entries()) {
			if (this.#reading.get(key)?.keys !== keys) continue;
			this.#reading.delete(key);
			this.#onFound(key, found[i]);
		}
	}
}
