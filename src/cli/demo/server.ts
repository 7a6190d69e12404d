import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { startChild } from "./child.ts";
import type { Listening, ServerCommand, ServerEvent, ServerSettings } from "./serverSettings.ts";
import { until } from "./until.ts";

/** The demo's paid server as its parent sees it. */
export type PaidServer = Listening &
	Readonly<{
		process: ChildProcess;
		/** What it has told so far (`tell` of its settings). Grows. */
		events: readonly ServerEvent[];
		/** Tells it to do something. Orders to die, and its clock, are in force when this resolves. */
		command(command: ServerCommand): Promise<void>;
		/** Resolves when it has killed itself; to where. */
		died(): Promise<string>;
		/** Lets it finish its requests and close its store. */
		stop(): Promise<void>;
	}>;

/** The paid server did not come up; the message is what it said. */
export class ServerStartError extends Error {
	override readonly name = "ServerStartError";
	readonly code = "SERVER_START";
}

type Said = Listening | ServerEvent | Readonly<{ armed: string }> | Readonly<{ died: string }>;

/**
 * Starts the paid server in a process of its own; resolves when it listens.
 *
 * @throws ServerStartError
 */
export async function startServer(settings: ServerSettings): Promise<PaidServer> {
	const events: ServerEvent[] = [];
	const armed: string[] = [];
	const died: string[] = [];
	const first = Promise.withResolvers<Listening>();
	const child = startChild<Said>("serverProcess", settings, (said) => {
		// What a start takes up it tells of before it listens.
		if ("url" in said && !("event" in said)) first.resolve(said);
		else if ("event" in said) events.push(said);
		else if ("armed" in said) armed.push(said.armed);
		else died.push(said.died);
	});
	const { stderr } = child.process;
	let complaint = "";
	const complain = (chunk: Buffer) => {
		complaint += chunk;
	};
	stderr.on("data", complain);
	void child.closed.then((code) =>
		first.reject(new ServerStartError(complaint.trim() || `it ended with code ${code}`)),
	);
	const listening = await first.promise;
	stderr.off("data", complain).pipe(process.stderr);
	return {
		...listening,
		process: child.process,
		events,
		async command(command) {
			const before = armed.length;
			child.tell(command);
			if (!("settle" in command)) await until("the server has heard", () => armed.length > before);
		},
		async died() {
			await child.closed;
			const [place] = died;
			if (place === undefined) throw new Error("the server ended and did not say where");
			return place;
		},
		stop: () => stop(child.process),
	};
}

async function stop(child: ChildProcess): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const ended = once(child, "exit");
	child.kill("SIGTERM");
	const [code] = await ended;
	if (code !== 0) throw new Error(`the server process ended with code ${code}`);
}
