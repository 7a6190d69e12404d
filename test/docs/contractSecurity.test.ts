import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const TESTS = new URL("../contracts/", import.meta.url);
const page = readFileSync(new URL("../../contracts/SECURITY.md", import.meta.url), "utf8");
const sources = readdirSync(TESTS, { recursive: true, encoding: "utf8" })
	.filter((path) => path.endsWith(".sol"))
	.map((path) => readFileSync(new URL(path, TESTS), "utf8"))
	.join("\n");

test("every test and rule that the escrow's security page names exists", () => {
	const named = [...page.matchAll(/`([a-z]\w{12,})`/g)].map(([, name = ""]) => name);
	const functions = named.filter((name) => name !== "authorizedSigner");
	expect(functions.length).toBeGreaterThan(60);
	expect(functions.filter((name) => !new RegExp(`function ${name}\\(`).test(sources))).toEqual([]);
});

test("every row of its tables names what shows it", () => {
	const rows = page.split("\n").filter((line) => /^\| (can't|_can_)/.test(line));
	expect(rows.length).toBeGreaterThan(30);
	expect(rows.filter((row) => !/`test|`[a-z]\w+`[,\s|]|\.t\.sol`/.test(row.split("|")[2] ?? ""))).toEqual([]);
});
