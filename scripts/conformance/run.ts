import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";

/** One test that a runner knows, with its file from the root. */
export type Ran = Readonly<{ file: string; title: string; state: "passed" | "failed" | "skipped" }>;

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const BIN = join(ROOT, "node_modules", ".bin");

/**
 * Runs the tests of these files, each runner once, and tells of every test in them. What the runners print goes to stderr.
 *
 * @throws Error when a runner can't be run or leaves no report
 */
export async function runFiles(files: readonly string[]): Promise<Ran[]> {
	const solidity = files.filter((file) => file.endsWith(".t.sol"));
	const typescript = files.filter((file) => file.endsWith(".test.ts"));
	const strange = files.filter((file) => !solidity.includes(file) && !typescript.includes(file));
	if (strange.length > 0) throw new Error(`no runner is known for ${strange.join(", ")}`);
	return [
		...(solidity.length > 0 ? await runForge(solidity) : []),
		...(typescript.length > 0 ? await runVitest(typescript) : []),
	];
}

const forgeReport = z.record(
	z.string(),
	z.object({ test_results: z.record(z.string(), z.object({ status: z.string() })) }),
);

async function runForge(files: readonly string[]): Promise<Ran[]> {
	const paths = files.length === 1 ? files[0] : `{${files.join(",")}}`;
	const output = await run("forge", ["test", "--json", "--match-path", String(paths)]);
	return readForge(output);
}

/** The tests in a report of `forge test --json`: titles are `Contract.function`. */
export function readForge(report: string): Ran[] {
	return Object.entries(forgeReport.parse(JSON.parse(report))).flatMap(([suite, { test_results }]) => {
		const [file = "", contract = ""] = suite.split(":");
		return Object.entries(test_results).map(([signature, { status }]) => ({
			file,
			title: `${contract}.${signature.replace(/\(.*$/, "")}`,
			state:
				status === "Success" ? ("passed" as const) : status === "Skipped" ? ("skipped" as const) : ("failed" as const),
		}));
	});
}

const vitestReport = z.object({
	testResults: z.array(
		z.object({
			name: z.string(),
			assertionResults: z.array(
				z.object({ ancestorTitles: z.array(z.string()), title: z.string(), status: z.string() }),
			),
		}),
	),
});

async function runVitest(files: readonly string[]): Promise<Ran[]> {
	const folder = mkdtempSync(join(tmpdir(), "sluice-conformance-"));
	try {
		const report = join(folder, "vitest.json");
		await run(
			"vitest",
			["run", ...files, "--reporter=default", "--reporter=json", `--outputFile.json=${report}`],
			true,
		);
		if (!existsSync(report)) throw new Error("vitest left no report");
		return readVitest(readFileSync(report, "utf8"), ROOT);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}

/** The tests in a report of `vitest --reporter=json`: titles are joined by " > ", outermost first. */
export function readVitest(report: string, root: string): Ran[] {
	return vitestReport.parse(JSON.parse(report)).testResults.flatMap(({ name, assertionResults }) =>
		assertionResults.map(({ ancestorTitles, title, status }) => ({
			file: relative(root, name),
			title: [...ancestorTitles.filter((one) => one !== ""), title].join(" > "),
			state:
				status === "passed" ? ("passed" as const) : status === "failed" ? ("failed" as const) : ("skipped" as const),
		})),
	);
}

/** Runs a tool of `node_modules` in the root, and resolves to what it printed, whether or not its tests passed. */
function run(tool: string, args: readonly string[], show = false): Promise<string> {
	return new Promise((resolve, reject) => {
		const child = spawn(join(BIN, tool), args, {
			cwd: ROOT,
			stdio: ["ignore", "pipe", "inherit"],
			env: { ...process.env, PATH: `${BIN}:${process.env.PATH}` },
		});
		let output = "";
		child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
			output += chunk;
			if (show) process.stderr.write(chunk);
		});
		child.on("error", reject);
		child.on("close", () => resolve(output));
	});
}
