/** Starts processes of an agent (walletProcess.ts), tells them what to do, and ends them. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const DEADLINE_MS = 30_000;

export type Answer = Readonly<{ answer?: unknown; error?: Readonly<{ name: string; code: string; message: string }> }>;

export type Agent = Readonly<{
	child: ChildProcess;
	pid: number;
	/** Calls its store, and gives what came of it. */
	ask(call: string, ...args: readonly unknown[]): Promise<Answer>;
	/** As `ask`, for what must not fail. */
	get(call: string, ...args: readonly unknown[]): Promise<unknown>;
	/** How often a write into this counter was acknowledged. */
	counted(key: string): number;
	/** The channels that others wanted of it. */
	wanted(): readonly string[];
	/** Everything it has said. */
	said(): string;
	signal(signal: NodeJS.Signals): void;
	/** SIGKILL, until it is gone. */
	kill(): Promise<void>;
	/** Lets it end by itself: it has nothing to do any more. */
	end(): Promise<number | null>;
}>;

export type AgentOptions = Readonly<{
	holderGraceMs?: number;
	ownerMs?: number;
	/** As an owner it dies as soon as this counter is on disk, before it says so. */
	deadlyKey?: string;
}>;

const children: ChildProcess[] = [];
const folders: string[] = [];

export async function newFolder(name = ""): Promise<string> {
	const folder = await mkdtemp(join(tmpdir(), "sluice-test-"));
	folders.push(folder);
	return join(folder, "wallet", name);
}

/** Starts a process that opens the wallet, and waits until it has. */
export async function startAgent(
	folder: string,
	{ holderGraceMs = 3_000, ownerMs = 10_000, deadlyKey }: AgentOptions = {},
): Promise<Agent> {
	const flags = ["--experimental-strip-types", "--disable-warning=ExperimentalWarning"];
	const script = join(import.meta.dirname, "walletProcess.ts");
	const args = [folder, String(holderGraceMs), String(ownerMs), ...(deadlyKey === undefined ? [] : [deadlyKey])];
	const child = spawn(process.execPath, [...flags, script, ...args], {
		stdio: ["pipe", "pipe", "inherit"],
		env: { ...process.env, NODE_COMPILE_CACHE: join(tmpdir(), "sluice-e2e-compile-cache") },
	});
	children.push(child);
	child.stdin.on("error", () => undefined);
	const ended = once(child, "exit");
	const calls = new Map<number, (answer: Answer) => void>();
	const counts = new Map<string, number>();
	const wanted: string[] = [];
	let said = "";
	let lastId = 0;
	const { promise: ready, resolve, reject } = Promise.withResolvers<void>();
	void ended.then(() => reject(new Error(`the process ended: ${said}`)));
	createInterface({ input: child.stdout }).on("line", (line) => {
		said += `${line}\n`;
		const heard = JSON.parse(line);
		if (heard.ready !== undefined) resolve();
		if (heard.failed !== undefined) reject(new Error(heard.failed.message));
		if (heard.counted !== undefined) counts.set(heard.counted, (counts.get(heard.counted) ?? 0) + 1);
		if (heard.wanted !== undefined) wanted.push(heard.wanted);
		if (heard.id !== undefined) calls.get(heard.id)?.(heard);
	});
	await ready;
	const ask = (call: string, ...args: readonly unknown[]): Promise<Answer> => {
		const id = ++lastId;
		const { promise, resolve, reject } = Promise.withResolvers<Answer>();
		calls.set(id, resolve);
		void ended.then(() => reject(new Error(`the process ended before it answered ${call}`)));
		// Whoever kills a process may not care for what it was asked.
		promise.catch(() => undefined);
		child.stdin.write(`${JSON.stringify({ id, ask: call, args })}\n`);
		return promise;
	};
	return {
		child,
		pid: child.pid ?? 0,
		ask,
		get: async (call, ...args) => {
			const { answer, error } = await ask(call, ...args);
			if (error !== undefined) throw new Error(`${call}: ${error.name}: ${error.message}`);
			return answer;
		},
		counted: (key) => counts.get(key) ?? 0,
		wanted: () => wanted,
		said: () => said,
		signal: (signal) => child.kill(signal),
		kill: async () => {
			child.kill("SIGKILL");
			await ended;
		},
		end: async () => {
			child.stdin.end();
			await ended;
			return child.exitCode;
		},
	};
}

export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
	const deadline = performance.now() + DEADLINE_MS;
	while (!(await holds())) {
		if (performance.now() > deadline) throw new Error(`never: ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
}

/** For `afterEach`. */
export async function endAll(): Promise<void> {
	for (const child of children.splice(0)) {
		// One that is stopped ends by this too.
		child.kill("SIGKILL");
	}
	for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
}
