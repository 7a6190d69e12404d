/** LevelDB as the store uses it: opening, reading, writing through to the disk, walking over a snapshot. */
import { mkdir, readFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import { Level } from "level";
import type { Operations } from "./groupCommit.ts";
import { announce, claim, describeHolder, type Holder, readHolder, withdraw } from "./holder.ts";
import { OPENS_KEY, type Range } from "./keys.ts";
import { CorruptRecordError, StoreUnavailableError } from "./store.ts";

export type Disk = Level<string, string>;
export type Snapshot = ReturnType<Disk["snapshot"]>;

/** A value as found, or why it could not be read. */
export type Found = string | undefined | Error;

const MEBIBYTE = 1024 * 1024;

/** Measured with a million channels, each as likely as any other to be next: npm run bench -- million-channels. */
const SIZES = {
	/** Larger than LevelDB's 4 MiB: a busy channel's versions replace each other there, before any of them is sorted. */
	writeBufferSize: 16 * MEBIBYTE,
	/** For scans, and for what comes again. Channels in use are kept as they are read; of a million others it would keep few. */
	cacheSize: 8 * MEBIBYTE,
	/** Larger than LevelDB's 4 KiB: its tables have an index of a quarter of the size, and opening one takes a third of the time. */
	blockSize: 16 * 1024,
	/** LevelDB's least, half of its default: what it merges after a hundred reads that found nothing in a table is half as much. */
	maxFileSize: MEBIBYTE,
	/**
	 * Tables, mapped into memory, and ten files more: with LevelDB's 1,000 all of a large store would be in this process's memory
	 * sooner or later. To open another one takes some 60 microseconds, beside the event loop where channels are read for requests.
	 */
	maxOpenFiles: 150,
} as const;

/** What a scan holds at a time. */
const PAGE = 256;

export type DiskOptions = Readonly<{
	/** What the process is, for others that find the folder in use. */
	name?: string;
	/** Refuses a folder in which no store is, instead of making one. */
	mustExist?: boolean;
}>;

/**
 * Opens the database in `folder`, which only this user may read, and makes it if there is none.
 *
 * @throws StoreUnavailableError when this or another process has it open, it isn't there and must be, or it can't be
 * opened at all
 */
export async function openDisk(
	folder: string,
	{ name = "sluice", mustExist = false }: DiskOptions = {},
): Promise<Disk> {
	let release: (() => void) | undefined;
	try {
		if (!mustExist) await mkdir(folder, { recursive: true, mode: 0o700 });
		else if (!(await isStoreFolder(folder))) throw noStore(folder);
		const place = await realpath(folder);
		release = claim(place);
		if (release === undefined)
			throw held(folder, "this process has it open already: use that store, or close it first");
		return await openClaimed(folder, place, release, { name, mustExist });
	} catch (error) {
		release?.();
		throw await openError(folder, error);
	}
}

async function openClaimed(
	folder: string,
	place: string,
	release: () => void,
	{ name, mustExist }: Required<DiskOptions>,
): Promise<Disk> {
	const disk: Disk = new Level(folder, { ...SIZES, createIfMissing: !mustExist });
	await disk.open();
	disk.once("closing", () => withdraw(place));
	disk.once("closed", release);
	try {
		await announce(place, name);
		if (mustExist && readNow(disk, OPENS_KEY) === undefined) throw noStore(folder);
	} catch (error) {
		await disk.close();
		throw error;
	}
	return disk;
}

/**
 * Whether a store is in `folder`, as far as its files say. What is in them only opening them shows.
 *
 * @throws StoreUnavailableError when that can't be found out, for example because the folder may not be read
 * @example
 * if (!(await isStoreFolder("./channels"))) console.error("./channels: no store is there");
 */
export async function isStoreFolder(folder: string): Promise<boolean> {
	return (await currentManifest(folder)) !== undefined;
}

/** The file that says of which files the database consists: its name is new at every opening. */
export async function currentManifest(folder: string): Promise<string | undefined> {
	try {
		return /^(MANIFEST-\d+)\n$/.exec(await readFile(join(folder, "CURRENT"), "utf8"))?.[1];
	} catch (error) {
		if (isCode(error, "ENOENT") || isCode(error, "ENOTDIR")) return undefined;
		throw unavailable(error);
	}
}

/** There is no store in `folder`, and none is wanted there. */
export function noStore(folder: string): StoreUnavailableError {
	const hint = "name the folder that the server keeps its channels in";
	return new StoreUnavailableError(`there is no store in ${folder}; ${hint}`, { reason: "missing" });
}

function held(folder: string, who: string, holder?: Holder): StoreUnavailableError {
	return new StoreUnavailableError(`the store in ${folder} can't be opened; ${who}`, {
		reason: "held",
		...(holder && { holder }),
	});
}

async function openError(folder: string, error: unknown): Promise<StoreUnavailableError> {
	if (error instanceof StoreUnavailableError) return error;
	const reason = deepest(error);
	if (isCode(reason, "LEVEL_LOCKED")) {
		const holder = await readHolder(folder);
		const hint = "stop that one, or give this one a folder of its own";
		return held(folder, `${describeHolder(holder)} has it open: ${hint}`, holder);
	}
	const hint = "check that the folder is there, writable and not full";
	return new StoreUnavailableError(`the store in ${folder} can't be opened; ${reason.message}: ${hint}`, {
		cause: error,
	});
}

/** Writes all of it, through to the disk, or nothing. */
export async function writeThrough(disk: Disk, operations: Operations): Promise<void> {
	const batch = disk.batch();
	for (const [key, value] of operations) {
		if (value === null) batch.del(key);
		else batch.put(key, typeof value === "function" ? value() : value);
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

/** Walks over the keys of `range`, as they are now. */
export async function eachKey(disk: Disk, range: Range, take: (key: string) => void): Promise<void> {
	const walk = disk.keys(range);
	try {
		for (let keys = await walk.nextv(PAGE); keys.length > 0; keys = await walk.nextv(PAGE))
			for (const key of keys) take(key);
	} finally {
		await walk.close();
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

export function isCode(error: unknown, code: string): boolean {
	return error instanceof Error && "code" in error && error.code === code;
}

export function deepest(error: unknown): Error {
	if (!(error instanceof Error)) return new Error(String(error));
	return error.cause === undefined ? error : deepest(error.cause);
}
