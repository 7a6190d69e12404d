import { expect, test } from "vitest";
import { measureTwoCores } from "../../bench/twoCores/bench.ts";

test("two-cores pays for each voucher, whatever threads verify it", async () => {
	const options = { rounds: 1, quick: true, progress: () => undefined };
	const { alone, one, two, ratio } = await measureTwoCores(options, { channels: 8, atOnce: 8, count: 400 });
	for (const { perSecond, cpuMicros } of [alone, one, two]) {
		expect(perSecond).toBeGreaterThan(0);
		expect(cpuMicros).toBeGreaterThan(0);
	}
	expect(ratio).toBeGreaterThan(0);
}, 120_000);
