import { expect, test } from "vitest";
import { alternate } from "../../bench/lib/bench.ts";
import { summarise } from "../../bench/lib/cpuProfile.ts";
import { figuresOf, median, ratioOf } from "../../bench/lib/figures.ts";
import { measureRound, percentiles, type Round } from "../../bench/lib/round.ts";
import { figuresTable } from "../../bench/lib/table.ts";

const round = (count: number, seconds: number, more: Partial<Round> = {}): Round => ({
	count,
	seconds,
	cpuSeconds: seconds,
	rssBytes: 1e6,
	...more,
});

test("a median is the middle one, or between the two in the middle", () => {
	expect(median([3])).toBe(3);
	expect(median([9, 1, 5])).toBe(5);
	expect(median([10, 2, 4, 100])).toBe(7);
	expect(() => median([])).toThrow(RangeError);
});

test("percentiles are of what was measured, in whichever order it came", () => {
	const times = Array.from({ length: 1_000 }, (_, i) => (i * 7) % 1_000);
	expect(percentiles(times)).toEqual({ p50Ms: 500, p99Ms: 990 });
	expect(percentiles([4])).toEqual({ p50Ms: 4, p99Ms: 4 });
	expect(percentiles([])).toEqual({});
});

test("figures are medians of rounds, with the least and the most of them", () => {
	const rounds = [
		round(100, 1, { cpuSeconds: 0.5, p50Ms: 3, p99Ms: 30 }),
		round(100, 0.5, { cpuSeconds: 0.2, p50Ms: 1, p99Ms: 10, rssBytes: 9e6 }),
		round(100, 4, { cpuSeconds: 0.3, p50Ms: 2, p99Ms: 20 }),
	];
	expect(figuresOf(rounds)).toEqual({
		perSecond: 100,
		leastPerSecond: 25,
		mostPerSecond: 200,
		cpuMicros: 3_000,
		p50Ms: 2,
		p99Ms: 20,
		rssBytes: 9e6,
	});
	expect(figuresOf([round(10, 1)])).not.toHaveProperty("p50Ms");
});

test("a ratio is taken round by round, so that a slow machine slows both", () => {
	// Thirty, twenty and ten times: medians alone would say 1,000 to 100.
	const ours = [round(3_000, 1), round(1_000, 1), round(1_000, 1)];
	const theirs = [round(100, 1), round(50, 1), round(100, 1)];
	expect(ratioOf(ours, theirs)).toBe(20);
});

test("a round's count, time and processor time are those of the work", async () => {
	const measured = await measureRound(10, async (latenciesMs) => {
		const until = performance.now() + 20;
		while (performance.now() < until);
		latenciesMs.push(1, 2, 3);
	});
	expect(measured).toMatchObject({ count: 10, p50Ms: 2, p99Ms: 3 });
	expect(measured.seconds).toBeGreaterThanOrEqual(0.02);
	expect(measured.cpuSeconds).toBeGreaterThan(0);
	expect(measured.rssBytes).toBeGreaterThan(1e6);
});

test("sides take turns, the first turn of each does not count, and one that is not there has no rounds", async () => {
	const turns: string[] = [];
	const turnOf = (name: string, order: number) => ({
		order,
		side: {
			async round(told: number) {
				turns.push(name);
				return round(told, 1);
			},
		},
	});
	const measured = await alternate(2, { ours: turnOf("ours", 7), theirs: turnOf("theirs", 3), third: undefined });
	expect(turns).toEqual(["ours", "theirs", "ours", "theirs", "ours", "theirs"]);
	expect(measured).toEqual({ ours: [round(7, 1), round(7, 1)], theirs: [round(3, 1), round(3, 1)] });
});

test("a side that was not measured stands in the table with dashes", () => {
	const lines = figuresTable("vouchers", [
		{ label: "ours", figures: figuresOf([round(12_345, 1)]) },
		{ label: "theirs", figures: undefined },
	]).split("\n");
	expect(lines[2]).toMatch(/^\| ours +\| +12,345 \| 12,345..12,345 \|/);
	expect(lines[3]?.replaceAll(" ", "")).toBe("|theirs|-|-|-|-|-|-|");
	expect(new Set(lines.map(({ length }) => length)).size).toBe(1);
});

test("a profile is summed up by function or file, without what waits and what was to be left out", () => {
	const callFrame = (functionName: string, url: string, lineNumber: number) => ({ functionName, url, lineNumber });
	const verify = callFrame("verify", "file:///project/src/voucher/verify.ts", 9);
	const profile = {
		nodes: [
			{ id: 1, callFrame: callFrame("(idle)", "", -1) },
			{ id: 2, callFrame: verify },
			// The same function, called from elsewhere.
			{ id: 3, callFrame: verify },
			{ id: 4, callFrame: callFrame("(program)", "", -1) },
			{ id: 5, callFrame: callFrame("prepare", "file:///project/bench/ours.ts", 0), children: [6] },
			{ id: 6, callFrame: callFrame("", "file:///project/node_modules/@some/curves/sign.js", 4), children: [7] },
			{ id: 7, callFrame: verify },
		],
		samples: [2, 1, 3, 4, 5, 6, 7],
		timeDeltas: [1_000, 2_000, 50_000, 4_000, 2_000, 10_000, 20_000],
		startTime: 0,
		endTime: 119_000,
	};
	const root = "file:///project/";
	expect(summarise(profile, { root, without: ["prepare"] })).toEqual({
		idleMs: 50,
		busyMs: 8,
		selfTimes: [
			{ name: "verify", place: "src/voucher/verify.ts:10", ms: 6, share: 0.75 },
			{ name: "(program)", place: "", ms: 2, share: 0.25 },
		],
	});
	const { selfTimes } = summarise(profile, { root, by: "file" });
	expect(selfTimes.map(({ place, ms }) => [place, ms])).toEqual([
		["src/voucher/verify.ts", 36],
		["node_modules/@some/curves", 20],
		["bench/ours.ts", 10],
		["(program)", 2],
	]);
});
