import { afterEach, describe, expect, it } from "vitest";
import { type Program, run } from "./process.ts";

/** Longer than any test waits. */
const LATE = "600000";

let program: Program;
afterEach(() => void program.child.kill("SIGKILL"));

async function start(how: string, deadlineMs = LATE): Promise<Program> {
	program = run("signalsProcess.ts", how, deadlineMs);
	await program.says("ready");
	return program;
}

describe.each(["SIGTERM", "SIGINT"] as const)("%s", (signal) => {
	it("ends the process with 0 when all that was under way has ended", async () => {
		const { child, says, ended } = await start("drains");
		child.kill(signal);
		await says(`${signal}: stopping`);
		child.stdin?.write("go\n");
		expect(await ended).toBe(0);
	});
});

describe("a process that is stopping", () => {
	it("ends at once with 1 by a second signal of either kind, and says that nothing is lost", async () => {
		const { child, says, said, ended } = await start("drains");
		child.kill("SIGTERM");
		await says("SIGTERM: stopping");
		child.kill("SIGINT");
		expect(await ended).toBe(1);
		expect(said()).toMatch(/SIGINT again.*on disk.*next start/);
	});

	it("ends with 1 at its deadline, also when nothing but the stop is left that could end", async () => {
		const { child, said, ended } = await start("hangs", "200");
		child.kill("SIGTERM");
		expect(await ended).toBe(1);
		expect(said()).toContain("not stopped within 200 ms");
	});

	it("ends with 1 when stopping fails, however it fails", async () => {
		const { child, said, ended } = await start("throws");
		child.kill("SIGTERM");
		expect(await ended).toBe(1);
		expect(said()).toContain("stopping failed: no such luck");
	});
});

it("lets signals be what they were when they are not to be taken any longer", async () => {
	const { child, ended } = await start("forgets");
	child.kill("SIGTERM");
	expect(await ended).toBe("SIGTERM");
});
