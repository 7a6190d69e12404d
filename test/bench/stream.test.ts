import { expect, test } from "vitest";
import { runStream } from "../../bench/stream/bench.ts";
import { EVENT_BYTES, MODES } from "../../bench/stream/messages.ts";

test("ten streams of each kind are paid for what they deliver, on both sides, and leave nothing behind", async () => {
	const events = { unit: 130, four: 60, byte: 110, free: 50, paced: 110, freePaced: 10 };
	const { units, left, figures, ...result } = await runStream(
		{ rounds: 1, progress: () => undefined },
		{ streams: 10, events, pauseMs: 2 },
	);
	// A round that warms them up, and one that counts: `runStream` throws where the two books differ.
	const { unit, four, byte, paced } = events;
	expect(units).toBe(2 * 10 * (unit + 4 * four + EVENT_BYTES * byte + paced));
	expect(left).toEqual({ meters: 0, bodies: 0, waiting: 0, streams: 0 });
	expect(Object.keys(figures).sort()).toEqual(Object.keys(MODES).sort());
	expect(result.unitsPerSecond).toBeGreaterThan(0);
	expect(result.rssMb).toBeGreaterThan(0);
	expect(result.heapMb).toHaveLength(2);
}, 180_000);
