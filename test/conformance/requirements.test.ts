import { describe, expect, test } from "vitest";
import { keywordsOf } from "../../scripts/conformance/keywords.ts";
import { readBlocks, slug, splitSentences } from "../../scripts/conformance/kramdown.ts";
import { findRequirements, hashSentence } from "../../scripts/conformance/requirements.ts";

/** What is found in a text, as `section's anchor/ordinal keyword`. */
function found(...lines: string[]): string[] {
	return findRequirements("d", lines.join("\n")).map(({ id, keyword }) => `${id.slice("d/".length)} ${keyword}`);
}

describe("keywords", () => {
	test.each<[string, string[]]>([
		["A bird MUST sing.", ["MUST"]],
		["It MUST NOT bite and SHOULD NOT shout, but SHALL eat.", ["MUST NOT", "SHOULD NOT", "SHALL"]],
		["Wings are REQUIRED.", ["REQUIRED"]],
		["Flying REQUIRES wings; wings REQUIRE food.", ["REQUIRED", "REQUIRED"]],
		["Shoes are NOT REQUIRED.", []],
		["It MAY sleep; this is RECOMMENDED, or OPTIONAL.", []],
		["It must sing; MUSTARD and XMUST are no keywords.", []],
	])("of %j are %j", (sentence, keywords) => {
		expect(keywordsOf(sentence)).toEqual(keywords);
	});
});

describe("sentences", () => {
	test("end where another one can begin", () => {
		expect(splitSentences("One. Two! (Three.) `four` five?\nSix")).toEqual([
			"One.",
			"Two!",
			"(Three.)",
			"`four` five?",
			"Six",
		]);
	});

	test("do not end inside code, after abbreviations, or before a small letter", () => {
		const whole = "Use `a. B` (e.g. Nuts), see J. Doe, v. small and 1.5 etc. `x`";
		expect(splitSentences(whole)).toEqual([whole]);
	});

	test("have the same hash however their lines are broken, and another one when a word is another", () => {
		expect(hashSentence("A bird\n  MUST sing.")).toBe(hashSentence("A bird MUST sing."));
		expect(hashSentence("A bird MUST sing.")).toMatch(/^[0-9a-f]{16}$/);
		expect(hashSentence("A bird MUST swim.")).not.toBe(hashSentence("A bird MUST sing."));
	});
});

describe("blocks", () => {
	test("are headings, paragraphs, items with what belongs to them, tables and code; front matter is none", () => {
		const draft = [
			"title: MUST be ignored",
			"--- middle",
			"# The *Nest* {#home}",
			"> A note",
			"> in two lines",
			"",
			"1. first",
			"   goes on",
			"",
			"   and has a second part",
			"   - nested",
			"",
			"| a | b |",
			"|---|---|",
			"| `x|y` | z |",
			"~~~",
			"# no heading",
			"~~~",
			"last",
		].join("\n");
		expect(readBlocks(draft)).toEqual([
			{ kind: "heading", depth: 1, title: "The *Nest*", anchor: "home", appendix: false },
			{ kind: "paragraph", text: "A note in two lines" },
			{ kind: "item", indent: 0, number: 1, text: "first goes on and has a second part" },
			{ kind: "item", indent: 3, number: undefined, text: "nested" },
			{ kind: "table", header: ["a", "b"], rows: [["`x|y`", "z"]] },
			{ kind: "code" },
			{ kind: "paragraph", text: "last" },
		]);
	});

	test("a heading without an anchor gets the one that kramdown makes", () => {
		expect(slug("The Nest (v2), again")).toBe("the-nest-v2-again");
	});
});

describe("requirements", () => {
	test("are one for each keyword, counted by section", () => {
		expect(
			found("# Birds", "A bird MUST sing and MUST NOT bite. It SHOULD fly.", "# Fish {#f}", "Fish MUST swim."),
		).toEqual(["birds/1 MUST", "birds/2 MUST NOT", "birds/3 SHOULD", "f/1 MUST"]);
	});

	test("have their section's number and title, with letters behind the body", () => {
		const rows = findRequirements("d", "# A\n## B\nIt MUST.\n# C\nIt MUST.\n--- back\n# D\n## E\n### `F`\nIt MUST.");
		expect(rows.map(({ section }) => section)).toEqual(["1.1 B", "2 C", "A.1.1 F"]);
	});

	test("in sections of the same name are kept apart", () => {
		expect(found("# Same", "It MUST.", "# Same", "It MUST.")).toEqual(["same/1 MUST", "same-2/1 MUST"]);
	});

	test("broken over lines are found, in notes and items too, and in code not", () => {
		expect(
			found("# S", "> It MUST", "> NOT bite.", "", "- It SHOULD", "  NOT shout.", "~~~", "It MUST.", "~~~"),
		).toEqual(["s/1 MUST NOT", "s/2 SHOULD NOT"]);
	});

	test("before a list count once for each step, with the step in the sentence", () => {
		const rows = findRequirements("d", "# S\nA bird MUST:\n\n1. Wake up. Early.\n2. Sing\n");
		expect(rows.map(({ id, keyword, sentence }) => [id, keyword, sentence])).toEqual([
			["d/s/1", "MUST", "A bird MUST: Wake up. Early."],
			["d/s/2", "MUST", "A bird MUST: Sing"],
		]);
	});

	test("before a list leave the sentence its other keywords", () => {
		expect(
			found("# S", "Fish SHOULD swim. Birds MUST eat and SHOULD:", "", "- sing", "- fly", "", "It MUST end."),
		).toEqual(["s/1 SHOULD", "s/2 MUST", "s/3 SHOULD", "s/4 SHOULD", "s/5 MUST"]);
	});

	test("of a step that ends in a colon are those nested in it", () => {
		const rows = findRequirements("d", "# S\nBirds MUST:\n\n1. Look for:\n   - worms\n   - nuts\n2. Eat\n");
		expect(rows.map(({ sentence }) => sentence)).toEqual([
			"Birds MUST: Look for: worms",
			"Birds MUST: Look for: nuts",
			"Birds MUST: Eat",
		]);
	});

	test("of a step with a keyword of its own are that one", () => {
		expect(found("# S", "Birds MUST:", "", "- Sing, which SHOULD be loud", "- Eat. They MUST NOT steal.")).toEqual([
			"s/1 SHOULD",
			"s/2 MUST",
			"s/3 MUST NOT",
		]);
	});

	test("of an item that governs what is nested in it", () => {
		expect(found("# S", "- Birds MUST eat:", "  - worms", "  - nuts", "- Fish swim.")).toEqual([
			"s/1 MUST",
			"s/2 MUST",
		]);
	});

	test("go on behind a bold line, and behind any line where the numbers go on", () => {
		expect(
			found("# S", "Birds MUST:", "", "**By day:**", "", "1. sing", "", "**By night:**", "", "1. sleep"),
		).toHaveLength(2);
		expect(found("# S", "Birds MUST:", "", "1. sing", "", "Later:", "", "2. sleep")).toHaveLength(2);
		expect(found("# S", "Birds MUST:", "", "1. sing", "", "Fish:", "", "1. swim")).toHaveLength(1);
		expect(found("# S", "Birds MUST:", "", "1. sing", "", "Then.", "", "2. sleep")).toHaveLength(1);
	});

	test("of a sentence that ends in a colon before code or text are its own", () => {
		expect(found("# S", "Birds MUST sing:", "~~~", "la", "~~~")).toEqual(["s/1 MUST"]);
		expect(found("# S", "Birds MUST sing:", "", "La.")).toEqual(["s/1 MUST"]);
	});

	test("over a table count once for each row", () => {
		const table = ["", "| when | then |", "|---|---|", "| hungry | eat |", "| tired | sleep |"];
		expect(found("# S", "Birds MUST know this:", ...table)).toEqual(["s/1 MUST", "s/2 MUST"]);
		expect(found("# S", "The following table says what birds MUST do.", ...table)).toEqual(["s/1 MUST", "s/2 MUST"]);
		expect(found("# S", "Birds MUST sing.", ...table)).toEqual(["s/1 MUST"]);
	});

	test("in a table: the REQUIRED fields together, and each keyword in another cell", () => {
		const rows = findRequirements(
			"d",
			[
				"# S",
				"| name | needed | what |",
				"|---|---|---|",
				"| `wing` | REQUIRED | MUST be whole. Two of them |",
				"| `tail` | OPTIONAL | Any |",
				"| `beak` | REQUIRED | Sharp |",
				"| `nest` | CONDITIONAL | REQUIRED in spring |",
			].join("\n"),
		);
		expect(rows.map(({ keyword, sentence }) => [keyword, sentence])).toEqual([
			["REQUIRED", expect.stringMatching(/wing.*beak/)],
			["MUST", "`wing` | MUST be whole."],
			["REQUIRED", "`nest` | REQUIRED in spring"],
		]);
		expect(rows[0]?.sentence).not.toContain("tail");
	});
});
