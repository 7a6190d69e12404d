/**
 * Which process has a wallet open, and how the agent's other processes reach it: `owner.json` in the wallet's folder, which
 * this user alone can read. LevelDB's lock decides who has it; the file only tells. One that a killed process left leads
 * nowhere, and is overwritten by the next owner.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { chmod, mkdtemp, readFile, rm, rmdir } from "node:fs/promises";
import type { Server } from "node:net";
import { hostname, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import * as z from "zod";
import { PayerStoreError } from "../store/store.ts";
import { type WalletFolder, writeWhole } from "./folder.ts";

const FILE = "owner.json";
const SOCKET = "wallet.sock";
const TEMPORARY = "sluice-wallet-";
/** A socket's address has room for 108 bytes at most, on macOS for 104, a zero included. */
const MAX_ADDRESS_BYTES = 103;
const SECRET_BYTES = 32;

const secret = z.string().regex(/^[0-9a-f]{64}$/);
const shape = z.object({
	pid: z.int().positive(),
	/** The machine or container that `pid` is of. */
	host: z.string().max(300),
	/** When it opened the wallet, as ISO 8601. */
	since: z.iso.datetime(),
	/** The path of its socket, or the name of its pipe. */
	address: z.string().min(1).max(4_096),
	/** Whoever knows it can read the folder: the owner asks it of every other process. */
	token: secret,
	/** What the owner answers, so that nobody else is told anything in its place. */
	answer: secret,
});

/** The owner, and how to reach it. Holds secrets: never for logs or errors. */
export type Whereabouts = z.output<typeof shape>;

/** Who has the wallet in a folder open, if anybody has said so. */
export async function readWhereabouts({ path }: WalletFolder): Promise<Whereabouts | undefined> {
	try {
		return shape.parse(JSON.parse(await readFile(join(path, FILE), "utf8")));
	} catch {
		return undefined;
	}
}

/** In words, for an error message. */
export function describeOwner(owner: Whereabouts | undefined): string {
	if (owner === undefined) return "another process";
	return `process ${owner.pid} on ${oneLine(owner.host)} (since ${owner.since})`;
}

/** Listens where others will look. Only for who has LevelDB's lock. */
export async function listenForOthers(server: Server, folder: WalletFolder): Promise<Whereabouts> {
	await removeAddress(await readWhereabouts(folder));
	const whereabouts: Whereabouts = {
		pid: process.pid,
		host: oneLine(hostname()),
		since: new Date().toISOString(),
		address: await listen(server, folder),
		token: randomBytes(SECRET_BYTES).toString("hex"),
		answer: randomBytes(SECRET_BYTES).toString("hex"),
	};
	await writeWhole(join(folder.path, FILE), JSON.stringify(whereabouts));
	return whereabouts;
}

/** Takes the file and the socket away, while LevelDB's lock is still held: later they may be the next owner's. */
export async function withdraw(folder: WalletFolder, whereabouts: Whereabouts): Promise<void> {
	// What stays behind misleads nobody for long: nobody answers there.
	await rm(join(folder.path, FILE), { force: true }).catch(() => undefined);
	await removeAddress(whereabouts);
}

/** Compares secrets in a time that says nothing of them. */
export function isSame(one: string, other: string): boolean {
	const [a, b] = [Buffer.from(one), Buffer.from(other)];
	return a.length === b.length && timingSafeEqual(a, b);
}

/** In the folder, where whoever shares its volume finds it too; else, for a long path, in a folder of its own. */
async function listen(server: Server, { path }: WalletFolder): Promise<string> {
	if (process.platform === "win32") {
		const pipe = `\\\\.\\pipe\\${TEMPORARY}${randomBytes(16).toString("hex")}`;
		return await listenAt(server, pipe);
	}
	const near = join(path, SOCKET);
	if (fits(near)) {
		await rm(near, { force: true }).catch(() => undefined);
		// Not every file system has sockets.
		const address = await listenAt(server, near).catch(() => undefined);
		if (address !== undefined) return address;
	}
	// `mkdtemp` makes it for this user alone.
	const far = join(await mkdtemp(join(tmpdir(), TEMPORARY)), SOCKET);
	if (fits(far)) return await listenAt(server, far);
	await rmdir(dirname(far)).catch(() => undefined);
	throw new PayerStoreError("the paths of the wallet and of TMPDIR are too long for a socket: use a shorter one");
}

async function listenAt(server: Server, address: string): Promise<string> {
	await new Promise<void>((resolve, reject) => {
		server.once("error", reject);
		server.listen(address, () => {
			server.off("error", reject);
			resolve();
		});
	});
	if (process.platform !== "win32") await chmod(address, 0o600);
	return address;
}

function fits(address: string): boolean {
	return Buffer.byteLength(address) <= MAX_ADDRESS_BYTES;
}

/** Removes a socket, and the folder that was made for it alone. */
async function removeAddress(whereabouts: Whereabouts | undefined): Promise<void> {
	if (whereabouts === undefined || process.platform === "win32") return;
	const { address } = whereabouts;
	if (basename(address) !== SOCKET) return;
	await rm(address, { force: true }).catch(() => undefined);
	if (basename(dirname(address)).startsWith(TEMPORARY)) await rmdir(dirname(address)).catch(() => undefined);
}

function oneLine(words: string): string {
	return words.replace(/\p{C}+/gu, " ").slice(0, 200) || "unnamed";
}
