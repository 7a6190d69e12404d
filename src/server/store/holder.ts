/**
 * Who has a store open. LevelDB's lock says only that somebody has; a file beside LevelDB's own says who. LevelDB leaves
 * files alone whose names mean nothing to it. The lock decides, the file only explains: one that a crashed process left
 * is overwritten by the next.
 */
import { rmSync } from "node:fs";
import { open, rename, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { z } from "zod";

/** A process that has a store open. */
export type Holder = Readonly<{
	pid: number;
	/** The machine or container that `pid` is of. */
	host: string;
	/** What it is, as whoever opened the store called it (`LevelStore.open`'s `name`). */
	name: string;
	/** When it opened the store, as ISO 8601. */
	since: string;
}>;

export const HOLDER_FILE = "HOLDER";
const MOST_BYTES = 4_096;
const MOST_CHARACTERS = 200;

// It ends up on terminals: no control characters, and no more than a line.
const text = z.string().regex(new RegExp(`^\\P{C}{1,${MOST_CHARACTERS}}$`, "u"));
const shape: z.ZodType<Holder> = z.object({
	pid: z.int().positive(),
	host: text,
	name: text,
	since: z.iso.datetime(),
});

/** The folders that this process has open, by their real paths. */
const claimed = new Set<string>();

/**
 * Reserves `folder` (a real path) within this process. LevelDB must not even be asked a second time: refusing, it closes
 * its lock file once more, and with that the system takes the first opener's lock away.
 *
 * @returns gives it back; `undefined` when this process has it open
 */
export function claim(folder: string): (() => void) | undefined {
	if (claimed.has(folder)) return undefined;
	claimed.add(folder);
	return () => claimed.delete(folder);
}

/** Writes down that this process, called `name`, has the store in `folder` open. Only for who has its lock. */
export async function announce(folder: string, name: string): Promise<void> {
	const holder: Holder = {
		pid: process.pid,
		host: oneLine(hostname()),
		name: oneLine(name),
		since: new Date().toISOString(),
	};
	const file = join(folder, HOLDER_FILE);
	// Renamed into place, so that nobody reads half of it.
	await writeFile(`${file}.new`, `${JSON.stringify(holder)}\n`, { mode: 0o600 });
	await rename(`${file}.new`, file);
}

/** Takes the file away, while the lock is still held: later it may be the next one's. */
export function withdraw(folder: string): void {
	try {
		rmSync(join(folder, HOLDER_FILE), { force: true });
	} catch {
		// What stays behind misleads nobody: the lock is free.
	}
}

/**
 * Reads who has the store in `folder` open, as far as it can be known: `undefined` when nobody has written it down, it
 * can't be read, or it names a process of this machine that is gone. Only the lock says whether anybody has.
 *
 * @example
 * const holder = await readHolder("./channels");
 * console.log(holder === undefined ? "nobody known" : `process ${holder.pid} on ${holder.host}`);
 */
export async function readHolder(folder: string): Promise<Holder | undefined> {
	try {
		const holder = shape.parse(JSON.parse(await readStart(join(folder, HOLDER_FILE))));
		return holder.host === oneLine(hostname()) && !isAlive(holder.pid) ? undefined : holder;
	} catch {
		return undefined;
	}
}

/** In words, for an error message. */
export function describeHolder(holder: Holder | undefined): string {
	if (holder === undefined) return "another process";
	return `${holder.name} (process ${holder.pid} on ${holder.host}, since ${holder.since})`;
}

async function readStart(path: string): Promise<string> {
	const file = await open(path);
	try {
		const { buffer, bytesRead } = await file.read(Buffer.alloc(MOST_BYTES), 0, MOST_BYTES, 0);
		return buffer.toString("utf8", 0, bytesRead);
	} finally {
		await file.close();
	}
}

function isAlive(pid: number): boolean {
	try {
		return process.kill(pid, 0);
	} catch (error) {
		// Not allowed to signal it: it is there.
		return error instanceof Error && "code" in error && error.code === "EPERM";
	}
}

function oneLine(words: string): string {
	const line = words.replace(/\p{C}+/gu, " ").trim();
	return [...line].slice(0, MOST_CHARACTERS).join("") || "unnamed";
}
