import { LRUCache } from "lru-cache";
import type { Operations } from "./kv.ts";
import type { Paused } from "./rounds.ts";

/** How many values are remembered: of a payer's channels and counts all, unless it has a great many. */
const MAX_VALUES = 4_096;

/**
 * What was written last, and the pause: asked for before every payment, and about 150 microseconds to read again. It knows only
 * what is on disk, so it is never behind what anybody was told; what it does not know is read. Only for a book that has its
 * database alone.
 */
export class Recent {
	readonly #values: LRUCache<string, object>;
	#pause: Paused | undefined;

	constructor({ max = MAX_VALUES }: Readonly<{ max?: number }> = {}) {
		this.#values = new LRUCache({ max });
	}

	value(key: string): object | undefined {
		return this.#values.get(key);
	}

	/** `undefined` where it is to be read. */
	get pause(): Paused | undefined {
		return this.#pause;
	}

	/** That is on disk. */
	written(operations: Operations, pause: Paused | undefined): void {
		for (const [key, text] of operations) {
			const value = text === null || typeof text === "string" ? undefined : text.value;
			if (value === undefined) this.#values.delete(key);
			else this.#values.set(key, value);
		}
		this.#pause = pause ?? this.#pause;
	}

	/** That was on disk before what is told next. */
	read(values: ReadonlyMap<string, object>): void {
		for (const [key, value] of values) this.#values.set(key, value);
	}

	/** That may be on disk, or may not. */
	forget(operations: Operations, pause: Paused | undefined): void {
		for (const key of operations.keys()) this.#values.delete(key);
		if (pause !== undefined) this.#pause = undefined;
	}
}
