/** Sums up a .cpuprofile: which functions, or files, took most time themselves. */
import { table, whole } from "./table.ts";

/** What V8 writes, as far as it is read here. */
export type CpuProfile = Readonly<{
	nodes: readonly Readonly<{ id: number; callFrame: CallFrame; children?: readonly number[] }>[];
	/** Which node was on top, again and again. */
	samples: readonly number[];
	/** Microseconds that went by before each sample. */
	timeDeltas: readonly number[];
	/** Microseconds, as are the deltas. */
	startTime: number;
	endTime: number;
}>;

type CallFrame = Readonly<{ functionName: string; url: string; lineNumber: number }>;

export type SelfTime = Readonly<{
	/** Of the function; empty where files are told of. */
	name: string;
	/** Its file and line, below the project's folder; empty where it is not JavaScript. */
	place: string;
	ms: number;
	/** Of the time in which anything ran. */
	share: number;
}>;

export type ProfileSummary = Readonly<{
	/** Most first. */
	selfTimes: readonly SelfTime[];
	busyMs: number;
	idleMs: number;
}>;

export type SummaryOptions = Readonly<{
	/** The project's folder, as a URL that ends in a slash. */
	root: string;
	by?: "function" | "file";
	/** Functions that are left out with all that they call. What they await is not. */
	without?: readonly string[];
}>;

/** Self time by function or file, most first. What waits counts as idle, and is in no share. */
export function summarise(
	profile: CpuProfile,
	{ root, by = "function", without = [] }: SummaryOptions,
): ProfileSummary {
	const frames = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame]));
	const leftOut = belowOf(profile, new Set(without));
	const sums = new Map<string, { name: string; place: string; ms: number }>();
	let idleMs = 0;
	let at = profile.startTime;
	for (const [i, id] of profile.samples.entries()) {
		const frame = frames.get(id);
		at += profile.timeDeltas[i] ?? 0;
		// A sample stands until the next one is taken.
		const ms = Math.max(0, profile.timeDeltas[i + 1] ?? profile.endTime - at) / 1_000;
		if (frame === undefined || leftOut.has(id)) continue;
		if (frame.functionName === "(idle)") {
			idleMs += ms;
			continue;
		}
		const { name, place } = by === "file" ? fileOf(frame, root) : functionOf(frame, root);
		const key = `${name} ${place}`;
		const sum = sums.get(key);
		if (sum === undefined) sums.set(key, { name, place, ms });
		else sum.ms += ms;
	}
	const busyMs = [...sums.values()].reduce((total, { ms }) => total + ms, 0);
	const selfTimes = [...sums.values()]
		.sort((a, b) => b.ms - a.ms)
		.map((sum) => ({ ...sum, share: busyMs === 0 ? 0 : sum.ms / busyMs }));
	return { selfTimes, busyMs, idleMs };
}

/** These functions' nodes, and all below them. Parents stand before their children. */
function belowOf({ nodes }: CpuProfile, names: ReadonlySet<string>): ReadonlySet<number> {
	const below = new Set<number>();
	for (const { id, callFrame, children = [] } of nodes) {
		if (names.has(callFrame.functionName)) below.add(id);
		if (below.has(id)) for (const child of children) below.add(child);
	}
	return below;
}

/** For people. A library that is not JavaScript stands as what called it, as `(native)` or as `(program)`. */
export function profileTable({ selfTimes, busyMs, idleMs }: ProfileSummary, top: number): string {
	const files = selfTimes.every(({ name }) => name === "");
	const rows = selfTimes.slice(0, top).map(({ name, place, ms, share }) => {
		const figures = [ms.toFixed(1), `${(100 * share).toFixed(1)} %`];
		return files ? [place, ...figures] : [name, ...figures, place];
	});
	const head = files ? ["file", "self ms", "of busy"] : ["function", "self ms", "of busy", "file:line"];
	return [`${whole(busyMs)} ms busy, ${whole(idleMs)} ms idle`, "", table(head, rows)].join("\n");
}

function functionOf(frame: CallFrame, root: string): Readonly<{ name: string; place: string }> {
	const { functionName, url, lineNumber } = frame;
	// V8 counts from 0.
	return { name: functionName || "(anonymous)", place: url === "" ? "" : `${pathOf(url, root)}:${lineNumber + 1}` };
}

/** A package is one file, and so is Node. */
function fileOf({ functionName, url }: CallFrame, root: string): Readonly<{ name: string; place: string }> {
	if (url === "") return { name: "", place: functionName.startsWith("(") ? functionName : "(native)" };
	if (url.startsWith("node:")) return { name: "", place: "node" };
	const path = pathOf(url, root);
	const [inPackage] = path.match(/^.*node_modules\/(?:@[^/]+\/)?[^/]+/) ?? [];
	return { name: "", place: inPackage ?? path };
}

function pathOf(url: string, root: string): string {
	return url.startsWith(root) ? url.slice(root.length) : url;
}
