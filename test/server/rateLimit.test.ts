import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RateLimit } from "../../src/server/rateLimit.ts";

function limit(perSecond: number, keys = 10) {
	let at = 1_000_000;
	const rate = new RateLimit({ perSecond, keys, now: () => at });
	return { rate, pass: (ms: number) => (at += ms) };
}

describe("a rate", () => {
	test("gives as many at once as in a second, then says how long to wait, each key its own", () => {
		const { rate, pass } = limit(4);
		for (let n = 0; n < 4; n++) expect(rate.take("a")).toBe(0);
		expect(rate.take("a")).toBeCloseTo(0.25);
		expect(rate.take("b")).toBe(0);
		pass(249);
		expect(rate.take("a")).toBeGreaterThan(0);
		pass(1);
		expect(rate.take("a")).toBe(0);
	});

	test("below one in a second gives one, and the next when its time has come", () => {
		const { rate, pass } = limit(0.5);
		expect(rate.take("a")).toBe(0);
		expect(rate.take("a")).toBeCloseTo(2);
		pass(2_000);
		expect(rate.take("a")).toBe(0);
	});

	test("saves up no more than a second's worth, and a clock that goes back gives nothing", () => {
		const { rate, pass } = limit(3);
		pass(60_000);
		for (let n = 0; n < 3; n++) expect(rate.take("a")).toBe(0);
		pass(-60_000);
		expect(rate.take("a")).toBeGreaterThan(0);
	});

	test("never gives more in any time than it says, whatever the order of things", () => {
		const waits = fc.array(fc.integer({ min: 0, max: 2_000 }), { minLength: 1, maxLength: 200, size: "max" });
		fc.assert(
			fc.property(fc.double({ min: 0.1, max: 50, noNaN: true }), waits, (perSecond, all) => {
				const { rate, pass } = limit(perSecond);
				let given = 0;
				let elapsed = 0;
				for (const ms of all) {
					pass(ms);
					elapsed += ms;
					if (rate.take("a") === 0) given++;
				}
				expect(given).toBeLessThanOrEqual(Math.max(1, perSecond) + (perSecond * elapsed) / 1_000 + 1e-6);
			}),
		);
	});
});
