import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type CheckOptions, checkPolicy } from "../../src/cli/policy/check.ts";
import type { Run } from "../../src/cli/shared/command.ts";
import { Output } from "../../src/cli/shared/output.ts";
import { openWallet, readPolicyFile } from "../../src/client/node/index.ts";
import { parsePolicy } from "../../src/client/policy.ts";
import { countersFor } from "../../src/client/spending.ts";
import { sluice, sluiceJson } from "./support.ts";

const EXAMPLE = new URL("../../examples/policy.yaml", import.meta.url).pathname;
const USDC = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913";
const PAYEE = `0x${"b0".repeat(20)}` as const;
const example = await readFile(EXAMPLE, "utf8");

let folder: string;
let wallet: string;
beforeAll(async () => {
	folder = await mkdtemp(join(tmpdir(), "sluice-policy-cli-"));
	wallet = join(folder, "wallet");
	const store = await openWallet(wallet);
	const policy = parsePolicy(await readPolicyFile(EXAMPLE));
	const spent = { amount: 960_000n, chainId: 8_453, token: USDC, payee: PAYEE, host: "api.example.com" } as const;
	await store.write({ counters: countersFor(policy, spent, Date.now()) });
	await store.close();
	await writeFile(join(wallet, "policy.yaml"), await readFile(EXAMPLE));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function write(name: string, text: string): Promise<string> {
	const path = join(folder, name);
	await writeFile(path, text);
	return path;
}

describe("sluice policy check", () => {
	it("says what a policy allows, with what is so by default", async () => {
		const { code, value } = await sluiceJson(["policy", "check", EXAMPLE]);
		expect(code).toBe(0);
		expect(value).toMatchObject({
			outcome: "valid",
			policy: {
				hosts: ["api.example.com", "models.example.com:8443", "*.data.example.com"],
				ownTransactions: true,
				currencies: [{ symbol: "USDC", maxPrice: "0.05", limits: { host: { day: "5.00" } } }],
			},
		});
		const { code: shown, stdout } = await sluice(["policy", "check", EXAMPLE, "--table"]);
		expect(shown).toBe(0);
		expect(stdout).toMatch(/^USDC limits\.host\.day +5\.00$/m);
		expect(stdout).toMatch(/^denied\.hosts +ads\.data\.example\.com$/m);
	});

	it.each([
		[
			"policy.yaml",
			"hosts: [a.com]\ncurrencies:\n  - { symbol: USDC, maxPrice: 5 }\n",
			/policy\.yaml:3: policy currencies\.0\./,
		],
		["wrong.json", '{"hosts": ["a.com"], "hosts": []}', /wrong\.json:1: this stands twice/],
		[
			"limit.yaml",
			example.replace('hour: "1"', 'huor: "1"'),
			/limit\.yaml:\d+: policy currencies\.0\.limits\.host has no field "huor"/,
		],
	])("refuses %s with exit code 2 and says where it is wrong", async (name, text, message) => {
		const { code, value, stderr } = await sluiceJson(["policy", "check", await write(name, text)]);
		expect(code).toBe(2);
		expect(stderr).toMatch(message);
		expect(value).toMatchObject({
			outcome: "failed",
			error: { code: "POLICY", message: expect.stringMatching(message) },
		});
	});

	it.each<[string, CheckOptions, object]>([
		["allowed", {}, { outcome: "allowed", amount: "50000", text: "0.05 USDC", needsApproval: false }],
		["of a currency's token on another chain allowed", { chain: 84_532 }, { outcome: "allowed", chainId: 84_532 }],
		["of a whole answer allowed", { amount: "0.5", stream: true }, { outcome: "allowed" }],
		["too much", { amount: "0.050001" }, { outcome: "refused", rule: "price" }],
		["to a host that is not allowed", { host: "evil.org" }, { rule: "host" }],
		["to a host that is denied", { host: "ADS.data.example.com" }, { rule: "host", message: /ads.* is denied/ }],
		["to a category that is denied", { host: "x.archive.data.example.com" }, { rule: "category" }],
		["to a host on another port", { host: "api.example.com:8443" }, { rule: "host" }],
		["in another token", { amount: "1", token: PAYEE, chain: 8_453 }, { rule: "token" }],
		["on another chain", { amount: "0", token: USDC, chain: 1 }, { rule: "chain" }],
		["by another escrow", { escrow: PAYEE }, { rule: "escrow" }],
	])("says of a payment %s which rule is for or against it", async (_name, options, expected) => {
		const written: string[] = [];
		const out = new Output(
			new Writable({
				write(chunk, _encoding, done) {
					written.push(String(chunk));
					done();
				},
			}),
		);
		const run: Run = { format: "json", out, env: {}, say: () => undefined, clean: String, hide: () => undefined };
		const code = await checkPolicy(run, EXAMPLE, { host: "api.example.com", amount: "0.05", ...options });
		const value = JSON.parse(written.join(""));
		const { message, ...rest } = expected as { message?: RegExp };
		expect(value).toMatchObject(rest);
		if (message !== undefined) expect(value.message).toMatch(message);
		expect(code).toBe(value.outcome === "allowed" ? 0 : 4);
	});

	it("counts what the wallet has spent, with --wallet only", async () => {
		const payment = [
			"--host",
			"api.example.com",
			"--payee",
			PAYEE,
			"--token",
			USDC,
			"--chain",
			"8453",
			"--amount",
			"0.05",
		];
		const { code, value } = await sluiceJson(["policy", "check", EXAMPLE, ...payment, "--wallet", wallet]);
		expect(code).toBe(4);
		expect(value).toMatchObject({
			rule: "limit",
			limit: { name: "host.hour", current: "960000", max: "1000000", asked: "50000", resetsAt: expect.any(String) },
			message: expect.stringContaining(
				"policy: host api.example.com is over its hourly limit: 0.96 of 1.00 USDC, and 0.05 more is asked for",
			),
		});
	});

	it.each([
		[[]],
		[[EXAMPLE, "--host", "api.example.com"]],
		[[EXAMPLE, "--host", "api.example.com", "--amount", "0.0000001"]],
		[[EXAMPLE, "--host", "api.example.com", "--amount", "1", "--payee", "0x12"]],
		[["no-such-file.yaml"]],
	])("takes %j for wrong usage", async (args) => {
		const { code, stderr } = await sluice(["policy", "check", ...args]);
		expect(code).toBe(2);
		expect(stderr).not.toBe("");
	});
});

describe("sluice policy show", () => {
	it("shows the wallet's policy and what is used up of each limit", async () => {
		const { code, value } = await sluiceJson(["policy", "show", "--wallet", wallet]);
		expect(code).toBe(0);
		expect(value.policy.hosts).toContain("api.example.com");
		expect(value.limits).toContainEqual({
			name: "host.day",
			currency: "USDC",
			subject: "api.example.com",
			current: "960000",
			max: "5000000",
			resetsAt: expect.stringMatching(/T00:00:00\.000Z$/),
		});
		const { stdout } = await sluice(["policy", "show", "--wallet", wallet, "--table"]);
		expect(stdout).toMatch(/host\.day +api\.example\.com +0\.96 of 5\.00 USDC/);
	});

	it("takes a wallet without a policy, and no wallet, for wrong usage", async () => {
		const empty = await mkdtemp(join(folder, "empty-"));
		const { code, stderr } = await sluice(["policy", "show", "--wallet", empty]);
		expect([code, stderr]).toEqual([2, expect.stringContaining("there is no policy in")]);
		expect((await sluice(["policy", "show", "--wallet", join(folder, "none"), "--policy", EXAMPLE])).code).toBe(2);
	});
});

describe("sluice policy schema", () => {
	it("prints what is in schema/", async () => {
		const { code, value } = await sluiceJson(["policy", "schema"]);
		expect(code).toBe(0);
		const kept = new URL("../../schema/policy.schema.json", import.meta.url);
		expect(value).toEqual(JSON.parse(await readFile(kept, "utf8")));
	});

	it("and the commands beside it have help with exit codes and examples", async () => {
		for (const name of ["check", "show"]) {
			const { code, stdout } = await sluice(["policy", name, "--help"]);
			expect(code).toBe(0);
			expect(stdout).toMatch(/Exit codes: [\s\S]*Examples:\n {2}\$ sluice policy/);
		}
	});
});
