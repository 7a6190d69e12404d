/** What is said of a run besides its benches' own tables. */
import { pairs } from "../src/cli/shared/table.ts";
import { figureFor, GOALS, type Goal, isMet, type Report, type Section, wanted, withUnit } from "./goals.ts";
import type { Machine, Versions } from "./lib/machine.ts";
import { table } from "./lib/table.ts";

export function machineTable(machine: Machine, versions: Versions): string {
	const { cpus, model, memoryMb, platform, kernel, loadAverage, disk } = machine;
	const { node, curve, ...others } = versions;
	const named = (prefix: string, inside: boolean) =>
		Object.entries(others)
			.filter(([name]) => name.startsWith("peers/") === inside)
			.map(([name, version]) => `${name.slice(inside ? prefix.length : 0)} ${version ?? "(not installed)"}`)
			.join(", ");
	return pairs([
		["machine", `${cpus} x ${model}, ${memoryMb} MB, ${platform}, ${kernel}; load average ${loadAverage}`],
		["disk", `${disk.fileSystem}, a synced write of 4 KiB takes ${disk.syncMs} ms`],
		["node", node],
		["versions", named("", false)],
		["peers", named("peers/", true)],
		["curve", curve],
	]);
}

/** The goals of these sections, what was reached, and by how much one was missed. */
export function goalsTable(report: Report, sections: ReadonlySet<Section>): string {
	const rows = goalsOf(sections).map((goal) => {
		const figure = figureFor(goal, report);
		const reached = figure === null ? "-" : withUnit(goal, figure);
		return [goal.label, `${goal.section}.${goal.member}`, wanted(goal), reached, verdict(goal, report)];
	});
	return table(["goal", "figure", "wanted", "reached", "met"], rows);
}

/** Those that are missed, and those whose figure is missing. */
export function unmetGoals(report: Report, sections: ReadonlySet<Section>): readonly Goal[] {
	return goalsOf(sections).filter((goal) => isMet(goal, report) !== true);
}

function goalsOf(sections: ReadonlySet<Section>): readonly Goal[] {
	return GOALS.filter(({ section }) => sections.has(section));
}

function verdict(goal: Goal, report: Report): string {
	const figure = figureFor(goal, report);
	if (figure === null) return "not measured";
	if (isMet(goal, report)) return "yes";
	const bound = "atLeast" in goal ? goal.atLeast : "atMost" in goal ? goal.atMost : goal.below;
	const percent = Math.ceil((100 * Math.abs(figure - bound)) / bound);
	return `MISSED by ${percent} %`;
}
