/**
 * The folder of a wallet: where it is, who may read it, and that it is one. What it holds: `sluice-wallet.json`, which says
 * that it is a wallet, and of which version; `db`, LevelDB's; `owner.json` while a process has it open; and what the user
 * puts there (keys, a policy).
 */
import { randomUUID } from "node:crypto";
import { chmod, mkdir, readdir, readFile, realpath, rename, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import * as z from "zod";
import { PayerStoreError } from "../store/store.ts";

const MARKER = "sluice-wallet.json";
const VERSION = 1;
const markerShape = z.object({ version: z.int().positive() });
/** LevelDB's own: a folder with this file is a database itself, for example a server's store. */
const DATABASE_FILE = "CURRENT";
const WRITABLE_BY_OTHERS = 0o022;
const PRIVATE = 0o700;

/** A wallet's folder that is there. */
export type WalletFolder = Readonly<{
	/** Its real path: every process names it alike. */
	path: string;
	/** The same for every path that leads to it, within this machine. */
	identity: string;
	/** Where LevelDB's files are. */
	database: string;
}>;

/**
 * Where the wallet is when nobody says where: the environment's `SLUICE_WALLET`, or `~/.sluice/wallet`.
 *
 * @example
 * const store = await openWallet(defaultWalletFolder(process.env));
 */
export function defaultWalletFolder(environment: Readonly<Record<string, string | undefined>>): string {
	return environment.SLUICE_WALLET || join(homedir(), ".sluice", "wallet");
}

/**
 * Makes the folder, for this user alone, or checks the one that is there. One that others can write to is used with a
 * warning of the process: volumes of containers often are like that, and only their owner can tell. What is secret
 * in it is in `db` and in files that this user alone can read.
 *
 * @throws PayerStoreError when it can't be made or read, is a server's store, or was made by a newer version
 */
export async function prepareFolder(folder: string): Promise<WalletFolder> {
	try {
		await mkdir(folder, { recursive: true, mode: PRIVATE });
		const path = await realpath(folder);
		const files = await readdir(path);
		if (files.includes(MARKER)) await checkMarker(path);
		else if (files.includes(DATABASE_FILE)) throw refused(folder, "it is a database, for example a server's store");
		await checkAccess(path, files.length === 0);
		if (!files.includes(MARKER)) await writeWhole(join(path, MARKER), JSON.stringify({ version: VERSION }));
		const database = join(path, "db");
		await mkdir(database, { recursive: true, mode: PRIVATE });
		const { dev, ino } = await stat(path, { bigint: true });
		return { path, identity: `${dev}:${ino}`, database };
	} catch (error) {
		if (error instanceof PayerStoreError) throw error;
		const reason = error instanceof Error ? error.message : String(error);
		throw new PayerStoreError(`the wallet in ${folder} can't be opened; ${reason}: check the folder and its rights`, {
			cause: error,
		});
	}
}

/** Writes a file that this user alone can read; nobody ever reads half of it. */
export async function writeWhole(path: string, text: string): Promise<void> {
	const draft = `${path}.${randomUUID()}.new`;
	await writeFile(draft, `${text}\n`, { mode: 0o600 });
	await rename(draft, path);
}

async function checkMarker(path: string): Promise<void> {
	const text = await readFile(join(path, MARKER), "utf8");
	const marker = markerShape.safeParse(parseJson(text));
	if (!marker.success) throw refused(path, `its ${MARKER} is damaged; restore it, or give it {"version":${VERSION}}`);
	if (marker.data.version > VERSION)
		throw refused(path, `it is of version ${marker.data.version}, this sluice knows ${VERSION}: use a newer one`);
}

function parseJson(text: string): unknown {
	try {
		return JSON.parse(text);
	} catch {
		return undefined;
	}
}

async function checkAccess(path: string, isNew: boolean): Promise<void> {
	if (process.platform === "win32") return;
	const { mode, uid } = await stat(path);
	if ((mode & WRITABLE_BY_OTHERS) === 0) return;
	if (isNew && uid === process.getuid?.()) return chmod(path, PRIVATE);
	process.emitWarning(`others can write to the wallet in ${path}: \`chmod 700\` it`, { code: "SLUICE_WALLET_ACCESS" });
}

function refused(folder: string, why: string): PayerStoreError {
	return new PayerStoreError(`${folder} is no wallet to use: ${why}; or name another folder`);
}
