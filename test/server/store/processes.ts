/** Starts and ends the store's processes (storeProcess.ts). */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";

export type StoreProcess = ChildProcess & { stdout: NodeJS.ReadableStream };

const children: ChildProcess[] = [];

export function start(...args: string[]): StoreProcess {
	const flags = ["--experimental-strip-types", "--disable-warning=ExperimentalWarning"];
	const script = join(import.meta.dirname, "storeProcess.ts");
	const child = spawn(process.execPath, [...flags, script, ...args], { stdio: ["ignore", "pipe", "inherit"] });
	children.push(child);
	return child;
}

export function exited(child: ChildProcess): Promise<void> {
	return new Promise((resolve) => child.once("close", () => resolve()));
}

export async function kill(child: ChildProcess): Promise<void> {
	const gone = exited(child);
	child.kill("SIGKILL");
	await gone;
}

/** A process that has the store in `folder` open until it is killed. */
export async function hold(folder: string, ...args: string[]): Promise<StoreProcess> {
	const child = start("hold", folder, ...args);
	await new Promise((resolve) => child.stdout.once("data", resolve));
	return child;
}

/** What another process is told that opens `folder`: "opened", or the error's fields. */
export async function outcomeOfOpening(folder: string): Promise<Record<string, unknown>> {
	const child = start("open", folder);
	let outcome = "";
	child.stdout.on("data", (chunk: Buffer) => {
		outcome += chunk.toString();
	});
	await exited(child);
	return JSON.parse(outcome);
}

/** For `afterEach`. */
export function killAll(): void {
	for (const child of children.splice(0)) child.kill("SIGKILL");
}
