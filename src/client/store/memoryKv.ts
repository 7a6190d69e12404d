import { type Entry, type Kv, type Operations, type Range, type Text, textOf } from "./kv.ts";

/** A book's texts in memory, gone with the process. */
export class MemoryKv implements Kv {
	readonly #texts = new Map<string, Text>();
	/** The same keys in order. */
	readonly #keys: string[] = [];

	async get(keys: readonly string[]): Promise<readonly (string | undefined)[]> {
		return keys.map((key) => (this.#texts.has(key) ? this.#textAt(key) : undefined));
	}

	async entries({ gt, lt, limit = Number.POSITIVE_INFINITY, reverse = false }: Range): Promise<readonly Entry[]> {
		let [from, to] = [this.#place(gt), this.#place(lt)];
		if (this.#keys[from] === gt) from++;
		if (reverse) from = Math.max(from, to - limit);
		else to = Math.min(to, from + limit);
		const keys = this.#keys.slice(from, to);
		if (reverse) keys.reverse();
		return keys.map((key) => [key, this.#textAt(key)]);
	}

	async write(operations: Operations): Promise<void> {
		for (const [key, text] of operations) {
			// Most writes change what is there, and its place among the keys stays.
			if (text !== null && this.#texts.has(key)) {
				this.#texts.set(key, text);
				continue;
			}
			const place = this.#place(key);
			const isThere = this.#keys[place] === key;
			if (text === null) {
				if (isThere) this.#keys.splice(place, 1);
				this.#texts.delete(key);
			} else {
				if (!isThere) this.#keys.splice(place, 0, key);
				this.#texts.set(key, text);
			}
		}
	}

	async close(): Promise<void> {}

	/** Made once, when it is asked for first. */
	#textAt(key: string): string {
		const text = textOf(this.#texts.get(key) ?? "");
		this.#texts.set(key, text);
		return text;
	}

	/** Where `key` is among the keys, or would be. */
	#place(key: string): number {
		let [low, high] = [0, this.#keys.length];
		while (low < high) {
			const middle = (low + high) >>> 1;
			if ((this.#keys[middle] ?? "") < key) low = middle + 1;
			else high = middle;
		}
		return low;
	}
}
