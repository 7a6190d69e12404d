// Makes test/conformance/index.json from the drafts: one row for each requirement, by section, ordinal and hash.
// The sentences themselves stay where they are; `--show` prints them, for whoever writes or reviews the rows.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { findRequirements } from "./requirements.ts";

const USAGE = "usage: node scripts/conformance/extract.mjs <git directory of the drafts> [commit] [--show]";
const INDEX = new URL("../../test/conformance/index.json", import.meta.url);
const REPOSITORY = "https://github.com/tempoxyz/mpp-specs";
const DRAFTS = [
	{ name: "core", file: "specs/core/draft-httpauth-payment-00.md" },
	{ name: "session", file: "specs/methods/evm/draft-evm-session-00.md" },
	{ name: "charge", file: "specs/methods/evm/draft-evm-charge-00.md" },
	{ name: "jsonrpc", file: "specs/extensions/transports/draft-payment-transport-mcp-00.md" },
];

const given = process.argv.slice(2).filter((arg) => arg !== "--show");
const [directory, revision = "HEAD"] = given;
if (directory === undefined || given.length > 2 || given.some((arg) => arg.startsWith("-"))) {
	console.error(USAGE);
	process.exit(2);
}

const git = (...rest) =>
	execFileSync("git", ["--git-dir", directory, ...rest], { encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });

const commit = git("rev-parse", "--verify", `${revision}^{commit}`).trim();
const texts = DRAFTS.map(({ name, file }) => ({ name, file, text: git("show", `${commit}:${file}`) }));
const found = texts.flatMap(({ name, text }) => findRequirements(name, text));

if (process.argv.includes("--show")) {
	for (const { id, section, keyword, hash, sentence } of found) {
		console.log(`${id} [${section}] ${keyword} ${hash}\n    ${sentence}`);
	}
} else {
	const drafts = texts.map(({ name, file, text }) => ({
		name,
		file,
		sha256: createHash("sha256").update(text).digest("hex"),
	}));
	const rows = found.map(({ sentence: _, ...row }) => row);
	writeFileSync(INDEX, `${JSON.stringify({ repository: REPOSITORY, commit, drafts, rows }, undefined, 2)}\n`);
	for (const { name } of drafts) console.log(`${name}: ${rows.filter(({ draft }) => draft === name).length} rows`);
	console.log(`total: ${rows.length} rows at ${commit}`);
}
