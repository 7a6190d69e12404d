import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { raisedFees } from "../../src/escrow/fees.ts";

const wei = fc.bigInt(0n, 10n ** 15n);
const fees = fc
	.tuple(wei, wei)
	.map(([a, b]) => (a > b ? [a, b] : [b, a]) as [bigint, bigint])
	.map(([maxFeePerGas, maxPriorityFeePerGas]) => ({ maxFeePerGas, maxPriorityFeePerGas }));

describe("the fees of a replacement", () => {
	it("are an eighth more than before at least, by one wei at least, both of them, and what the chain asks now", () => {
		fc.assert(
			fc.property(fees, fees, fc.nat(8), (last, estimate, underpriced) => {
				const next = raisedFees(last, estimate, { first: last, underpriced });
				// Of a wei or so there is no eighth.
				if (next === undefined) return expect(last.maxPriorityFeePerGas < 10n).toBe(true);
				for (const name of ["maxFeePerGas", "maxPriorityFeePerGas"] as const) {
					expect(next[name] * 8n >= last[name] * 9n).toBe(true);
					expect(next[name] > last[name]).toBe(true);
				}
				expect(next.maxFeePerGas >= estimate.maxFeePerGas).toBe(true);
				expect(next.maxPriorityFeePerGas <= next.maxFeePerGas).toBe(true);
			}),
		);
	});

	it("never exceed the limit; where it forbids even the least step there are none", () => {
		fc.assert(
			fc.property(fees, fees, wei, fc.nat(8), (last, estimate, limit, underpriced) => {
				const next = raisedFees(last, estimate, { first: last, limit, underpriced });
				if (next !== undefined) {
					expect(next.maxFeePerGas <= limit).toBe(true);
					expect(next.maxPriorityFeePerGas <= next.maxFeePerGas).toBe(true);
					expect(next.maxPriorityFeePerGas * 8n >= last.maxPriorityFeePerGas * 9n).toBe(true);
				} else expect(limit * 8n < last.maxFeePerGas * 9n + 8n || last.maxPriorityFeePerGas < 10n).toBe(true);
			}),
		);
	});

	it("end at ten times what was bid first or is asked now, however often a node wants more", () => {
		const first = { maxFeePerGas: 8_000n, maxPriorityFeePerGas: 800n };
		for (const estimate of [first, { maxFeePerGas: 80_000n, maxPriorityFeePerGas: 5_000n }]) {
			let last = first;
			for (let n = 0; n < 1_000; n++) last = raisedFees(last, estimate, { first, underpriced: n }) ?? last;
			expect(last.maxFeePerGas).toBeGreaterThan(5n * estimate.maxFeePerGas);
			expect(last.maxFeePerGas).toBeLessThanOrEqual(10n * estimate.maxFeePerGas);
			expect(last.maxPriorityFeePerGas).toBeLessThanOrEqual(
				10n * estimate.maxPriorityFeePerGas + estimate.maxFeePerGas,
			);
		}
	});

	it("take a step twice as high each time that a node found them too low", () => {
		const last = { maxFeePerGas: 8_000n, maxPriorityFeePerGas: 800n };
		const steps = [0, 1, 2].map((underpriced) => raisedFees(last, last, { first: last, underpriced })?.maxFeePerGas);
		expect(steps).toEqual([9_000n, 10_000n, 12_000n]);
	});
});
