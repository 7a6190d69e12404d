import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
	type Bar,
	type BatchLimits,
	costOf,
	GAS,
	gasOf,
	isWorth,
	type Market,
	mayBeWorth,
	planSteps,
	type Row,
	rowsPerBatch,
	type Step,
} from "../../../src/server/settlement/economics.ts";

const GWEI = 10n ** 9n;
/** One coin is worth 3,000 of a token with six decimals. */
const USDC: Market = { feePerGas: GWEI, coinPrice: 3_000_000_000n };
const LIMITS: BatchLimits = { batchSize: 100, maxGas: 2_000_000n, relayed: false };
const ROUTINE: Bar = { kind: "routine", minValue: 1n, minValueToGas: 10 };
const URGENT: Bar = { kind: "urgent", minValue: 1n };

const row = (value: bigint, more: Partial<Row> = {}): Row => ({ value, single: false, byContract: false, ...more });

const aRow = fc.record({
	value: fc.oneof(fc.bigInt(0n, 10n ** 7n), fc.bigInt(0n, 2n ** 128n - 1n)),
	single: fc.boolean(),
	byContract: fc.boolean(),
});
const aMarket = fc.option(
	fc.record({ feePerGas: fc.bigInt(0n, 5_000n * GWEI), coinPrice: fc.bigInt(1n, 10n ** 30n) }),
	{ nil: undefined },
);
const aBar: fc.Arbitrary<Bar> = fc.oneof(
	fc.record({
		kind: fc.constant("routine" as const),
		minValue: fc.bigInt(0n, 10n ** 6n),
		minValueToGas: fc.double({ min: 1, max: 1_000, noNaN: true }),
	}),
	fc.record({ kind: fc.constant("urgent" as const), minValue: fc.bigInt(0n, 10n ** 6n) }),
);
const limits = fc.record({
	batchSize: fc.integer({ min: 1, max: 250 }),
	maxGas: fc.bigInt(100_000n, 10_000_000n),
	relayed: fc.boolean(),
});
const aPlan = fc.record({
	way: fc.constantFrom("settle" as const, "close" as const),
	rows: fc.array(aRow, { maxLength: 300, size: "max" }),
	bar: aBar,
	market: aMarket,
	limits,
});

const brings = ({ rows }: Step<Row>) => rows.reduce((sum, { value }) => sum + value, 0n);
const gas = ({ way, rows }: Step<Row>, relayed: boolean) =>
	rows.reduce((sum, one) => sum + gasOf(way, one, rows.length, relayed), 0n);

describe("what gas costs", () => {
	it("is counted in base units of the token and rounded up", () => {
		expect(costOf(58_200n, USDC)).toBe(174_600n);
		expect(costOf(1n, { feePerGas: 1n, coinPrice: 1n })).toBe(1n);
		expect(costOf(58_200n, undefined)).toBe(0n);
	});

	it("of a row falls with the size of its batch, from a settlement by itself to little more than the row", () => {
		expect(gasOf("settle", row(1n), 1, false)).toBe(GAS.settle);
		expect(gasOf("settle", row(1n), 100, false)).toBe(16_850n);
		expect(gasOf("close", row(1n), 1, false)).toBe(GAS.close);
		expect(gasOf("settle", row(1n, { single: true, byContract: true }), 1, false)).toBe(88_200n);
		expect(gasOf("settle", row(1n), 1, true)).toBe(GAS.settleByRelayer);
	});
});

describe("what is worth it", () => {
	it("is ten times its gas where nobody waits for it, and more than its gas where it may be lost (I9)", () => {
		expect(isWorth(1_746_000n, GAS.settle, ROUTINE, USDC)).toBe(true);
		expect(isWorth(1_745_999n, GAS.settle, ROUTINE, USDC)).toBe(false);
		expect(isWorth(174_601n, GAS.settle, URGENT, USDC)).toBe(true);
		expect(isWorth(174_600n, GAS.settle, URGENT, USDC)).toBe(false);
	});

	it("is at least minValue, which alone counts where nobody knows what gas costs", () => {
		expect(isWorth(49n, GAS.settle, { ...ROUTINE, minValue: 50n }, undefined)).toBe(false);
		expect(isWorth(50n, GAS.settle, { ...ROUTINE, minValue: 50n }, undefined)).toBe(true);
		expect(isWorth(49n, GAS.settle, { ...URGENT, minValue: 50n }, undefined)).toBe(false);
		expect(isWorth(50n, GAS.settle, { ...URGENT, minValue: 50n }, undefined)).toBe(true);
		expect(isWorth(0n, GAS.settle, { ...ROUTINE, minValue: 0n }, undefined)).toBe(false);
	});
});

describe("which rows go together", () => {
	it("two hundred go in two full batches, the highest values first", () => {
		const rows = Array.from({ length: 200 }, (_, n) => row(10_000_000n + BigInt(n)));
		const { steps, rest } = planSteps("settle", rows, ROUTINE, USDC, LIMITS);
		expect(steps.map((step) => step.rows.length)).toEqual([100, 100]);
		expect(steps[0]?.rows[0]?.value).toBe(10_000_199n);
		expect(rest).toEqual([]);
	});

	it("a batch is as small as the most gas of a transaction makes it, and none is much smaller than another", () => {
		expect(rowsPerBatch("settle", LIMITS)).toBe(100);
		expect(rowsPerBatch("close", LIMITS)).toBe(66);
		expect(rowsPerBatch("close", { ...LIMITS, relayed: true })).toBe(1);
		const rows = Array.from({ length: 101 }, () => row(10_000_000n));
		const { steps } = planSteps("settle", rows, ROUTINE, USDC, LIMITS);
		expect(steps.map((step) => step.rows.length)).toEqual([51, 50]);
	});

	it("what is worth it in a batch only is left when the batch does not come about", () => {
		const enough = 10n * costOf(gasOf("settle", row(0n), 100, false), USDC);
		const many = Array.from({ length: 100 }, () => row(enough));
		expect(planSteps("settle", many, ROUTINE, USDC, LIMITS).rest).toEqual([]);
		expect(planSteps("settle", many.slice(1), ROUTINE, USDC, LIMITS).steps).toEqual([]);
	});

	it("what a contract signed goes by itself", () => {
		const rows = [row(9_000_000n), row(8_000_000n, { single: true, byContract: true }), row(7_000_000n)];
		const { steps } = planSteps("settle", rows, ROUTINE, USDC, LIMITS);
		expect(steps.map((step) => step.rows.map(({ value }) => value))).toEqual([[9_000_000n, 7_000_000n], [8_000_000n]]);
	});

	it("whatever the rows and prices: each row is in one place, a step is no larger than allowed, and brings in what the bar asks", () => {
		fc.assert(
			fc.property(aPlan, ({ way, rows, bar, market, limits }) => {
				const { steps, rest } = planSteps(way, rows, bar, market, limits);
				const placed = [...steps.flatMap((step) => step.rows), ...rest];
				expect(placed.length).toBe(rows.length);
				expect(new Set(placed)).toEqual(new Set(rows));
				for (const step of steps) {
					const total = gas(step, limits.relayed);
					expect(step.rows.length).toBeLessThanOrEqual(rowsPerBatch(way, limits));
					if (step.rows.length > 1) {
						expect(total).toBeLessThanOrEqual(limits.maxGas);
						expect(step.rows.some(({ single }) => single)).toBe(false);
					}
					for (const one of step.rows)
						expect(isWorth(one.value, gasOf(way, one, step.rows.length, limits.relayed), bar, market)).toBe(true);
				}
			}),
		);
	});

	it("whatever the rows and prices: the fee never exceeds what a step brings in, divided by what the bar asks, and what gas costs now may be bid", () => {
		fc.assert(
			fc.property(aPlan, ({ way, rows, bar, market, limits }) => {
				for (const step of planSteps(way, rows, bar, market, limits).steps) {
					if (market === undefined) {
						expect(step.feeLimit).toBeUndefined();
						continue;
					}
					const ratio = bar.kind === "routine" ? bar.minValueToGas : 1;
					const feeLimit = step.feeLimit ?? -1n;
					expect(feeLimit).toBeGreaterThanOrEqual(market.feePerGas);
					const worst = costOf(gas(step, limits.relayed), { ...market, feePerGas: feeLimit });
					expect(worst * BigInt(Math.floor(ratio * 1_000))).toBeLessThanOrEqual(
						brings(step) * 1_000n + BigInt(Math.ceil(ratio * 1_000)),
					);
					if (bar.kind === "urgent") expect(worst).toBeLessThanOrEqual(brings(step));
				}
			}),
		);
	});

	it("whatever the rows: dearer gas sends no row that cheaper gas would leave, and what can't be worth it never is", () => {
		fc.assert(
			fc.property(aPlan, fc.bigInt(2n, 100n), ({ way, rows, bar, market, limits }, times) => {
				if (market === undefined) return;
				const worth = (feePerGas: bigint) =>
					planSteps(way, rows, bar, { ...market, feePerGas }, limits).steps.flatMap((step) => step.rows).length;
				expect(worth(market.feePerGas * times)).toBeLessThanOrEqual(worth(market.feePerGas));
				for (const step of planSteps(way, rows, bar, market, limits).steps)
					for (const one of step.rows) expect(one.single || mayBeWorth(way, one, bar, market, limits)).toBe(true);
			}),
		);
	});
});
