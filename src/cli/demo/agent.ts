import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { extname } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { AgentCommand, AgentSaid, AgentSettings } from "./agentSettings.ts";
import { until } from "./until.ts";

/** The demo's agent as its parent sees it. */
export type Agent = Readonly<{
	process: ChildProcess;
	command(command: AgentCommand): void;
	/** The first thing that it tells with this member, and, if given, this value; whether it was told already or not. */
	said<Name extends string>(name: Name, value?: unknown): Promise<Extract<AgentSaid, Readonly<Record<Name, unknown>>>>;
	/** SIGKILL. Resolves when it is gone. */
	kill(): Promise<void>;
}>;

/** The agent could not do what it was told, or ended by itself. */
export class AgentFailedError extends Error {
	override readonly name = "AgentFailedError";
	readonly code = "AGENT_FAILED";
}

/**
 * Starts the agent in a process of its own; resolves when its wallet is open.
 *
 * @throws AgentFailedError
 */
export async function startAgent(settings: AgentSettings): Promise<Agent> {
	// Beside this file, and ending as it does: `.ts` here, `.js` where it was built.
	const script = fileURLToPath(new URL(`./agentProcess${extname(import.meta.url)}`, import.meta.url));
	const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", script], {
		stdio: ["pipe", "pipe", "inherit"],
	});
	child.stdin.on("error", () => undefined);
	child.stdin.write(`${JSON.stringify(settings)}\n`);
	const told: AgentSaid[] = [];
	createInterface({ input: child.stdout }).on("line", (text) => told.push(JSON.parse(text) as AgentSaid));
	const closed = once(child, "close");
	const agent: Agent = {
		process: child,
		command: (command) => void child.stdin.write(`${JSON.stringify(command)}\n`),
		said: (name, value) =>
			until(`the agent has told of ${name} ${String(value ?? "")}`, () => {
				const found = told.find((one) => name in one && (value === undefined || Object.values(one).includes(value)));
				if (found !== undefined) return found as never;
				for (const one of told) if ("failed" in one) throw new AgentFailedError(String(one.failed));
				if (child.exitCode !== null) throw new AgentFailedError(`the agent has ended with code ${child.exitCode}`);
				return undefined;
			}),
		async kill() {
			child.kill("SIGKILL");
			await closed;
		},
	};
	try {
		await agent.said("ready");
		return agent;
	} catch (error) {
		await agent.kill();
		throw error;
	}
}
