// Installs the peers that the benches compare Sluice with, into bench/peers/node_modules: `npm run bench:setup`.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FOLDER = new URL("../bench/peers/", import.meta.url);

const { dependencies } = JSON.parse(readFileSync(new URL("package.json", FOLDER), "utf8"));
const peers = Object.entries(dependencies).map(([name, version]) => `${name} ${version}`);
console.log(`installing the benches' peers, about 140 MB: ${peers.join(", ")}`);

const startedAt = performance.now();
// None of them has anything to run.
const options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
const { status, error } = spawnSync("npm", options, {
	cwd: fileURLToPath(FOLDER),
	stdio: "inherit",
	shell: process.platform === "win32",
});
if (status !== 0) {
	console.error(`the peers could not be installed${error ? `: ${error.message}` : ""}; npm says why above`);
	console.error("without them, `npm run bench` still measures Sluice, and leaves the comparisons out");
	process.exit(1);
}
const seconds = Math.round((performance.now() - startedAt) / 1_000);
console.log(`the peers are installed in bench/peers (${seconds} s): \`npm run bench\` compares with them`);
