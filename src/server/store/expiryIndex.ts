/**
 * Which records expire when: one entry names all that a batch has written and that expire in the same second. An entry for each
 * record would be a sixth of what LevelDB does for a paid request.
 *
 *     xp:0001795873920000:… -> ["i:zzMB…","i:V5qU…"]
 *
 * An entry is never taken back. Where a record has got another time since, or is gone, it says nothing; what counts is the record.
 */
import { open, seal } from "./frame.ts";
import type { Batch, Written } from "./groupCommit.ts";
import * as keys from "./keys.ts";
import { shaped, texts } from "./shape.ts";

/** Longer than most batches take; short, for what has not expired yet is looked at again. */
const SECOND_MS = 1_000;

/** What an entry names at most. */
const MOST_NAMED = 256;

/** What expires, in Unix ms. */
export type Expiring = Readonly<{ key: string; expiresAt: number }>;

/** Whether the entry of a record that expired then names it now too. */
export function isNamedAlready(before: number | null, now: number): boolean {
	return before !== null && secondOf(before) === secondOf(now);
}

function secondOf(ms: number): number {
	return Math.floor(ms / SECOND_MS);
}

export class ExpiryIndex {
	readonly #opens: number;
	#entries = 0;
	#batch = 0;
	/** Of that batch: what its latest entry of each second names. */
	#named = new Map<number, string[]>();

	/** @param opens how often the store has been opened: it keeps the entries of one run apart from those of others. */
	constructor(opens: number) {
		this.#opens = opens;
	}

	/** That this record is written in this batch, which is open. What comes of it has to be written there too. */
	note({ key, expiresAt }: Expiring, { number }: Batch): readonly (readonly [key: string, value: Written])[] {
		if (number !== this.#batch) {
			this.#batch = number;
			this.#named = new Map();
		}
		const second = secondOf(expiresAt);
		const named = this.#named.get(second);
		if (named !== undefined && named.length < MOST_NAMED) {
			named.push(key);
			return [];
		}
		const first = [key];
		this.#named.set(second, first);
		const entry = keys.expiryEntryKey(second * SECOND_MS, this.#opens, ++this.#entries);
		return [[entry, () => seal(entry, first)]];
	}
}

/** What an entry that was found says: the records it names, each once, and whether one that expires then is still named by it. */
export type ExpiryEntry = Readonly<{ entry: string; named: readonly string[]; names(expiresAt: number): boolean }>;

/** @throws CorruptRecordError when it is damaged */
export function readExpiryEntry(entry: string, framed: string): ExpiryEntry {
	const second = secondOf(keys.expiryOf(entry));
	const names = (expiresAt: number) => secondOf(expiresAt) === second;
	// Of earlier releases: it names one record, by its own key.
	if (framed === "") return { entry, named: [keys.indexedKey(entry, 1)], names };
	return { entry, named: [...new Set(shaped(entry, () => texts(open(entry, framed))))], names };
}
