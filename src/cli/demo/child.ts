/** A part of the demo that is a process of its own, as its parent sees it. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { extname } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";

export type Child = Readonly<{
	process: ChildProcessByStdio<Writable, Readable, Readable>;
	/** Tells it something: one JSON line. One that has died does not read it. */
	tell(what: object): void;
	/** Resolves to its exit code when it is gone and all that it has said is read; `null` when a signal ended it. */
	closed: Promise<number | null>;
}>;

/**
 * Starts a script of this folder, and hands it its settings as its first line of input.
 *
 * @param script - the file's name, without its ending
 * @param onSaid - gets each JSON line that it says
 */
export function startChild<Said>(script: string, settings: object, onSaid: (said: Said) => void): Child {
	// Beside this file, and ending as it does: `.ts` here, `.js` where it was built.
	const path = fileURLToPath(new URL(`./${script}${extname(import.meta.url)}`, import.meta.url));
	const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", path], {
		stdio: ["pipe", "pipe", "pipe"],
	});
	const tell = (what: object) => void child.stdin.write(`${JSON.stringify(what)}\n`);
	child.stdin.on("error", () => undefined);
	tell(settings);
	createInterface({ input: child.stdout }).on("line", (text) => onSaid(JSON.parse(text) as Said));
	return { process: child, tell, closed: once(child, "close").then(([code]) => code as number | null) };
}
