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
		const added = fc.record({ n: fc.nat(10_000), hours: fc.nat(400) });
		const step = fc.oneof({ weight: 19, arbitrary: added }, fc.record({ deletedBefore: fc.nat(300) }));
		fc.assert(
			fc.property(fc.array(step, { minLength: 30, maxLength: 60, size: "max" }), (steps) => {
				const keys = learned();
				keys.learn(key(-1));
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
					expect([{ n: -1 }, ...there].filter(({ n }) => !keys.mayHave(key(n)))).toEqual([]);
				}
			}),
			{ numRuns: 20 },
		);
	});

	it("takes hardly a key for another", () => {
		const keys = learned();
		for (let n = 0; n < 300_000; n++) keys.add(key(n), HOUR_MS);
		const mistaken = Array.from({ length: 20_000 }, (_, n) => key(1_000_000 + n)).filter((one) => keys.mayHave(one));
		// Of 300,000 in 17 million bits, four each: (1 - e^(-4 * 0.3 / 16.8))^4 = 0.002 %.
		expect(mistaken.length).toBeLessThan(20);
	});

	it("says nothing before it has learned all that was there", () => {
		const keys = new ExpiringKeys();
		keys.learn(key(1));
		expect(keys.mayHave(key(2))).toBe(true);
		keys.complete();
		expect([keys.mayHave(key(1)), keys.mayHave(key(2))]).toEqual([true, false]);
	});

	it.each([1, 7, 60])("lets go of what expired where answers are kept for %i days", (days) => {
		const keys = learned();
		let now = 0;
		for (let n = 0; n < 400; n++) {
			now = n * HOUR_MS * days;
			keys.add(key(n), now + days * 24 * HOUR_MS);
			keys.deleted(now);
		}
		const expired = Array.from({ length: 300 }, (_, n) => n).filter((n) => keys.mayHave(key(n)));
		expect(expired).toEqual([]);
		for (let n = 377; n < 400; n++) expect(keys.mayHave(key(n))).toBe(true);
	});

	it("stays quick when answers are kept for a shorter time than before", () => {
		const keys = learned();
		for (let hours = 0; hours < 48; hours++) keys.add(key(hours), (1_000 + hours) * HOUR_MS);
		// A filter that is made anew for each of them would take half a minute.
		for (let n = 0; n < 20_000; n++) keys.add(key(n), (n % 24) * HOUR_MS);
		expect(Array.from({ length: 20_000 }, (_, n) => n).every((n) => keys.mayHave(key(n)))).toBe(true);
	});
});
