import { describe, expect, it } from "vitest";
import { lastLine, sluice } from "./demoRun.ts";

type Limit = Readonly<{ name: string; limit: string; signed: string; refusals: number; message: string }>;
type Check = Readonly<{ name: string; pass: boolean }>;

describe("sluice demo policy", () => {
	it("has an agent run into each kind of limit, and what it signs never exceeds any (I11)", async () => {
		const { code, stdout } = await sluice(["demo", "policy", "--json"]);
		const { limits, checks, ...outcome } = lastLine(stdout) as { limits: Limit[]; checks: Check[] };
		expect(checks.filter(({ pass }) => !pass)).toEqual([]);
		expect(code).toBe(0);
		expect(outcome).toMatchObject({ scenario: "policy", price: "100" });
		for (const { limit, signed, refusals } of limits) {
			expect(BigInt(signed)).toBeLessThanOrEqual(BigInt(limit));
			expect(refusals).toBeGreaterThan(0);
		}
		const named = Object.fromEntries(limits.map((one) => [one.name, one]));
		for (const scope of ["host", "payee", "category.models", "total"])
			for (const window of ["hour", "day", "month", "ever"])
				expect(named[`${scope}.${window}`]).toMatchObject({ limit: "500", signed: "500" });
		for (const name of ["request (a whole stream)", "maxStream", "maxTotal", "channel.ever"])
			expect(named[name]).toMatchObject({ limit: "500", signed: "500" });
		expect(named.maxChannels).toMatchObject({ limit: "1", signed: "1" });
		for (const name of ["request", "approveAbove", "maxPrice", "maxDeposit", "paused", "dryRun"])
			expect(named[name]).toMatchObject({ signed: "0" });
		for (const name of ["hosts", "payees", "tokens", "currencies.tokens", "chainIds", "escrows"])
			expect(named[name]).toMatchObject({ signed: "0" });
		for (const what of ["hosts", "payees", "tokens", "chainIds", "escrows"])
			expect(named[`denied.${what}`]).toMatchObject({ signed: "0" });
		expect(named["host.day"]?.message).toMatch(
			/^policy: host 127\.0\.0\.1:\d+ is over its daily limit: 0\.0005 of 0\.0005 USDC, and 0\.0001 more is asked for; it begins anew at \d{4}-\d\d-\d\dT00:00:00\.000Z$/,
		);
	});
});
