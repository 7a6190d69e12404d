import { describe, expect, it } from "vitest";
import { isOpen, type SettlementPolicy, settlementSchema } from "../../../src/server/settlement/policy.ts";

const at = (time: string) => Date.parse(`2026-03-01T${time}:00Z`);

describe("a settlement policy", () => {
	it("that says nothing settles after a day and closes after an idle day", () => {
		expect(settlementSchema.parse({})).toEqual({
			maxAgeSeconds: 86_400,
			idleSeconds: 86_400,
			onIdle: "close",
			minValue: 1n,
			minValueToGas: 10,
			batchSize: 100,
			contractSigner: { maxAgeSeconds: 8_640 },
		});
	});

	it("settles what a contract signs at a tenth of amount and age, unless it says something else", () => {
		const { contractSigner } = settlementSchema.parse({ maxUnsettled: 1_000n, maxAgeSeconds: 600 });
		expect(contractSigner).toEqual({ maxUnsettled: 100n, maxAgeSeconds: 60 });
		const own = { maxUnsettled: 7n, maxAgeSeconds: 5 };
		expect(settlementSchema.parse({ maxUnsettled: 1_000n, contractSigner: own }).contractSigner).toEqual(own);
	});

	const wrong: readonly (readonly [string, SettlementPolicy])[] = [
		["a batch of none", { batchSize: 0 }],
		["a batch that is too large", { batchSize: 251 }],
		["less value than gas", { minValueToGas: 0.5 }],
		["a negative amount", { maxUnsettled: -1n }],
		["no age", { maxAgeSeconds: 0 }],
		["a coin that is worth nothing", { coinPrice: 0n }],
		["a time that is none", { windows: [{ from: "24:00", to: "05:00" }] }],
		["a window of no length", { windows: [{ from: "05:00", to: "05:00" }] }],
		["no window", { windows: [] }],
		["something unknown", { maxUnsetled: 5n } as SettlementPolicy],
	];
	it.each(wrong)("with %s is refused", (_, policy) => {
		expect(settlementSchema.safeParse(policy).success).toBe(false);
	});
});

describe("a time window", () => {
	it("holds its beginning and not its end, in UTC", () => {
		const policy = settlementSchema.parse({ windows: [{ from: "01:00", to: "05:30" }] });
		const open = ["00:59", "01:00", "05:29", "05:30", "13:00"].map((time) => isOpen(policy, at(time)));
		expect(open).toEqual([false, true, true, false, false]);
	});

	it("may go over midnight, and there may be several", () => {
		const policy = settlementSchema.parse({
			windows: [
				{ from: "22:00", to: "02:00" },
				{ from: "12:00", to: "13:00" },
			],
		});
		const open = ["21:59", "22:00", "00:00", "01:59", "02:00", "12:30"].map((time) => isOpen(policy, at(time)));
		expect(open).toEqual([false, true, true, true, false, true]);
	});

	it("is always open where none is given", () => {
		expect(isOpen(settlementSchema.parse({}), at("03:00"))).toBe(true);
	});
});
