import { expect, test } from "vitest";
import { measureMillionChannels } from "../../bench/millionChannels/bench.ts";

test("million-channels pays for each voucher on channels drawn by chance, whose books were written and not opened on chain", async () => {
	const options = { rounds: 1, quick: true, progress: () => undefined };
	const plan = { channels: 2_000, fewChannels: 20, atOnce: 16, count: 300 };
	const { many, few, fewFresh, ratio, rssMb, startSeconds } = await measureMillionChannels(options, plan);
	for (const { perSecond, cpuMicros } of [many, few, fewFresh]) {
		expect(perSecond).toBeGreaterThan(0);
		expect(cpuMicros).toBeGreaterThan(0);
	}
	for (const figure of [ratio, rssMb, startSeconds]) expect(figure).toBeGreaterThan(0);
}, 120_000);
