import type { Conformance, Row } from "./rows.ts";
import type { Ran } from "./run.ts";
import { matchesTitle } from "./titles.ts";

/** How many requirements there are, and how many of them are proven, or excluded with a reason. */
export type Count = { covered: number; excluded: number; total: number };

/** The outcome for all drafts: counts, and a sentence for each thing that is wrong. */
export type Verdict = Readonly<{
	drafts: readonly Readonly<{ draft: string } & Count>[];
	all: Readonly<Count>;
	failures: readonly string[];
}>;

/** The files whose tests the rows name, each once. */
export function namedFiles(rows: Readonly<Record<string, Row>>): string[] {
	return [...new Set(Object.values(rows).flatMap(({ tests }) => Object.keys(tests ?? {})))].sort();
}

/**
 * Holds the rows against the tests that ran. A requirement is covered when nothing is to do for it, and each title that its
 * row names was borne by at least one test, all of which passed.
 */
export function judge({ index, rows }: Pick<Conformance, "index" | "rows">, ran: readonly Ran[]): Verdict {
	const failures: string[] = [];
	const outcomes = new Map<string, readonly string[]>();
	const outcome = (file: string, title: string): readonly string[] => {
		const key = `${file} > ${title}`;
		const known = outcomes.get(key) ?? outcomeOf(file, title, ran);
		outcomes.set(key, known);
		return known;
	};
	const drafts = index.drafts.map(({ name }) => {
		const count = { draft: name, covered: 0, excluded: 0, total: 0 };
		for (const { id } of index.rows.filter(({ draft }) => draft === name)) {
			count.total++;
			const row = rows[id];
			if (row === undefined) continue;
			const problems = [
				...Object.entries(row.tests ?? {}).flatMap(([file, titles]) => titles.flatMap((title) => outcome(file, title))),
				...(row.todo ?? []).map((todo) => `still to do, ${todo}`),
			];
			failures.push(...problems.map((problem) => `${id}: ${problem}`));
			if (row.excluded !== undefined) count.excluded++;
			else if (problems.length === 0 && row.tests !== undefined) count.covered++;
		}
		return count;
	});
	const sum = (key: keyof Count) => drafts.reduce((total, count) => total + count[key], 0);
	return { drafts, all: { covered: sum("covered"), excluded: sum("excluded"), total: sum("total") }, failures };
}

function outcomeOf(file: string, title: string, ran: readonly Ran[]): string[] {
	const borne = ran.filter((test) => test.file === file && matchesTitle(title, test.title));
	if (borne.length === 0) return [`no test of ${file} is called "${title}"`];
	return borne.filter(({ state }) => state !== "passed").map((test) => `${test.state}: ${file} > ${test.title}`);
}
