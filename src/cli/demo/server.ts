import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { extname } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Listening, ServerSettings } from "./serverProcess.ts";

/** The demo's paid server as its parent sees it. */
export type PaidServer = Listening &
	Readonly<{
		process: ChildProcess;
		/** Lets it finish its requests and close its store. */
		stop(): Promise<void>;
	}>;

/** Starts the paid server in a process of its own; resolves when it listens. */
export async function startServer(settings: ServerSettings): Promise<PaidServer> {
	// Beside this file, and ending as it does: `.ts` here, `.js` where it was built.
	const script = fileURLToPath(new URL(`./serverProcess${extname(import.meta.url)}`, import.meta.url));
	const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", script], {
		stdio: ["pipe", "pipe", "inherit"],
	});
	child.stdin?.end(`${JSON.stringify(settings)}\n`);
	if (child.stdout === null) throw new Error("the server process has no output");
	const first = once(createInterface({ input: child.stdout }), "line");
	const ended = once(child, "exit").then(([code]) => {
		throw new Error(`the server process ended with code ${code} before it listened`);
	});
	ended.catch(() => undefined);
	const [line] = (await Promise.race([first, ended])) as [string];
	return { ...(JSON.parse(line) as Listening), process: child, stop: () => stop(child) };
}

async function stop(child: ChildProcess): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const ended = once(child, "exit");
	child.kill("SIGTERM");
	const [code] = await ended;
	if (code !== 0) throw new Error(`the server process ended with code ${code}`);
}
