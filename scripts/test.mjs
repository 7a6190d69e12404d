// `npm test`: runs every test runner, then prints their totals on a line of their own. Folders given to it are all that
// the TypeScript runner then takes.
// Fails when a runner fails, when a test fails, or when a runner ran nothing.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const BIN = new URL("../node_modules/.bin/", import.meta.url).pathname;

/** Runs a command, shows its output as it comes, resolves to its exit code and what it printed. */
function run(command, args) {
	return new Promise((resolve, reject) => {
		const child = spawn(join(BIN, command), args, { stdio: ["ignore", "pipe", "inherit"] });
		let output = "";
		child.stdout.on("data", (chunk) => {
			output += chunk;
			process.stdout.write(chunk);
		});
		child.on("error", reject);
		child.on("close", (code) => resolve({ code, output }));
	});
}

async function runSolidity() {
	const { code, output } = await run("forge", ["test"]);
	// biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters
	const plain = output.replace(/\u001b\[[0-9;]*m/g, "");
	const count = (word) =>
		Number(plain.match(new RegExp(`: .*?(\\d+)(?: tests)? ${word}.*\\(\\d+ total tests\\)`))?.[1] ?? 0);
	assertTestedIsDeployed();
	return { name: "solidity", code, passed: count("passed"), failed: count("failed") };
}

/** Forge tests the very code that hardhat builds and that is deployed: their settings are kept in two files. */
function assertTestedIsDeployed() {
	const root = new URL("../", import.meta.url);
	const artifact = new URL("artifacts/forge/PaymentChannelEscrow.sol/PaymentChannelEscrow.json", root);
	const { bytecode } = JSON.parse(readFileSync(artifact, "utf8"));
	if (!readFileSync(new URL("src/escrow/generated/escrow.ts", root), "utf8").includes(`"${bytecode.object}"`)) {
		throw new Error(
			"Forge built another escrow than the one in src/escrow/generated: compare foundry.toml with hardhat.config.ts, " +
				"or run `npm run build:contracts`",
		);
	}
}

async function runTypeScript() {
	const folder = mkdtempSync(join(tmpdir(), "sluice-test-"));
	try {
		const report = join(folder, "vitest.json");
		const { code } = await run("vitest", [
			"run",
			...process.argv.slice(2),
			"--reporter=default",
			"--reporter=json",
			`--outputFile.json=${report}`,
		]);
		const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, "utf8"));
		return { name: "typescript", code, passed: numPassedTests, failed: numFailedTests };
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}

const results = [await runSolidity(), await runTypeScript()];
const sum = (key) => results.reduce((total, result) => total + result[key], 0);
for (const { name, code, passed, failed } of results) {
	console.log(`${name}: ${passed} passed, ${failed} failed, exit code ${code}`);
}
console.log(`${sum("passed")} passed, ${sum("failed")} failed`);
process.exitCode = results.every(({ code, passed, failed }) => code === 0 && failed === 0 && passed > 0) ? 0 : 1;
