// `npm run conformance`: proves docs/conformance.md. See USAGE.
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { judge, namedFiles } from "./judge.ts";
import { renderPage } from "./page.ts";
import { checkRows, readConformance } from "./rows.ts";
import { runFiles } from "./run.ts";
import { checkTitles, readSources } from "./sources.ts";

const USAGE = `usage: npm run -s conformance -- [option]

Runs the tests that test/conformance/rows names for each requirement of the drafts. Fails if a requirement has no row, or if a
named test is missing, skipped or fails.

  (none)             run the tests, print a table and what is wrong
  --json             the same as one JSON object
  --list-uncovered   run nothing; list the requirements for which something is still to do
  --check            run nothing; fail if rows and index disagree, a file has no such title, or docs/conformance.md is not what
                     --write would write
  --write            run nothing; write docs/conformance.md
  --help             show this

Exit code: 0 all is well, 1 something is wrong, 2 wrong usage.`;

const PAGE = new URL("../../docs/conformance.md", import.meta.url);

async function main() {
	const options = readOptions();
	if (options.help) return console.log(USAGE);
	const conformance = readConformance();
	const wrong = checkRows(conformance);
	if (options.write) {
		writeFileSync(PAGE, renderPage(conformance));
		return report(wrong);
	}
	if (options.check) {
		const stale = readPage() !== renderPage(conformance);
		const titles = checkTitles(conformance.rows, readSources());
		return report([
			...wrong,
			...titles,
			...(stale ? ["docs/conformance.md is stale: run `npm run conformance -- --write`"] : []),
		]);
	}
	if (options["list-uncovered"]) return listUncovered(conformance, wrong);
	// A named file that is not there would make its runner fail for all the others.
	const files = namedFiles(conformance.rows).filter((file) => !wrong.some((one) => one.includes(`names ${file},`)));
	const { drafts, all, failures: failed } = judge(conformance, await runFiles(files));
	const failures = [...wrong, ...failed];
	if (options.json) {
		console.log(JSON.stringify({ commit: conformance.index.commit, drafts, ...all, failures }));
		process.exitCode = failures.length > 0 ? 1 : 0;
		return;
	}
	report(failures);
	console.log("draft      covered  excluded  total");
	for (const { draft, covered, excluded, total } of drafts) {
		console.log([draft.padEnd(9), pad(covered, 7), pad(excluded, 8), pad(total, 5)].join("  "));
	}
	console.log(`covered ${all.covered} / excluded ${all.excluded} / total ${all.total}`);
}

const pad = (value, width) => String(value).padStart(width);

function readOptions() {
	const flag = { type: "boolean" };
	const options = { json: flag, check: flag, write: flag, help: flag, "list-uncovered": flag };
	let values;
	try {
		({ values } = parseArgs({ options, strict: true, allowPositionals: false }));
	} catch (error) {
		console.error(`${error.message}\n\n${USAGE}`);
		process.exit(2);
	}
	if (Object.keys(values).length > 1) {
		console.error(`one option at a time\n\n${USAGE}`);
		process.exit(2);
	}
	return values;
}

function readPage() {
	try {
		return readFileSync(PAGE, "utf8");
	} catch (error) {
		if (error.code === "ENOENT") return undefined;
		throw error;
	}
}

function report(failures) {
	for (const failure of failures) console.error(failure);
	if (failures.length > 0) process.exitCode = 1;
}

function listUncovered({ index, rows }, wrong) {
	const open = index.rows.filter(({ id }) => rows[id] === undefined || rows[id].todo !== undefined);
	for (const { id, keyword } of open) {
		const { requirement = "no row", todo = [] } = rows[id] ?? {};
		console.log(`${id} ${keyword}: ${requirement}`);
		for (const one of todo) console.log(`    ${one}`);
	}
	console.log(`${open.length} of ${index.rows.length} uncovered`);
	report(wrong);
	if (open.length > 0) process.exitCode = 1;
}

await main();
