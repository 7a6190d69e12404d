import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BENCHES, entry } from "../../bench/benches.ts";
import { emptyReport, GOALS, isMet, MEMBERS, type Section } from "../../bench/goals.ts";
import { PEERS_HINT } from "../../bench/lib/peers.ts";
import { rounded, runBenches } from "../../bench/run.ts";
import { bench, measureSessionVerify, type SessionVerifyResult } from "../../bench/sessionVerify/bench.ts";
import { goalsTable, unmetGoals } from "../../bench/summary.ts";

const TINY = { channels: 8, atOnce: 4, count: 200, peersCount: 4 };
/** A folder for peers, with none in it. */
let noPeers: string;

beforeAll(async () => {
	noPeers = await mkdtemp(join(tmpdir(), "sluice-no-peers-"));
});
afterAll(() => rm(noPeers, { recursive: true, force: true }));

test("session-verify pays for each voucher, says that peers are missing, and has no ratios without them", async () => {
	const told: string[] = [];
	const tables: string[] = [];
	const options = { rounds: 1, quick: true, progress: (text: string) => told.push(text) };
	const tiny = entry<SessionVerifyResult>(
		{ ...bench, run: (given) => measureSessionVerify(given, TINY, pathToFileURL(`${noPeers}/`)) },
		["sessionVerify"],
		({ ours, vsMppx, vsX402 }) => ({ sessionVerify: { ours: ours.perSecond, vsMppx, vsX402 } }),
	);
	const { report, details, errors } = await runBenches([tiny], options, (_, table) => tables.push(table));

	expect(errors).toEqual({});
	expect(told.filter((text) => text.includes(PEERS_HINT))).toHaveLength(1);
	expect(report.sessionVerify).toEqual({
		ours: expect.any(Number),
		mppx: null,
		x402: null,
		vsMppx: null,
		vsX402: null,
	});
	const { ours, withoutSync, mppx } = details["session-verify"] as SessionVerifyResult;
	for (const { perSecond, cpuMicros, p50Ms, p99Ms, rssBytes } of [ours, withoutSync])
		for (const figure of [perSecond, cpuMicros, p50Ms, p99Ms, rssBytes]) expect(figure).toBeGreaterThan(0);
	expect(mppx).toBeNull();
	expect(tables.join()).toContain("| Sluice, LevelDB with fsync");
}, 120_000);

test("a bench that fails does not keep the others from running", async () => {
	const failing = { name: "failing", description: "", run: () => Promise.reject(new Error("no")), table: () => "" };
	const sound = { ...failing, name: "sound", run: async () => ({ rate: 123_456.7, spent: 10n }) };
	const { report, details, errors, sections } = await runBenches(
		[
			entry(failing, ["clientSign"], () => ({})),
			entry(sound, ["stream"], ({ rate }) => ({ stream: { unitsPerSecond: rate } })),
		],
		{ rounds: 1, quick: true, progress: () => undefined },
		() => undefined,
	);
	expect(Object.keys(errors)).toEqual(["failing"]);
	expect(details).toEqual({ sound: { rate: 123_457, spent: "10" } });
	expect(report).toEqual({ ...emptyReport(), stream: { unitsPerSecond: 123_457, rssMb: null } });
	expect([...sections]).toEqual(["clientSign", "stream"]);
	expect(unmetGoals(report, sections).map(({ section }) => section)).toEqual(["clientSign"]);
});

test("the report has the members that were agreed on, each bench its own name, and each goal a figure", () => {
	expect(emptyReport()).toEqual({
		sessionVerify: { ours: null, mppx: null, x402: null, vsMppx: null, vsX402: null },
		sessionHttp: {
			ours: null,
			x402: null,
			unpaid: null,
			vsX402: null,
			aheadVsX402: null,
			addedMicros: null,
			paidOverUnpaid: null,
		},
		twoCores: { ratio: null },
		millionChannels: { ratio: null, rssMb: null, startSeconds: null },
		clientSign: { ours: null, mppx: null, vsMppx: null },
		stream: { unitsPerSecond: null, rssMb: null },
		fallback: { vsX402: null },
	});
	const names = BENCHES.map(({ bench: { name } }) => name);
	expect(new Set(names).size).toBe(names.length);
	for (const { section, member } of GOALS) expect(MEMBERS[section]).toContain(member);
});

test("a goal is for the figure as it is printed, and a missed one says by how much", () => {
	const sections = new Set<Section>(["sessionVerify", "sessionHttp", "millionChannels"]);
	const report = {
		...emptyReport(),
		...rounded({
			sessionVerify: { ours: 1, mppx: 1, x402: 1, vsMppx: 39.9996, vsX402: 20 },
			sessionHttp: { ...emptyReport().sessionHttp, addedMicros: 90, paidOverUnpaid: 0.2 },
			millionChannels: { ratio: 0.6, rssMb: 350, startSeconds: 0.031 },
		}),
	};
	const met = Object.fromEntries(GOALS.map((goal) => [`${goal.section}.${goal.member}`, isMet(goal, report)] as const));
	expect(met).toMatchObject({
		"sessionVerify.vsMppx": true,
		"sessionVerify.vsX402": false,
		"sessionHttp.vsX402": undefined,
		"sessionHttp.addedMicros": false,
		"sessionHttp.paidOverUnpaid": true,
		"millionChannels.ratio": true,
		"millionChannels.rssMb": false,
		"millionChannels.startSeconds": true,
	});
	const line = (member: string) =>
		goalsTable(report, sections)
			.split("\n")
			.find((text) => text.includes(member));
	expect(line("sessionVerify.vsX402")).toMatch(/>= 25x \| +20x \| +MISSED by 20 % \|$/);
	expect(line("sessionHttp.addedMicros")).toMatch(/<= 75 µs \| +90 µs \| +MISSED by 20 % \|$/);
	expect(line("sessionHttp.vsX402")).toMatch(/ - \| +not measured \|$/);
	expect(line("millionChannels.rssMb")).toContain("MISSED");
	expect(goalsTable(report, sections)).not.toContain("clientSign");
});
