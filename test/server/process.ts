/** A program of these tests in a process of its own, and what it says. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./watchStage.ts";

export type Program = Readonly<{
	child: ChildProcess;
	/** Everything it has said, on both channels. */
	said(): string;
	/** Waits until it has said this. */
	says(text: string): Promise<void>;
	/** How it ended: its exit code, or the signal that ended it. */
	ended: Promise<number | NodeJS.Signals>;
}>;

/** Runs `file`, beside this one. */
export function run(file: string, ...args: readonly string[]): Program {
	const flags = ["--experimental-strip-types", "--disable-warning=ExperimentalWarning"];
	const child = spawn(process.execPath, [...flags, join(import.meta.dirname, file), ...args], {
		stdio: ["pipe", "pipe", "pipe"],
		env: { ...process.env, NODE_COMPILE_CACHE: join(tmpdir(), "sluice-e2e-compile-cache") },
	});
	let said = "";
	const hear = (chunk: Buffer) => {
		said += chunk;
	};
	child.stdout.on("data", hear);
	child.stderr.on("data", hear);
	child.stdin.on("error", () => undefined);
	const ended = once(child, "close").then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
	return {
		child,
		said: () => said,
		says: (text) =>
			until(`the process says ${text}`, () => {
				if (child.exitCode !== null && !said.includes(text)) throw new Error(`it ended (${child.exitCode}): ${said}`);
				return said.includes(text);
			}),
		ended,
	};
}
