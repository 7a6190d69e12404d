import { describe, expect, test } from "vitest";
import { judge, namedFiles } from "../../scripts/conformance/judge.ts";
import { renderPage } from "../../scripts/conformance/page.ts";
import { type Conformance, checkRows, type Row, readConformance } from "../../scripts/conformance/rows.ts";
import { type Ran, readForge, readVitest } from "../../scripts/conformance/run.ts";
import { checkTitles, readSources } from "../../scripts/conformance/sources.ts";
import { matchesTitle } from "../../scripts/conformance/titles.ts";

const A = "test/a.test.ts";
const good: Row = { hash: "h1", requirement: "sings", tests: { [A]: ["a bird > sings"] } };

/** Two drafts of one section: three requirements, of which rows are given for some. */
function conformance(rows: Record<string, Row>): Conformance {
	const at = (draft: string, ordinal: number) => ({
		id: `${draft}/s/${ordinal}`,
		draft,
		section: "1 S",
		ordinal,
		keyword: "MUST",
		hash: `h${ordinal}`,
	});
	const drafts = ["one", "two"].map((name) => ({ name, file: `${name}.md`, sha256: "00" }));
	const index = {
		repository: "https://example.org/r",
		commit: "c0ffee",
		drafts,
		rows: [at("one", 1), at("one", 2), at("two", 1)],
	};
	return { index, rows, deviations: [] };
}

const passed = (title: string, file = A): Ran => ({ file, title, state: "passed" });

describe("rows", () => {
	const complete = {
		"one/s/1": good,
		"one/s/2": { hash: "h2", requirement: "flies", excluded: "Somebody else's." },
		"two/s/1": good,
	};
	const problems = (rows: Record<string, Row>, exists = true) => checkRows(conformance(rows), () => exists);

	test("that answer the index one by one are in order", () => {
		expect(problems(complete)).toEqual([]);
	});

	test("are missed where there is none, and found where there is no id", () => {
		const { "two/s/1": row, ...rest } = complete;
		expect(problems({ ...rest, "two/s/9": row })).toEqual([
			"two/s/1 has no row",
			"two/s/9 has a row, and is not in the index",
		]);
	});

	test.each<[string, Row, RegExp]>([
		["for another sentence", { ...good, hash: "h0" }, /^one\/s\/1 was written for another sentence.*h1$/],
		["without a requirement", { ...good, requirement: " " }, /does not say its requirement/],
		["without tests or reason", { hash: "h1", requirement: "sings" }, /neither tests nor a reason/],
		["without tests, in an empty list", { hash: "h1", requirement: "sings", tests: {} }, /neither tests nor a reason/],
		["with a file and no title", { ...good, tests: { [A]: ["x"], "test/b.test.ts": [] } }, /names no test of test\/b/],
		["with tests and a reason", { ...good, excluded: "No." }, /is excluded and has tests/],
		[
			"with something to do and a reason",
			{ hash: "h1", requirement: "s", todo: ["t: x"], excluded: "No." },
			/excluded and has/,
		],
		["with an empty reason", { hash: "h1", requirement: "sings", excluded: "" }, /excluded without a reason/],
		["with a misspelt member", { ...good, test: {} } as Row, /unknown member "test"/],
	])("%s are refused, the row named", (_, row, problem) => {
		expect(problems({ ...complete, "one/s/1": row })).toEqual([expect.stringMatching(problem)]);
	});

	test("that name a file which does not exist are refused", () => {
		expect(problems(complete, false)).toEqual(
			["one/s/1", "two/s/1"].map((id) => `${id} names ${A}, which does not exist`),
		);
	});

	test("a deviation that concerns an unknown requirement is refused", () => {
		const deviations = [{ title: "T", rows: ["one/s/1", "one/s/7"], draft: "", sluice: "", why: "" }];
		expect(checkRows({ ...conformance(complete), deviations }, () => true)).toEqual([
			'deviation "T" concerns one/s/7, which is not in the index',
		]);
	});
});

describe("a title", () => {
	test.each([
		["sings", "sings", true],
		["sings", "sings loudly", false],
		["a (b) > c.d", "a (b) > c.d", true],
		["a (b) > c.d", "a (b) > cxd", false],
		["of %s: %i", "of zeros: 3", true],
		["of %s", "of ", false],
		["has %j and 100 %%", 'has {"a":1} and 100 %', true],
		["is the vector's: $name", "is the vector's: first one", true],
		// biome-ignore lint/suspicious/noTemplateCurlyInString: the source of a title
		["died ${POINTS[point]}", "died after the\nwrite", true],
		["$set.name > x", "good > x", true],
	])("%j, borne by %j: %s", (title, ran, matches) => {
		expect(matchesTitle(title, ran)).toBe(matches);
	});
});

describe("titles, before any test runs", () => {
	const source = 'describe("a bird", () => { it.each(birds)("sings its %s, loudly", sing); it("flies", fly); })';
	const wrongOf = (file: string, title: string, shared: readonly string[] = []) => {
		const rows = { "one/s/1": { ...good, tests: { [file]: [title] } } };
		return checkTitles(rows, {
			of: (name) => ({ [A]: source, "test/B.t.sol": "contract B is T { function test_X() }" })[name],
			shared,
		});
	};

	test.each([
		[A, "a bird > sings its %s, loudly"],
		[A, "a bird > sings its $name, loudly"],
		[A, "$kind > flies"],
		["test/B.t.sol", "B.test_X"],
		["test/c.test.ts", "a file that is not there: the rows' own check says so"],
	])("of %s stand in it: %s", (file, title) => {
		expect(wrongOf(file, title)).toEqual([]);
	});

	test.each([
		[A, "a bird > swims"],
		[A, "a fish > flies"],
		[A, "a bird > sings its %s, softly"],
		["test/B.t.sol", "B.test_Y"],
		["test/B.t.sol", "C.test_X"],
	])("of %s that do not are named with their row: %s", (file, title) => {
		expect(wrongOf(file, title)).toEqual([`one/s/1: nothing in ${file} is called "${title}"`]);
	});

	test("may be put together by what several files share", () => {
		expect(wrongOf(A, "a bird > swims: %s (deep)", ['export const WATER = ["swims", "deep"]'])).toEqual([]);
	});
});

describe("the verdict", () => {
	const rows: Record<string, Row> = {
		"one/s/1": good,
		"one/s/2": { hash: "h2", requirement: "flies", excluded: "Somebody else's." },
		"two/s/1": { hash: "h1", requirement: "eats", tests: { [A]: ["eats %s"], "test/B.t.sol": ["B.test_X"] } },
	};
	const all = [passed("a bird > sings"), passed("eats nuts"), passed("eats worms"), passed("B.test_X", "test/B.t.sol")];

	test("counts what is covered and excluded, by draft and in all", () => {
		expect(judge(conformance(rows), all)).toEqual({
			drafts: [
				{ draft: "one", covered: 1, excluded: 1, total: 2 },
				{ draft: "two", covered: 1, excluded: 0, total: 1 },
			],
			all: { covered: 2, excluded: 1, total: 3 },
			failures: [],
		});
	});

	test.each<[string, Ran[], string]>([
		["is missing", all.slice(1), `one/s/1: no test of ${A} is called "a bird > sings"`],
		[
			"is in another file only",
			[passed("a bird > sings", "test/z.test.ts"), ...all.slice(1)],
			`one/s/1: no test of ${A}`,
		],
		["failed", [{ ...passed("a bird > sings"), state: "failed" }, ...all.slice(1)], `one/s/1: failed: ${A}`],
		["was skipped", [{ ...passed("a bird > sings"), state: "skipped" }, ...all.slice(1)], `one/s/1: skipped: ${A}`],
		["failed in one row of its table", [...all, { ...passed("eats stones"), state: "failed" }], "two/s/1: failed:"],
	])("fails when a named test %s", (_, ran, failure) => {
		const verdict = judge(conformance(rows), ran);
		expect(verdict.failures).toEqual([expect.stringContaining(failure)]);
		expect(verdict.all).toMatchObject({ covered: 1, total: 3 });
	});

	test("fails as long as something is to do, and does not count it as covered", () => {
		const verdict = judge(conformance({ ...rows, "one/s/1": { ...good, todo: ["birds: sings again"] } }), all);
		expect(verdict.failures).toEqual(["one/s/1: still to do, birds: sings again"]);
		expect(verdict.all.covered).toBe(1);
	});

	test("counts what has no row in the total alone", () => {
		expect(judge(conformance({}), all).all).toEqual({ covered: 0, excluded: 0, total: 3 });
	});

	test("the named files are each named once", () => {
		expect(namedFiles(rows)).toEqual(["test/B.t.sol", A]);
	});
});

describe("the runners' reports", () => {
	test("of vitest: titles joined, files from the root, only what passed has passed", () => {
		const one = (title: string, status: string, ancestorTitles = ["", "a bird"]) => ({ ancestorTitles, title, status });
		const report = {
			testResults: [
				{
					name: "/root/test/a.test.ts",
					assertionResults: [
						one("sings", "passed"),
						one("flies", "failed"),
						one("eats", "skipped"),
						one("x", "todo", []),
					],
				},
			],
		};
		expect(readVitest(JSON.stringify(report), "/root")).toEqual([
			passed("a bird > sings"),
			{ file: A, title: "a bird > flies", state: "failed" },
			{ file: A, title: "a bird > eats", state: "skipped" },
			{ file: A, title: "x", state: "skipped" },
		]);
	});

	test("of forge: contract and function, without its parameters", () => {
		const test_results = {
			"test_Sings()": { status: "Success" },
			"testFuzz_Flies(uint256)": { status: "Failure" },
			"test_Eats()": { status: "Skipped" },
		};
		expect(readForge(JSON.stringify({ "test/contracts/Bird.t.sol:BirdTest": { test_results } }))).toEqual([
			{ file: "test/contracts/Bird.t.sol", title: "BirdTest.test_Sings", state: "passed" },
			{ file: "test/contracts/Bird.t.sol", title: "BirdTest.testFuzz_Flies", state: "failed" },
			{ file: "test/contracts/Bird.t.sol", title: "BirdTest.test_Eats", state: "skipped" },
		]);
	});
});

describe("the page", () => {
	test("has every requirement once, with its tests or its reason, and nothing that breaks its tables", () => {
		const page = renderPage(
			conformance({
				"one/s/1": { ...good, requirement: "a | b", tests: { [A]: ["is <b> | `c` %s"] }, note: "Mostly." },
				"one/s/2": { hash: "h2", requirement: "flies", excluded: "Somebody else's." },
				"two/s/1": { hash: "h1", requirement: "eats", todo: ["food: eats"] },
			}),
		);
		const rows = page.split("\n").filter((line) => line.includes('<a id="'));
		expect(rows).toHaveLength(3);
		for (const row of rows) expect(row.replaceAll("\\|", "").split("|")).toHaveLength(7);
		expect(rows[0]).toContain('[a.test.ts](../test/a.test.ts): "is \\<b> \\| \\`c\\` %s"<br>*Mostly.*');
		expect(rows[1]).toContain("*Excluded.* Somebody else's.");
		expect(rows[2]).toContain("**To do:** food: eats");
	});
});

describe("what is committed", () => {
	test("answers the index one by one, in its order, and names files that exist", () => {
		const committed = readConformance();
		expect(checkRows(committed)).toEqual([]);
		expect(Object.keys(committed.rows)).toEqual(committed.index.rows.map(({ id }) => id));
	});

	test("names titles that stand in those files, so that none is renamed unnoticed", () => {
		expect(checkTitles(readConformance().rows, readSources())).toEqual([]);
	});
});
