/** Runs benches one after the other and puts together what they tell. */
import type { Entry } from "./benches.ts";
import { emptyReport, type Report, type Section } from "./goals.ts";
import type { RunOptions } from "./lib/bench.ts";
import { shareStages } from "./lib/sharedStage.ts";

export type Outcome = Readonly<{
	report: Report;
	/** All figures of all benches, by their names. */
	details: Readonly<Record<string, unknown>>;
	/** Of the benches that failed, by their names. */
	errors: Readonly<Record<string, unknown>>;
	/** What was to be measured. */
	sections: ReadonlySet<Section>;
}>;

/**
 * Runs them all: one that fails does not keep the others from running.
 *
 * @param onTable is told the table of each as soon as it is there
 */
export async function runBenches(
	entries: readonly Entry[],
	options: Omit<RunOptions, "setStage">,
	onTable: (title: string, table: string) => void,
): Promise<Outcome> {
	const stages = shareStages();
	let report = emptyReport();
	const details: Record<string, unknown> = {};
	const errors: Record<string, unknown> = {};
	try {
		for (const { bench, report: tell } of entries) {
			const { name, description } = bench;
			const startedAt = performance.now();
			const seconds = () => `${((performance.now() - startedAt) / 1_000).toFixed(1)} s`;
			const progress = (text: string) => options.progress(`${name}: ${text}`);
			try {
				const result = await bench.run({ ...options, progress, setStage: stages.setStage });
				report = merge(report, rounded(tell(result)));
				details[name] = rounded(result);
				onTable(`${name}: ${description}`, bench.table(result));
				progress(`took ${seconds()}`);
			} catch (error) {
				errors[name] = error;
				progress(`failed after ${seconds()}`);
			}
		}
	} finally {
		await stages.stop();
	}
	return { report, details, errors, sections: new Set(entries.flatMap(({ sections }) => sections)) };
}

/** What is told of one section may come from several benches. */
function merge(report: Report, told: Readonly<Record<string, unknown>>): Report {
	const sections = Object.entries(report).map(([section, figures]) => [
		section,
		{ ...figures, ...(told[section] as object | undefined) },
	]);
	return Object.fromEntries(sections) as Report;
}

/** Figures as they are printed: four digits, more where they are whole. Amounts become decimal strings. */
// biome-ignore lint/suspicious/noExplicitAny: it stays what it was, but for its figures
export function rounded(value: any): any {
	if (typeof value === "bigint") return String(value);
	if (typeof value === "number") return Math.abs(value) >= 1_000 ? Math.round(value) : Number(value.toPrecision(4));
	if (Array.isArray(value)) return value.map(rounded);
	if (typeof value !== "object" || value === null) return value;
	return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, rounded(member)]));
}
