import { execFile } from "node:child_process";
import { promisify } from "node:util";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

/** Runs `sluice` as a shell does. */
export async function sluice(
	args: readonly string[],
	env: NodeJS.ProcessEnv = {},
): Promise<Readonly<{ code: number; stdout: string; stderr: string }>> {
	try {
		const run = promisify(execFile)(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN, ...args], {
			env: { ...process.env, ...env },
		});
		return { code: 0, ...(await run) };
	} catch (error) {
		const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
		return { code, stdout, stderr };
	}
}

/** What a command with `--json` says. */
export function lastLine(text: string): Record<string, unknown> {
	return JSON.parse(text.trimEnd().split("\n").at(-1) ?? "") as Record<string, unknown>;
}
