/** A copy of a store that a running server has open, for operators who only look: LevelDB itself lets nobody else in. */
import { constants, copyFile, mkdtemp, open, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { currentManifest, deepest, isCode, noStore, openDisk } from "./disk.ts";
import { LevelStore, type LevelStoreOptions } from "./levelStore.ts";
import { StoreUnavailableError } from "./store.ts";

/** A store of its own, in a temporary folder that only this user may read. `remove` deletes it; close it before. */
export type StoreCopy = Readonly<{ folder: string; remove(): Promise<void> }>;

const TRIES = 5;
/** Before the second try; longer before every further one. */
const WAIT_MS = 50;

/** While the files were copied, the server went on in a way that they don't fit together. */
class MovedOnError extends Error {}

/**
 * Copies the store in `folder`, whether a process has it open or not, which notices nothing. The copy shows one moment,
 * as after a crash: all that was durable when it began, every turn whole. It takes as much room as the store, in the
 * system's folder for temporary files.
 *
 * @throws StoreUnavailableError when there is no store in `folder`, it changes too fast, or it can't be copied
 * @example
 * const copy = await copyStore("./channels");
 * console.log(copy.folder);
 * await copy.remove();
 */
export async function copyStore(folder: string): Promise<StoreCopy> {
	for (let tries = 1; ; tries++) {
		try {
			return await copyOnce(folder);
		} catch (error) {
			if (error instanceof StoreUnavailableError) throw error;
			if (!(error instanceof MovedOnError)) {
				const hint = `is there room for it in ${tmpdir()}, and may the store be read? TMPDIR names another place`;
				throw new StoreUnavailableError(`the store in ${folder} can't be copied; ${deepest(error).message}: ${hint}`, {
					cause: error,
				});
			}
			if (tries === TRIES) {
				throw new StoreUnavailableError(
					`the store in ${folder} can't be copied after ${TRIES} tries (${error.message}): try again, or stop the server`,
					{ cause: error },
				);
			}
		}
		await sleep(WAIT_MS * tries);
	}
}

/**
 * Opens a copy of the store in `folder`. Whatever is written to it is gone when it is closed, as the copy is.
 *
 * @throws StoreUnavailableError as `copyStore`
 * @example
 * const store = await openStoreCopy("./channels");
 * for await (const channel of store.channels()) console.log(channel.channelId);
 * await store.close();
 */
export async function openStoreCopy(folder: string, options: LevelStoreOptions = {}): Promise<LevelStore> {
	const copy = await copyStore(folder);
	try {
		const disk = await openDisk(copy.folder, { mustExist: true });
		return await LevelStore.over(disk, { ...options, afterClose: copy.remove });
	} catch (error) {
		await copy.remove();
		throw error;
	}
}

async function copyOnce(from: string): Promise<StoreCopy> {
	const manifest = await currentManifest(from);
	if (manifest === undefined) throw noStore(from);
	const folder = await mkdtemp(join(tmpdir(), "sluice-copy-"));
	const remove = () => rm(folder, { recursive: true, force: true });
	try {
		await copyFiles(from, folder, manifest);
		await check(folder, from);
	} catch (error) {
		await remove();
		throw error;
	}
	return { folder, remove };
}

/**
 * The order is what keeps the copy whole. LevelDB deletes a log or a table only after the manifest says that it is not
 * needed any more; so whatever is gone before the manifest is copied, the copied manifest does without. Tables made
 * meanwhile come after the manifest, for it may name them.
 *
 * LOCK stays alone: opening and closing it here would end this process's own hold on the store, if it has it. And
 * tables are no hard links: LevelDB numbers the tables that it writes when the copy is opened on from what the manifest
 * knows, so it would write over one that is newer, and of the server.
 */
async function copyFiles(from: string, to: string, manifest: string): Promise<void> {
	// The first time takes long. The second time takes what was made meanwhile, before it can be gone again.
	await copyTables(from, to);
	await copyTables(from, to);
	await copyLogs(from, to);
	if (!(await copied(join(from, manifest), join(to, manifest)))) throw new MovedOnError(`${manifest} is gone`);
	await copyTables(from, to);
	// A manifest of another name: the store was opened anew, and numbers of files may have been used twice.
	if ((await currentManifest(from)) !== manifest) throw new MovedOnError("it was opened anew");
	await writeFile(join(to, "CURRENT"), `${manifest}\n`, { mode: 0o600 });
}

/**
 * All logs up to one: they are then complete, that one up to somewhere. None may be missing in between, for what came
 * later would be there and what came before not; a listing that was read while files were made may lack some.
 */
async function copyLogs(from: string, to: string): Promise<void> {
	const newest = Math.max(...(await numbers(from, LOG)));
	for (const number of await numbers(from, LOG)) {
		const name = `${String(number).padStart(6, "0")}.log`;
		if (number <= newest) await copied(join(from, name), join(to, name));
	}
}

const LOG = /^(\d+)\.log$/;
const TABLE = /^(\d+)\.(ldb|sst)$/;

async function numbers(folder: string, kind: RegExp): Promise<number[]> {
	const names = await readdir(folder);
	return names.flatMap((name) => kind.exec(name)?.[1] ?? []).map(Number);
}

/** Tables never change once they are complete. Only complete ones are of use: the manifest names no others. */
async function copyTables(from: string, to: string): Promise<void> {
	for (const name of await readdir(from)) {
		if (!TABLE.test(name) || (await isThere(join(to, name)))) continue;
		const copy = join(to, name);
		if ((await copied(join(from, name), copy)) && !(await isComplete(copy))) await rm(copy);
	}
}

/** Copies a file, at no cost where the file system can share it. Resolves to false when it is gone. */
async function copied(from: string, to: string): Promise<boolean> {
	try {
		await copyFile(from, to, constants.COPYFILE_FICLONE);
		return true;
	} catch (error) {
		if (!isCode(error, "ENOENT")) throw error;
		await rm(to, { force: true });
		return false;
	}
}

async function isThere(path: string): Promise<boolean> {
	return stat(path).then(
		() => true,
		() => false,
	);
}

/** How every table ends. */
const TABLE_END = Buffer.from("57fb808b247547db", "hex");

async function isComplete(table: string): Promise<boolean> {
	const file = await open(table);
	try {
		const { size } = await file.stat();
		if (size < TABLE_END.length) return false;
		const { buffer } = await file.read(Buffer.alloc(TABLE_END.length), 0, TABLE_END.length, size - TABLE_END.length);
		return buffer.equals(TABLE_END);
	} finally {
		await file.close();
	}
}

/** Opens the copy once: LevelDB looks whether every table is there. */
async function check(copy: string, from: string): Promise<void> {
	try {
		await (await openDisk(copy, { mustExist: true })).close();
	} catch (error) {
		if (error instanceof StoreUnavailableError && error.reason === "missing") throw noStore(from);
		const reason = deepest(error);
		throw isCode(reason, "LEVEL_CORRUPTION") ? new MovedOnError(reason.message, { cause: error }) : error;
	}
}
