/** What a process that is a part of the demo hears from its parent, and tells it: JSON, one object a line. */
import { once } from "node:events";
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";

/** What a child says first, and how it does what it is told after that. */
export type Started<Command> = Readonly<{ hello: object; obey: (command: Command) => void }>;

/**
 * Reads the settings, keys included, as one line from standard input, so that no secret stands in arguments or environment,
 * and then what is to be done. Ends with its input, or when it can't start.
 */
export async function runAsChild<Settings, Command>(
	start: (settings: Settings) => Promise<Started<Command>>,
): Promise<void> {
	try {
		const lines = createInterface({ input: process.stdin });
		const [line] = (await once(lines, "line")) as [string];
		const { hello, obey } = await start(JSON.parse(line) as Settings);
		lines.on("line", (text) => obey(JSON.parse(text) as Command));
		lines.on("close", () => process.exit(0));
		say(hello);
	} catch (error) {
		process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
		process.exit(1);
	}
}

/** Says something to the parent process. Straight into the pipe: what was said is said, also if this process dies next. */
export function say(what: object): void {
	writeSync(1, `${JSON.stringify(what)}\n`);
}

/** Amounts as decimal strings. */
export function asText(values: object): Record<string, unknown> {
	const texts = Object.entries(values).map(([name, value]) => [
		name,
		typeof value === "bigint" ? String(value) : value,
	]);
	return Object.fromEntries(texts) as Record<string, unknown>;
}
