import { expect, test } from "vitest";
import { planOf } from "../../bench/streams/plan.ts";
import { runStreams } from "../../bench/streams/run.ts";

const GONE = { meters: 0, bodies: 0, waiting: 0, streams: 0, activeTimers: 0, sockets: 0 };

test("streams at once leave nothing behind, and each is paid for what it delivered, on both ledgers", async () => {
	const plan = { ...planOf({ streams: 20, seconds: 2 }), pauseMs: 50, step: 5, ahead: 5, lateMs: 60 };
	const report = await runStreams(plan, () => undefined);
	expect(report).toMatchObject({ unequal: 0, spent: report.delivered, consumed: report.delivered, after: GONE });
	expect(report.delivered).toBeGreaterThan(40);
	// Streams have waited, and a wait adds no listener to those that were there.
	expect(report.vouchersWaitedFor).toBeGreaterThan(20);
	expect(report.listenersAtMost).toBe(report.listenersAtFirst);
	expect(report.after.abortSignals).toBeLessThanOrEqual(report.before.abortSignals);
}, 180_000);

test("one stream as fast as it goes leaves nothing behind either", async () => {
	const report = await runStreams(planOf({ pieces: 20_000 }), () => undefined);
	expect(report).toMatchObject({ delivered: 20_001, consumed: 20_001, spent: 20_001, unequal: 0, after: GONE });
}, 180_000);
