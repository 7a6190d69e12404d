import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SCENARIOS } from "../../src/cli/demo/demo.ts";
import { LevelStore } from "../../src/server/index.ts";
import { lastLine, sluice } from "./demoRun.ts";

describe("sluice demo", () => {
	let folder: string;
	beforeAll(async () => {
		folder = await mkdtemp(join(tmpdir(), "sluice-cli-"));
	});
	afterAll(() => rm(folder, { recursive: true, force: true }));

	it("runs a session whose ledger and chain agree, and keeps its store on request", async () => {
		const store = join(folder, "store");
		const { code, stdout } = await sluice(["demo", "--json", "--requests", "120", "--data", store, "--keep"]);
		const outcome = lastLine(stdout);
		expect(code).toBe(0);
		expect(outcome).toMatchObject({
			scenario: "session",
			requests: 120,
			ok: 120,
			failed: 0,
			price: "100",
			deposit: "24000",
			acceptedCumulative: "12000",
			spent: "12000",
			settledOnChain: "12000",
			payeeReceived: "12000",
			payerRefunded: "12000",
			sessionTransactions: 2,
			storePath: store,
		});
		expect(outcome.secondsPaid).toEqual(expect.any(Number));
		expect(outcome.requestsPerSecond).toEqual(expect.any(Number));
		expect(outcome.checks).toSatisfy(
			(checks: { pass: boolean }[]) => checks.length > 0 && checks.every(({ pass }) => pass),
		);
		const kept = await LevelStore.open({ folder: store });
		const ledger = await kept.channel(outcome.channelId as `0x${string}`);
		await kept.close();
		expect(ledger).toMatchObject({ spent: 12_000n, finalized: true });
	});

	it("runs a charge that is good once", async () => {
		const { code, stdout } = await sluice(["demo", "charge", "--json"]);
		expect(code).toBe(0);
		expect(lastLine(stdout)).toMatchObject({
			scenario: "charge",
			ok: 1,
			failed: 0,
			payeeReceived: "100",
			stored: { value: "100", transfers: ["100"], state: "confirmed" },
			sessionTransactions: 1,
		});
	});

	const agreed = {
		ok: 40,
		failed: 0,
		acceptedCumulative: "4000",
		spent: "4000",
		settledOnChain: "4000",
		payeeReceived: "4000",
		maxVouchersPerSecond: "unlimited",
	};

	it("runs a channel by Permit2 that is topped up before it runs dry, and its payer sends nothing but the approval", async () => {
		const { code, stdout } = await sluice(["demo", "permit2", "--json", "--requests", "40"]);
		expect(code).toBe(0);
		expect(lastLine(stdout)).toMatchObject({
			...agreed,
			scenario: "permit2",
			deposit: "4000",
			payerRefunded: "0",
			toppedUp: "2000",
			sessionTransactions: 3,
			payerTransactions: 1,
		});
	});

	it("runs two sessions on one channel, with a server that loses its store in between (D10)", async () => {
		const { code, stdout } = await sluice(["demo", "resume", "--json", "--requests", "40"]);
		expect(code).toBe(0);
		expect(lastLine(stdout)).toMatchObject({
			...agreed,
			scenario: "resume",
			payerRefunded: "4000",
			paidBefore: 20,
			paidAfter: 20,
			sessionTransactions: 2,
		});
	});

	it("runs a charge that pays three, in one transaction", async () => {
		const { code, stdout } = await sluice(["demo", "splits", "--json"]);
		expect(code).toBe(0);
		expect(lastLine(stdout)).toMatchObject({
			scenario: "splits",
			ok: 1,
			payerPaid: "100",
			payeeReceived: "93",
			splits: [
				{ memo: "platform fee", amount: "5", received: "5" },
				{ memo: "referral", amount: "2", received: "2" },
			],
			stored: { value: "100", transfers: ["93", "5", "2"], state: "confirmed" },
			sessionTransactions: 1,
		});
	});

	it("shows a table to people, and removes what it made", async () => {
		const temporary = await mkdtemp(join(folder, "tmp-"));
		const { code, stdout } = await sluice(["demo", "--requests", "5"], { TMPDIR: temporary });
		expect(code).toBe(0);
		expect(stdout).toMatch(/^spent +500$/m);
		expect(stdout).toMatch(/^two transactions in all +2 +2 +ok$/m);
		expect(await readdir(temporary)).toEqual([]);
	});

	it.each([[["demo", "nope"]], [["demo", "--requests", "0"]], [["nope"]], [["demo", "--nope"]]])(
		"refuses %j with exit code 2 and says what there is",
		async (args) => {
			const { code, stderr } = await sluice(args);
			expect(code).toBe(2);
			expect(stderr).toMatch(/session, charge|whole number|--help/);
		},
	);

	it("has help", async () => {
		for (const args of [["--help"], ["demo", "--help"]]) {
			const { code, stdout } = await sluice(args);
			expect(code).toBe(0);
			expect(stdout).toContain("Usage: sluice");
		}
	});

	it("lists every scenario in its help", async () => {
		const { stdout } = await sluice(["demo", "--help"]);
		for (const name of Object.keys(SCENARIOS)) expect(stdout).toContain(name);
	});
});
