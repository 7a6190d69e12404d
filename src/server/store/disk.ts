/** LevelDB as the store uses it: opening, reading, writing through to the disk, walking over a snapshot. */
import { mkdir } from "node:fs/promises";
import { Level } from "level";
import type { Operations } from "./groupCommit.ts";
import type { Range } from "./keys.ts";
import { CorruptRecordError, StoreUnavailableError } from "./store.ts";

export type Disk = Level<string, string>;
export type Snapshot = ReturnType<Disk["snapshot"]>;

/** A value as found, or why it could not be read. */
export type Found = string | undefined | Error;

const MEBIBYTE = 1024 * 1024;
/** What a scan holds at a time. */
const PAGE = 256;

/**
 * Opens the database in `folder`, which only this user may read, and makes it if there is none.
 *
 * @throws StoreUnavailableError when another process has it open, or it can't be opened at all
 */
export async function openDisk(folder: string): Promise<Disk> {
	// A larger write buffer than LevelDB's 4 MiB: a busy channel's versions replace each other there, before any of them is sorted.
	const disk: Disk = new Level(folder, { writeBufferSize: 16 * MEBIBYTE, cacheSize: 32 * MEBIBYTE });
	try {
		await mkdir(folder, { recursive: true, mode: 0o700 });
		await disk.open();
	} catch (error) {
		const reason = deepest(error);
		const hint = isCode(reason, "LEVEL_LOCKED")
			? "another process has it open: stop that one, or give this one a folder of its own"
			: `${reason.message}: check that the folder is there, writable and not full`;
		throw new StoreUnavailableError(`the store in ${folder} can't be opened; ${hint}`, { cause: error });
	}
	return disk;
}

/** Writes all of it, through to the disk, or nothing. */
export async function writeThrough(disk: Disk, operations: Operations): Promise<void> {
	const batch = disk.batch();
	for (const [key, value] of operations) {
		if (value === null) batch.del(key);
		else batch.put(key, value);
	}
	await batch.write({ sync: true });
}

/**
 * Reads at once. Cheap where nothing is found (LevelDB's Bloom filters) and where the page is in memory; otherwise the
 * process waits for the disk.
 */
export function readNow(disk: Disk, key: string): string | undefined {
	try {
		return disk.getSync(key);
	} catch (error) {
		throw readError(error, key);
	}
}

/** Reads many keys in one go. A damaged one does not keep the others from being read. */
export async function readMany(disk: Disk, keys: readonly string[], snapshot?: Snapshot): Promise<readonly Found[]> {
	const options = snapshot === undefined ? {} : { snapshot };
	try {
		return await disk.getMany([...keys], options);
	} catch {
		return await Promise.all(keys.map((key) => disk.get(key, options).catch((error) => readError(error, key))));
	}
}

/** The entries of `range` as they are now, in pages; `snapshot` shows the same moment. */
export async function* pages(
	disk: Disk,
	range: Range,
): AsyncGenerator<Readonly<{ entries: readonly (readonly [string, string])[]; snapshot: Snapshot }>> {
	try {
		const snapshot = disk.snapshot();
		try {
			const iterator = disk.iterator({ ...range, snapshot });
			try {
				for (let entries = await iterator.nextv(PAGE); entries.length > 0; entries = await iterator.nextv(PAGE)) {
					yield { entries, snapshot };
				}
			} finally {
				await iterator.close();
			}
		} finally {
			await snapshot.close();
		}
	} catch (error) {
		throw error instanceof CorruptRecordError ? error : unavailable(error);
	}
}

export function unavailable(cause: unknown): StoreUnavailableError {
	if (cause instanceof StoreUnavailableError) return cause;
	return new StoreUnavailableError(`the store can't be used: ${deepest(cause).message}`, { cause });
}

function readError(error: unknown, key: string): Error {
	if (isCode(error, "LEVEL_CORRUPTION")) return new CorruptRecordError(key, deepest(error).message);
	return unavailable(error);
}

function isCode(error: unknown, code: string): boolean {
	return error instanceof Error && "code" in error && error.code === code;
}

function deepest(error: unknown): Error {
	if (!(error instanceof Error)) return new Error(String(error));
	return error.cause === undefined ? error : deepest(error.cause);
}
