import { type Disk, pages, readMany, unavailable } from "./disk.ts";
import type { Batch, GroupCommit } from "./groupCommit.ts";
import * as keys from "./keys.ts";
import { CorruptRecordError } from "./store.ts";
import type { Change } from "./turn.ts";

/** What is deleted at a time. */
const PAGE = 1_000;

type Expiring = Readonly<{ expiresAt: number | null }>;
type Table = Readonly<{
	peek(key: string): Expiring | undefined;
	write(key: string, deleted: null, batch: Batch): void;
}>;
type Expired = Readonly<{ entry: string; key: string }>;

type PruneOptions = Readonly<{
	disk: Disk;
	commit: GroupCommit;
	/** The table that a record's key belongs to. */
	tableOf: (key: string) => Table;
	/** This proof is gone. */
	onGone: (key: string) => void;
	/** This record expired, and can't be read: it is left where it is. */
	onDamaged: (key: string) => void;
	/** Throws when the store was closed or failed meanwhile. */
	checkUsable: () => void;
}>;

/** Deletes what expired before `now`, page by page. Resolves to how many records, when that is on disk. */
export async function prune(options: PruneOptions, now: number): Promise<number> {
	let pruned = 0;
	for await (const { entries } of pages(options.disk, keys.expiredBefore(now))) {
		const expired = entries.map(([entry]) => ({ entry, key: keys.indexedKey(entry, 1) }));
		// Only to have the pages in memory: what counts is what the step below reads.
		await readMany(
			options.disk,
			expired.map(({ key }) => key),
		);
		options.checkUsable();
		const { batch, count } = deleteExpired(options, expired);
		await batch?.durable;
		pruned += count;
	}
	return pruned;
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

/** One synchronous step, like a turn. */
function deleteExpired(
	{ commit, tableOf, onDamaged }: PruneOptions,
	expired: readonly Expired[],
): { batch?: Batch; count: number } {
	const changes: Change[] = [];
	const gone: string[] = [];
	for (const { entry, key } of expired) {
		const expiresAt = expiryOf(tableOf(key), key);
		if (expiresAt === "damaged") {
			onDamaged(key);
			continue;
		}
		changes.push([entry, null]);
		// A record that was written again meanwhile has another entry, and its own time.
		if (expiresAt === null || keys.expiryKey(expiresAt, key) !== entry) continue;
		changes.push([key, null]);
		gone.push(key);
	}
	if (changes.length === 0) return { count: 0 };
	const batch = commit.add(changes);
	for (const key of gone) tableOf(key).write(key, null, batch);
	return { batch, count: gone.length };
}

function expiryOf(table: Table, key: string): number | null | "damaged" {
	try {
		return table.peek(key)?.expiresAt ?? null;
	} catch (error) {
		if (error instanceof CorruptRecordError) return "damaged";
		throw error;
	}
}
