import { describe, expect, it } from "vitest";
import type { Check } from "../../src/cli/demo/report.ts";
import { lastLine, sluice } from "./demoRun.ts";

/** What every scenario with channels tells. */
const FIGURES = {
	failed: 0,
	price: "100",
	deposit: expect.stringMatching(/^[1-9]\d*$/),
	acceptedCumulative: expect.stringMatching(/^[1-9]\d*$/),
	spent: expect.stringMatching(/^[1-9]\d*$/),
	settledOnChain: expect.stringMatching(/^[1-9]\d*$/),
	payeeReceived: expect.stringMatching(/^[1-9]\d*$/),
	payerRefunded: expect.stringMatching(/^\d+$/),
	sessionTransactions: expect.any(Number),
	secondsPaid: expect.any(Number),
	requestsPerSecond: expect.any(Number),
	channelId: expect.stringMatching(/^0x[0-9a-f]{64}$/),
	chainId: 31_337,
	storePath: expect.any(String),
};

/** Runs a scenario that has to pass all of its checks. */
async function play(name: string, ...options: string[]): Promise<Record<string, unknown>> {
	const { code, stdout, stderr } = await sluice(["demo", name, "--json", ...options]);
	expect(stdout, stderr).not.toBe("");
	const outcome = lastLine(stdout);
	expect((outcome.checks as Check[]).filter(({ pass }) => !pass)).toEqual([]);
	expect(outcome).toMatchObject({ scenario: name, ...FIGURES });
	expect(code).toBe(0);
	return outcome;
}

// Each scenario starts several processes, and a busy machine takes its time.
describe("sluice demo, settlement", { timeout: 150_000 }, () => {
	it("idle-close: closes the channel of a client that vanished, with its highest voucher", async () => {
		const outcome = await play("idle-close", "--requests", "20");
		expect(outcome).toMatchObject({
			requests: 20,
			payeeReceived: "2000",
			payerRefunded: "6000",
			sessionTransactions: 4,
		});
		expect(outcome.closedAfterSeconds).toEqual(expect.any(Number));
	});

	it("request-close: is paid before the grace period ends, and takes no vouchers any more (I9, D2)", async () => {
		const outcome = await play("request-close", "--requests", "20");
		expect(outcome).toMatchObject({ graceSeconds: 900, acceptedAfterRequest: 0 });
		expect(outcome.settledAfterSeconds).toBeLessThan(450);
		expect(outcome.variants).toHaveLength(3);
		expect(outcome.settledOnChain).toBe(outcome.acceptedCumulative);
	});

	it("forced-close: the payer gets deposit - settled back without the server, killed twice on the way (I11)", async () => {
		const outcome = await play("forced-close", "--requests", "20");
		expect(outcome).toMatchObject({
			graceSeconds: 900,
			deposit: "4000",
			settledOnChain: "1000",
			payeeReceived: "1000",
			payerRefunded: "3000",
			signed: "2000",
			withdrawn: { outcome: "withdrawn", settled: "1000", refund: "3000" },
			sessionTransactions: 4,
			agentProcesses: 4,
		});
		expect(outcome.withdrawnAfterSeconds).toBeGreaterThanOrEqual(900);
	});

	it("settle-many: settles all but the one that can't be, in one run and few transactions", async () => {
		const outcome = await play("settle-many", "--requests", "24", "--channels", "12");
		expect(outcome).toMatchObject({ owed: 12, settled: 11, skipped: 1, spent: "2400", payeeReceived: "2200" });
		expect(outcome.transactions).toBeLessThanOrEqual(2);
	});

	it("crash-in-settlement: settles once, whenever the server was killed (I4, I5)", async () => {
		const outcome = await play("crash-in-settlement", "--requests", "20");
		expect(outcome.crashPoints).toHaveLength(5);
		expect(outcome).toMatchObject({ settlementsPerPoint: [1, 1, 1, 1, 1], payeeReceived: "2000" });
	});

	it("reorganization: sells nothing on what the chain took back, and counts nothing twice (I2)", async () => {
		const outcome = await play("reorganization", "--requests", "30");
		expect(outcome).toMatchObject({ frozen: 6, thawed: 20, settlements: 1, sessionTransactions: 3 });
	});

	it("gas-spike: sends only what is at risk while gas is dear, and the rest later", async () => {
		const outcome = await play("gas-spike", "--requests", "20");
		expect(outcome).toMatchObject({ sentDuringSpike: 0, urgentSent: 1, settledAfter: 3 });
		expect(outcome.settledOnChain).toBe(outcome.spent);
	});

	it("one-owner: a second process on the same folder is refused and told who has it", async () => {
		const outcome = await play("one-owner", "--requests", "20");
		expect(outcome.refusal).toMatch(/process \d+/);
	});
});
