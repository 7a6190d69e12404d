import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Row } from "./rows.ts";
import { literalsOf } from "./titles.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** The text of the tests: of one file, and of what stands beside the test files and gives them titles. */
export type Sources = Readonly<{ of(file: string): string | undefined; shared: readonly string[] }>;

/** Reads the sources as they are in the working tree. */
export function readSources(): Sources {
	const read = (file: string) => plain(readFileSync(`${ROOT}${file}`, "utf8"));
	const all = globSync("test/**/*.{ts,json,sol}", { cwd: ROOT });
	const tests = new Set(all.filter((file) => file.endsWith(".test.ts") || file.endsWith(".t.sol")));
	return {
		of: (file) => (tests.has(file) ? read(file) : undefined),
		shared: all.filter((file) => !tests.has(file) && !file.startsWith("test/conformance/")).map(read),
	};
}

/**
 * Titles that no test can bear, found without running any: each part of a title, but for its placeholders, has to stand in its
 * file or in what gives titles to several files. Only a run tells for certain.
 *
 * @returns a sentence for each row and title
 */
export function checkTitles(rows: Readonly<Record<string, Row>>, { of, shared }: Sources): string[] {
	const files = new Map<string, string | undefined>();
	return Object.entries(rows).flatMap(([id, { tests = {} }]) =>
		Object.entries(tests).flatMap(([file, titles]) => {
			if (!files.has(file)) files.set(file, of(file));
			const own = files.get(file);
			// A file that is not there is told by the check of the rows.
			if (own === undefined) return [];
			const stands = (text: string) => own.includes(text) || shared.some((other) => other.includes(text));
			return titles
				.filter((title) => !partsOf(file, title).every(stands))
				.map((title) => `${id}: nothing in ${file} is called "${title}"`);
		}),
	);
}

function partsOf(file: string, title: string): readonly string[] {
	if (file.endsWith(".sol")) {
		const [contract = "", name = ""] = title.split(".");
		return [`contract ${contract} `, `function ${name}(`];
	}
	// A text that several tables put together has its seams at colons and brackets.
	return title
		.split(" > ")
		.flatMap((part) => literalsOf(part))
		.flatMap((text) => text.split(/[:()]/))
		.map((text) => text.trim())
		.filter((text) => text !== "");
}

/** As the text is when it has been read: quotes in it are written with a backslash. */
function plain(source: string): string {
	return source.replace(/\\(["'`])/g, "$1");
}
