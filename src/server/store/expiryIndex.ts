/**
 * Which records expire when: one entry names all that a batch has written and that expire in the same second. An entry for each
 * record would be one write more for each answer that is kept.
 *
 *     xs:0001795873920000:… -> ["i:zzMB…","i:V5qU…"]
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

/** What may expire, in Unix ms; `null`: never. */
export type Timed = Readonly<{ expiresAt: number | null }>;

/** What expires. */
export type Expiring = Readonly<{ key: string; expiresAt: number }>;

/** Whether the entry of a record as it was names it now too. */
export function isNamedAlready(before: Timed | undefined, now: number): boolean {
	const expired = before?.expiresAt ?? null;
	return expired !== null && secondOf(expired) === secondOf(now);
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

/** What an entry that was found says: the records it names, and whether it is still the one of a record that expires then. */
export type ExpiryEntry = Readonly<{ entry: string; named: readonly string[]; names(expiresAt: number): boolean }>;

/** @throws CorruptRecordError when it is damaged */
export function readExpiryEntry(entry: string, framed: string): ExpiryEntry {
	return entryOf(
		entry,
		shaped(entry, () => texts(open(entry, framed))),
	);
}

/** One of earlier releases: it names one record, by its own key. */
export function readSingleEntry(entry: string): ExpiryEntry {
	return entryOf(entry, [keys.indexedKey(entry, 1)]);
}

function entryOf(entry: string, named: readonly string[]): ExpiryEntry {
	const second = secondOf(keys.expiryOf(entry));
	return { entry, named, names: (expiresAt) => secondOf(expiresAt) === second };
}
