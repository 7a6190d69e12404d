/** Sums up a .cpuprofile: which functions took most time themselves. */
import { table, whole } from "./table.ts";

/** What V8 writes, as far as it is read here. */
export type CpuProfile = Readonly<{
	nodes: readonly Readonly<{ id: number; callFrame: CallFrame }>[];
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
	name: string;
	/** File and line of the function, below the project's folder; empty where it is not JavaScript. */
	place: string;
	ms: number;
	/** Of the time in which anything ran. */
	share: number;
}>;

export type ProfileSummary = Readonly<{
	/** Most first. */
	functions: readonly SelfTime[];
	busyMs: number;
	idleMs: number;
}>;

/**
 * Self time by function, most first. What waits counts as idle, and is in no share.
 *
 * @param root the project's folder, as a URL that ends in a slash
 */
export function summarise(profile: CpuProfile, root: string): ProfileSummary {
	const frames = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame]));
	const sums = new Map<string, { name: string; place: string; ms: number }>();
	let idleMs = 0;
	let at = profile.startTime;
	for (const [i, id] of profile.samples.entries()) {
		const frame = frames.get(id);
		at += profile.timeDeltas[i] ?? 0;
		// A sample stands until the next one is taken.
		const ms = Math.max(0, profile.timeDeltas[i + 1] ?? profile.endTime - at) / 1_000;
		if (frame === undefined) continue;
		if (frame.functionName === "(idle)") {
			idleMs += ms;
			continue;
		}
		const name = frame.functionName || "(anonymous)";
		const place = placeOf(frame, root);
		const key = `${name} ${place}`;
		const sum = sums.get(key);
		if (sum === undefined) sums.set(key, { name, place, ms });
		else sum.ms += ms;
	}
	const busyMs = [...sums.values()].reduce((total, { ms }) => total + ms, 0);
	const functions = [...sums.values()]
		.sort((a, b) => b.ms - a.ms)
		.map((sum) => ({ ...sum, share: busyMs === 0 ? 0 : sum.ms / busyMs }));
	return { functions, busyMs, idleMs };
}

/** For people. Libraries that are not JavaScript stand as what called them, or as `(program)`. */
export function profileTable({ functions, busyMs, idleMs }: ProfileSummary, top: number): string {
	const rows = functions
		.slice(0, top)
		.map(({ name, place, ms, share }) => [name, ms.toFixed(1), `${(100 * share).toFixed(1)} %`, place]);
	return [
		`${whole(busyMs)} ms busy, ${whole(idleMs)} ms idle`,
		"",
		table(["function", "self ms", "of busy", "file:line"], rows),
	].join("\n");
}

function placeOf({ url, lineNumber }: CallFrame, root: string): string {
	if (url === "") return "";
	const file = url.startsWith(root) ? url.slice(root.length) : url;
	// V8 counts from 0.
	return `${file}:${lineNumber + 1}`;
}
