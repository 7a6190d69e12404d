import { expect, test } from "vitest";
import { bench, measureChargeVerify } from "../../bench/chargeVerify/bench.ts";
import { watchedStage } from "./watchedStage.ts";

const NOWHERE = new URL("./no-peers/", import.meta.url);

test("charges are checked and held without any money moving, and whole ones are paid on chain, each once", async () => {
	let received: bigint | undefined;
	const stage = watchedStage((balance) => {
		received = balance;
	});
	const plan = { payers: 3, atOnce: 4, count: 10, peersCount: 1, wholeCount: 5 };
	const run = { rounds: 2, quick: true, progress: () => undefined, setStage: stage };
	const result = await measureChargeVerify(run, plan, NOWHERE);

	// Two rounds and the one that does not count, at a price of 100: what was only held has moved nothing.
	expect(received).toBe(3n * 5n * 100n);
	for (const figures of [result.ours, result.withoutSync, result.whole]) {
		expect(figures.perSecond).toBeGreaterThan(0);
		expect(figures.cpuMicros).toBeGreaterThan(0);
		expect(figures.p99Ms).toBeGreaterThanOrEqual(figures.p50Ms ?? Number.NaN);
	}
	expect(result).toMatchObject({ payers: 3, atOnce: 4, mppx: null, x402: null, vsMppx: null, vsX402: null });
	expect(bench.table(result)).toContain("Sluice, whole charges on anvil");
}, 120_000);
