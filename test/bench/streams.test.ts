import { expect, test } from "vitest";
import { planOf } from "../../bench/streams/plan.ts";
import { runStreams } from "../../bench/streams/run.ts";

const GONE = { meters: 0, bodies: 0, waiting: 0, streams: 0, activeTimers: 0, sockets: 0 };

test("streams at once leave nothing behind, and each is paid for what it delivered, on both ledgers", async () => {
	// Two seconds, about: as many pieces as come in that time, so that nothing hangs on how fast it is.
	const pace = { seconds: 0, pieces: 60, pauseMs: 30, lateMs: 60, step: 5, ahead: 5, blockUnits: 32 };
	const report = await runStreams({ streams: 20, ...pace }, () => undefined);
	const units = 20 * (1 + 60);
	expect(report).toMatchObject({ delivered: units, consumed: units, spent: units, unequal: 0, after: GONE });
	// Streams have waited, and a wait adds no listener to those that were there.
	expect(report.vouchersWaitedFor).toBeGreaterThan(0);
	expect(report.listenersAtMost).toBe(report.listenersAtFirst);
	expect(report.after.abortSignals).toBeLessThanOrEqual(report.before.abortSignals);
}, 180_000);

test("one stream as fast as it goes leaves nothing behind either", async () => {
	const report = await runStreams(planOf({ pieces: 20_000 }), () => undefined);
	expect(report).toMatchObject({ delivered: 20_001, consumed: 20_001, spent: 20_001, unequal: 0, after: GONE });
}, 180_000);
