import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sha256 } from "../../../src/server/idempotency.ts";
import { ExpiringKeys } from "../../../src/server/store/expiringKeys.ts";

const HOUR_MS = 3_600_000;
const key = (n: number) => `i:${sha256(String(n))}`;

function learned(): ExpiringKeys {
	const keys = new ExpiringKeys();
	keys.complete();
	return keys;
}

describe("ExpiringKeys", () => {
	it("misses no key that has not expired, whenever keys expire and whatever is let go (I6)", () => {
		const added = fc.record({ n: fc.nat(10_000), hours: fc.nat(200) });
		const step = fc.oneof({ weight: 9, arbitrary: added }, fc.record({ deletedBefore: fc.nat(200) }));
		fc.assert(
			fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
				const keys = learned();
				let there: { n: number; expiresAt: number }[] = [];
				for (const one of steps) {
					if ("deletedBefore" in one) {
						const now = one.deletedBefore * HOUR_MS;
						keys.deleted(now);
						there = there.filter(({ expiresAt }) => expiresAt >= now);
					} else {
						const expiresAt = one.hours * HOUR_MS;
						keys.add(key(one.n), expiresAt);
						there.push({ n: one.n, expiresAt });
					}
					expect(there.filter(({ n }) => !keys.mayHave(key(n)))).toEqual([]);
				}
			}),
			{ numRuns: 40 },
		);
	});

	it("takes hardly a key for another", () => {
		const keys = learned();
		for (let n = 0; n < 300_000; n++) keys.add(key(n), HOUR_MS);
		const mistaken = Array.from({ length: 20_000 }, (_, n) => key(1_000_000 + n)).filter((one) => keys.mayHave(one));
		// Of 300,000 in 8 million bits, four each: (1 - e^(-4 * 0.3 / 8.4))^4 = 0.03 %.
		expect(mistaken.length).toBeLessThan(60);
	});

	it("says nothing before it has got all that was there", () => {
		const keys = new ExpiringKeys();
		keys.add(key(1), HOUR_MS);
		expect(keys.mayHave(key(2))).toBe(true);
		keys.complete();
		expect([keys.mayHave(key(1)), keys.mayHave(key(2))]).toEqual([true, false]);
	});

	it("lets go of what expired: in memory is no more than belongs to 16 times of three hours each", () => {
		const keys = learned();
		for (let n = 0; n < 100; n++) keys.add(key(n), n * 3 * HOUR_MS);
		expect(keys.filters).toBe(16);
		keys.deleted(99 * 3 * HOUR_MS);
		expect(keys.filters).toBe(1);
		expect(keys.mayHave(key(99))).toBe(true);
		expect(keys.mayHave(key(3))).toBe(false);
	});
});
