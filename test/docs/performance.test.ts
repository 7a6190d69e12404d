/** The page on performance: its commands are there, and its bounds are those of the sources. */
import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { BENCHES } from "../../bench/benches.ts";

const ROOT = new URL("../../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, ROOT), "utf8");
const page = read("docs/performance.md");

/** Rows of tables that name a file of the sources: that file, and the numbers of the cell before it. */
const bounds = page.split("\n").flatMap((line) => {
	const cells = line.split(" | ").map((cell) => cell.trim());
	const at = cells.findIndex((cell) => /^`src\/[\w/]+\.ts`/.test(cell));
	const [what = "", numbers = ""] = [cells[0], cells[at - 1]];
	return at < 0
		? []
		: [{ what, file: /`(.+)`/.exec(cells[at] ?? "")?.[1] ?? "", numbers: numbers.match(/[\d,]*\d/g) ?? [] }];
});

/** As it stands in the sources: with or without separators; times in ms. */
function spellings(number: string, isSeconds: boolean): readonly string[] {
	const plain = number.replaceAll(",", "");
	const separated = isSeconds ? `${number}_000` : plain.replace(/\B(?=(\d{3})+$)/g, "_");
	return [separated, ...(separated.includes("_") ? [] : [plain])];
}

it.each(bounds)("has the bound of the sources: $what", ({ file, numbers }) => {
	const source = read(file);
	expect(numbers.length).toBeGreaterThan(0);
	for (const number of numbers) {
		const found = [false, true].some((isSeconds) =>
			spellings(number, isSeconds).some((text) => new RegExp(`= ${text}\\b`).test(source)),
		);
		expect(found, `${number} in ${file}`).toBe(true);
	}
});

it("names every file of the server that keeps the last used of anything", () => {
	const listed = new Set(bounds.map(({ file }) => file));
	const parts = ["src/server/rateLimit.ts", "src/server/store/recordTable.ts"];
	const caching = globSync("src/{server,voucher,protocol,escrow}/**/*.ts", { cwd: fileURLToPath(ROOT) }).filter(
		(path) => read(path).includes("new LRUCache"),
	);
	expect(caching.filter((path) => !listed.has(path) && !parts.includes(path))).toEqual([]);
});

it("tells of every bench", () => {
	const names = [...page.matchAll(/^\| `([a-z-]+)` /gm)].map(([, name]) => name);
	expect(names.toSorted()).toEqual(expect.arrayContaining(BENCHES.map(({ bench }) => bench.name).toSorted()));
	expect(new Set(names).size).toBe(names.length);
});

it("shows commands that package.json has", () => {
	const { scripts } = JSON.parse(read("package.json"));
	const shown = [...page.matchAll(/npm run (?:-s )?([\w:]+)/g)].map(([, name]) => name ?? "");
	expect(shown.length).toBeGreaterThan(5);
	for (const name of shown) expect(Object.keys(scripts)).toContain(name);
});
