// `npm run coverage:contracts`: runs the Solidity tests with instrumented contracts and shows how much of the escrow
// they reach. Fails below 100 % of lines, branches or functions.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const FORGE = new URL("../node_modules/.bin/forge", import.meta.url).pathname;

/** What is deployed. The test doubles are not. */
const DEPLOYED = /^contracts\/(PaymentChannelEscrow|escrow\/\w+)\.sol$/;

const folder = mkdtempSync(join(tmpdir(), "sluice-coverage-"));
try {
	const report = join(folder, "lcov.info");
	const { status } = spawnSync(FORGE, ["coverage", "--report", "lcov", "--report-file", report], {
		stdio: ["ignore", "ignore", "inherit"],
		env: { ...process.env, FOUNDRY_PROFILE: "coverage" },
	});
	if (status !== 0) throw new Error("forge coverage failed: run `FOUNDRY_PROFILE=coverage forge coverage` to see why");
	const files = readFileSync(report, "utf8").split("end_of_record").map(readRecord);
	const deployed = files.filter(({ file }) => DEPLOYED.test(file));
	console.log("file                                        lines         branches      functions");
	for (const { file, ...parts } of deployed) {
		const cells = Object.values(parts).map(({ hit, found }) => `${hit}/${found}`.padEnd(14));
		console.log(`${file.padEnd(44)}${cells.join("").trimEnd()}`);
	}
	const parts = deployed.flatMap(({ lines, branches, functions }) => [lines, branches, functions]);
	const complete = deployed.length > 0 && parts.every(({ hit, found }) => hit === found);
	const branches = deployed.reduce(
		(sum, { branches: { hit, found } }) => ({ hit: sum.hit + hit, found: sum.found + found }),
		{ hit: 0, found: 0 },
	);
	console.log(
		`branches: ${branches.hit} of ${branches.found}, ${((100 * branches.hit) / branches.found).toFixed(1)} %`,
	);
	if (!complete) {
		console.error("Some of the escrow is not reached: write the test that reaches it.");
		process.exitCode = 1;
	}
} finally {
	rmSync(folder, { recursive: true, force: true });
}

function readRecord(record) {
	const value = (key) => record.match(new RegExp(`^${key}:(.*)$`, "m"))?.[1];
	const part = (name) => ({ hit: Number(value(`${name}H`) ?? 0), found: Number(value(`${name}F`) ?? 0) });
	return { file: value("SF") ?? "", lines: part("L"), branches: part("BR"), functions: part("FN") };
}
