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
				const next = raisedFees(last, estimate, { underpriced });
				if (next === undefined) throw new Error("no limit forbids it");
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
				const next = raisedFees(last, estimate, { limit, underpriced });
				if (next !== undefined) {
					expect(next.maxFeePerGas <= limit).toBe(true);
					expect(next.maxPriorityFeePerGas <= next.maxFeePerGas).toBe(true);
					expect(next.maxPriorityFeePerGas * 8n >= last.maxPriorityFeePerGas * 9n).toBe(true);
				} else expect(limit * 8n < last.maxFeePerGas * 9n + 8n).toBe(true);
			}),
		);
	});

	it("take a step twice as high each time that a node found them too low", () => {
		const last = { maxFeePerGas: 8_000n, maxPriorityFeePerGas: 800n };
		const steps = [0, 1, 2].map((underpriced) => raisedFees(last, last, { underpriced })?.maxFeePerGas);
		expect(steps).toEqual([9_000n, 10_000n, 12_000n]);
	});
});
