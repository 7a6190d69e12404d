import { describe, expect, it } from "vitest";
import { Lead } from "../../src/cli/demo/lead.ts";
import { lastLine, sluice } from "./demoRun.ts";

describe("sluice demo stream", () => {
	it("reads tokens and pays as it reads: neither side is ahead by more than its bound, and ledger and chain agree", async () => {
		const { code, stdout } = await sluice(["demo", "stream", "--json"]);
		const { checks, ...outcome } = lastLine(stdout);
		expect(outcome).toMatchObject({
			scenario: "stream",
			requests: 1,
			ok: 1,
			failed: 0,
			price: "100",
			tokens: 2_000,
			tokensDelivered: 2_000,
			deposit: "400000",
			acceptedCumulative: "200000",
			spent: "200000",
			settledOnChain: "200000",
			payeeReceived: "200000",
			payerRefunded: "200000",
			sessionTransactions: 2,
		});
		expect(outcome.maxUnpaidUnits).toBeLessThanOrEqual(1);
		expect(outcome.maxPrepaidUnits).toBeLessThanOrEqual(200);
		// It was a credit that was used, not everything paid ahead in one voucher, nor a voucher for each token.
		expect(outcome.maxPrepaidUnits).toBeGreaterThan(1);
		expect(outcome.vouchers).toBeGreaterThanOrEqual(11);
		expect(outcome.vouchers).toBeLessThanOrEqual(22);
		expect(checks).toSatisfy((all: { pass: boolean }[]) => all.length > 0 && all.every(({ pass }) => pass));
		expect(code).toBe(0);
	});

	it("takes the number of tokens, also one that no voucher's step divides", async () => {
		const { code, stdout } = await sluice(["demo", "stream", "--json", "--tokens", "37"]);
		expect(code).toBe(0);
		expect(lastLine(stdout)).toMatchObject({
			tokens: 37,
			spent: "3700",
			acceptedCumulative: "3700",
			payeeReceived: "3700",
			sessionTransactions: 2,
		});
	});
});

describe("a lead", () => {
	it("counts what has left one side against what has reached it, the worse way for both", () => {
		const lead = new Lead(100n);
		lead.voucherLeft(100n);
		expect(lead).toMatchObject({ maxPrepaidUnits: 1, maxUnpaidUnits: 0 });
		// The server sends before the voucher has reached it.
		lead.unitLeft();
		expect(lead.maxUnpaidUnits).toBe(1);
		lead.voucherArrived(100n);
		// The client signs before what was sent has reached it; half a unit counts as one.
		lead.voucherLeft(350n);
		expect(lead.maxPrepaidUnits).toBe(4);
		lead.unitsArrived(1);
		lead.voucherArrived(350n);
		lead.unitLeft();
		lead.unitLeft();
		expect(lead.maxUnpaidUnits).toBe(1);
		// Half a unit that was paid for is none.
		lead.unitLeft();
		expect(lead.maxUnpaidUnits).toBe(1);
		lead.unitLeft();
		expect(lead.maxUnpaidUnits).toBe(2);
		expect(lead.delivered).toBe(1);
	});
});
