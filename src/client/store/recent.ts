import { LRUCache } from "lru-cache";
import type { Told } from "./rounds.ts";

/** How many values are remembered: of a payer's channels and counts all, unless it has a great many. */
const MAX_VALUES = 4_096;

/**
 * What was written last, and the pause: asked for before every payment, and about 150 microseconds to read again. It knows only
 * what went to the disk through it, so it is never behind what anybody was told; what it does not know is read. Only for a book
 * that has its database alone.
 */
export class Recent {
	readonly #values: LRUCache<string, object>;
	#pause: Told["pause"];

	constructor({ max = MAX_VALUES }: Readonly<{ max?: number }> = {}) {
		this.#values = new LRUCache({ max });
	}

	value(key: string): unknown {
		return this.#values.get(key);
	}

	/** `undefined` where it is to be read. */
	get pause(): Told["pause"] {
		return this.#pause;
	}

	/** Takes what a turn has written, or, where it is not known whether it was, forgets what that concerns. */
	written({ values, pause }: Told, isWritten: boolean): void {
		for (const [key, value] of values) {
			if (isWritten && typeof value === "object" && value !== null) this.#values.set(key, value);
			else this.#values.delete(key);
		}
		if (pause !== undefined) this.#pause = isWritten ? pause : undefined;
	}
}
