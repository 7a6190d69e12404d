import type { ChildProcess } from "node:child_process";
import type { AgentCommand, AgentSaid, AgentSettings } from "./agentSettings.ts";
import { startChild } from "./child.ts";
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
	const told: AgentSaid[] = [];
	const child = startChild<AgentSaid>("agentProcess", settings, (said) => told.push(said));
	child.process.stderr.pipe(process.stderr);
	const agent: Agent = {
		process: child.process,
		command: child.tell,
		said: (name, value) =>
			until(`the agent has told of ${name} ${String(value ?? "")}`, () => {
				const found = told.find((one) => name in one && (value === undefined || Object.values(one).includes(value)));
				if (found !== undefined) return found as never;
				for (const one of told) if ("failed" in one) throw new AgentFailedError(String(one.failed));
				const { exitCode } = child.process;
				if (exitCode !== null) throw new AgentFailedError(`the agent has ended with code ${exitCode}`);
				return undefined;
			}),
		async kill() {
			child.process.kill("SIGKILL");
			await child.closed;
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
