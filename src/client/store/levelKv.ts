import { type Entry, type Kv, type Operations, type Range, textOf } from "./kv.ts";
import { unavailable } from "./unavailable.ts";

/**
 * A database of the `abstract-level` kind, with keys and values of text: `Level` and `ClassicLevel` in Node, `BrowserLevel` in
 * browsers.
 */
export interface LevelDatabase {
	open(): Promise<void>;
	close(): Promise<void>;
	get(key: string): Promise<string | undefined>;
	iterator(range: { gt: string; lt: string; limit?: number; reverse?: boolean }): {
		all(): Promise<[string, string][]>;
	};
	batch(
		operations: ({ type: "put"; key: string; value: string } | { type: "del"; key: string })[],
		options: { sync: boolean },
	): Promise<void>;
}

/** A book's texts in a Level database. */
export class LevelKv implements Kv {
	readonly #db: LevelDatabase;
	readonly #afterClose: () => void;

	constructor(db: LevelDatabase, afterClose: () => void = () => {}) {
		this.#db = db;
		this.#afterClose = afterClose;
	}

	async get(keys: readonly string[]): Promise<readonly (string | undefined)[]> {
		// Not `getMany`: the one of browser-level shows a key that can't be read as missing, and a count would begin anew.
		return await attempt(Promise.all(keys.map((key) => this.#db.get(key))));
	}

	async entries(range: Range): Promise<readonly Entry[]> {
		return await attempt(this.#db.iterator(range).all());
	}

	async write(operations: Operations, isSynced: boolean): Promise<void> {
		const all = [...operations].map(([key, value]) =>
			value === null ? { type: "del" as const, key } : { type: "put" as const, key, value: textOf(value) },
		);
		await attempt(this.#db.batch(all, { sync: isSynced }));
	}

	async close(): Promise<void> {
		await attempt(this.#db.close().finally(this.#afterClose));
	}
}

async function attempt<T>(task: Promise<T>): Promise<T> {
	try {
		return await task;
	} catch (cause) {
		throw unavailable(cause);
	}
}
