import { type Disk, pages, readMany, unavailable } from "./disk.ts";
import { type ExpiryEntry, readExpiryEntry, readSingleEntry, type Timed } from "./expiryIndex.ts";
import type { Batch, GroupCommit } from "./groupCommit.ts";
import * as keys from "./keys.ts";
import { CorruptRecordError } from "./store.ts";
import type { Change } from "./turn.ts";

/** What is deleted at a time. */
const PAGE = 1_000;

/** How many records that expire are looked at in one step: as many as one entry names at most. */
const PORTION = 256;

type Table = Readonly<{
	peek(key: string): Timed | undefined;
	write(key: string, deleted: null, batch: Batch): void;
}>;

type PruneOptions = Readonly<{
	disk: Disk;
	commit: GroupCommit;
	/** The table that a record's key belongs to. */
	tableOf: (key: string) => Table;
	/** This proof is gone. */
	onGone: (key: string) => void;
	/** This entry can't be read. */
	onCorrupt: (error: CorruptRecordError) => void;
	/** This record expired, and can't be read: it is left where it is. */
	onDamaged: (key: string) => void;
	/** Throws when the store was closed or failed meanwhile. */
	checkUsable: () => void;
}>;

/** Deletes what expired before `now`, step by step. Resolves to how many records, when that is on disk. */
export async function prune(options: PruneOptions, now: number): Promise<number> {
	const many = await pruneBy(options, now, keys.expiredBefore(now), readExpiryEntry);
	return many + (await pruneBy(options, now, keys.expiredSinglyBefore(now), readSingleEntry));
}

type Read = (entry: string, framed: string) => ExpiryEntry;

async function pruneBy(options: PruneOptions, now: number, range: keys.Range, read: Read): Promise<number> {
	let pruned = 0;
	for await (const { entries } of pages(options.disk, range)) {
		for (const some of inPortions(entries, (entry) => readable(entry, read, options.onCorrupt))) {
			// Only to have the pages in memory: what counts is what the step below reads.
			await readMany(
				options.disk,
				some.flatMap(({ named }) => named),
			);
			options.checkUsable();
			const { batch, count } = deleteExpired(options, some, now);
			await batch?.durable;
			pruned += count;
		}
	}
	return pruned;
}

/** A damaged entry is left where it is; what it named can't be found by it. */
function readable(
	[entry, framed]: readonly [string, string],
	read: Read,
	onCorrupt: (error: CorruptRecordError) => void,
): ExpiryEntry | undefined {
	try {
		return read(entry, framed);
	} catch (error) {
		if (!(error instanceof CorruptRecordError)) throw error;
		onCorrupt(error);
		return undefined;
	}
}

/** Entries, as they are read, that together name few enough records for one step. */
function* inPortions<T>(
	entries: readonly T[],
	read: (entry: T) => ExpiryEntry | undefined,
): Generator<readonly ExpiryEntry[]> {
	let portion: ExpiryEntry[] = [];
	let named = 0;
	for (const one of entries) {
		const entry = read(one);
		if (entry === undefined) continue;
		if (named > 0 && named + entry.named.length > PORTION) {
			yield portion;
			portion = [];
			named = 0;
		}
		portion.push(entry);
		named += entry.named.length;
	}
	if (portion.length > 0) yield portion;
}

/**
 * Deletes dated proofs whose time came before `now`, unread: nobody writes them any more. That they are gone need not be on
 * disk when this resolves to how many there were.
 */
export async function pruneDated({ disk, onGone, checkUsable }: PruneOptions, now: number): Promise<number> {
	let pruned = 0;
	try {
		const keysBefore = disk.keys(keys.datedBefore(now));
		try {
			for (let page = await keysBefore.nextv(PAGE); page.length > 0; page = await keysBefore.nextv(PAGE)) {
				checkUsable();
				await disk.batch(page.map((key) => ({ type: "del", key })));
				for (const key of page) onGone(key);
				pruned += page.length;
			}
		} finally {
			await keysBefore.close();
		}
	} catch (error) {
		throw unavailable(error);
	}
	return pruned;
}

/** One synchronous step, like a turn. An entry goes when nothing that it names is left to wait for. */
function deleteExpired(
	options: PruneOptions,
	entries: readonly ExpiryEntry[],
	now: number,
): { batch?: Batch; count: number } {
	const { commit, tableOf } = options;
	const changes: Change[] = [];
	const gone = new Set<string>();
	for (const { entry, named, names } of entries) {
		let isOver = true;
		for (const key of named) {
			const expiresAt = expiryOf(options, key);
			// What has got another time since, or none, has another entry, or none.
			if (expiresAt === null) continue;
			if (expiresAt === "damaged") isOver = false;
			else if (expiresAt < now) gone.add(key);
			else if (names(expiresAt)) isOver = false;
		}
		if (isOver) changes.push([entry, null]);
	}
	for (const key of gone) changes.push([key, null]);
	if (changes.length === 0) return { count: 0 };
	const batch = commit.add(changes);
	for (const key of gone) tableOf(key).write(key, null, batch);
	return { batch, count: gone.size };
}

function expiryOf({ tableOf, onDamaged }: PruneOptions, key: string): number | null | "damaged" {
	try {
		return tableOf(key).peek(key)?.expiresAt ?? null;
	} catch (error) {
		if (!(error instanceof CorruptRecordError)) throw error;
		onDamaged(key);
		return "damaged";
	}
}
