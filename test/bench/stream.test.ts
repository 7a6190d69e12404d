import { expect, test } from "vitest";
import { runStream } from "../../bench/stream/bench.ts";
import { EVENT_BYTES, MODES } from "../../bench/stream/messages.ts";

test("ten streams of each kind are paid for what they deliver, on both sides, and leave nothing behind", async () => {
	const size = { streams: 10, events: 130, pacedEvents: 110, pauseMs: 2 };
	const { units, left, figures, ...result } = await runStream({ rounds: 1, progress: () => undefined }, size);
	// A round that warms them up, and one that counts: `runStream` throws where the two books differ.
	const eventUnits = size.events * (1 + 4 + EVENT_BYTES) + size.pacedEvents;
	expect(units).toBe(2 * size.streams * eventUnits);
	expect(left).toEqual({ meters: 0, bodies: 0, waiting: 0, streams: 0 });
	expect(Object.keys(figures)).toEqual(Object.keys(MODES));
	expect(result.unitsPerSecond).toBeGreaterThan(0);
	expect(result.rssMb).toBeGreaterThan(0);
	expect(result.heapMb).toHaveLength(2);
}, 180_000);
