import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { momentFrom } from "../../src/cli/receipts/rows.ts";
import { PaymentClient } from "../../src/client/index.ts";
import { openWallet, readPolicyFile } from "../../src/client/node/index.ts";
import { useWorld } from "../support/useWorld.ts";
import { type PaidServer, PRICE } from "../support/world.ts";
import { isSecret, sluice, sluiceJson } from "./support.ts";

const world = useWorld();
let server: PaidServer;
let folder: string;
let wallet: string;
let channelId: string;

/** Three requests over one channel, which is closed, and one charge, a day later by the wallet's clock. */
beforeAll(async () => {
	server = await world.serve();
	folder = await mkdtemp(join(tmpdir(), "sluice-receipts-"));
	wallet = join(folder, "wallet");
	await mkdir(wallet, { mode: 0o700 });
	const document = {
		hosts: [new URL(server.url).host],
		escrows: [world.escrow],
		currencies: [
			{
				...{ symbol: "USDC", decimals: 6, tokens: [{ chainId: world.chain.chainId, address: world.token }] },
				...{ maxPrice: "0.001", maxDeposit: "0.01" },
			},
		],
	};
	const file = join(wallet, "policy.json");
	await writeFile(file, JSON.stringify(document));
	const { account } = await world.payer();
	const store = await openWallet(wallet);
	const signatures: string[] = [];
	const spied = {
		...account,
		signTypedData: async (typed: Parameters<typeof account.signTypedData>[0]) => {
			const signature = await account.signTypedData(typed);
			signatures.push(signature);
			return signature;
		},
	} as typeof account;
	const payer = new PaymentClient({
		account: spied,
		client: world.chain.client,
		policy: await readPolicyFile(file),
		store,
	});
	for (let i = 0; i < 3; i++) await (await payer.fetch(`${server.url}/session?secret=hunter2`)).text();
	channelId = payer.channels[0]?.channelId ?? "";
	await (await payer.fetch(`${server.url}/charge`)).text();
	await payer.close();
	await payer.release();
	await store.close();
	isSecret(...signatures, "hunter2");
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const receipts = (...args: readonly string[]) => sluiceJson(["receipts", ...args, "--json"], { SLUICE_WALLET: wallet });

describe("sluice receipts", () => {
	it("lists what was paid, the newest first, with each channel counted once", async () => {
		const { code, value, stderr } = await receipts();
		expect(code, stderr).toBe(0);
		expect(value.receipts.map(({ kind, amount, spent }: Record<string, unknown>) => ({ kind, amount, spent }))).toEqual(
			[
				{ kind: "close", amount: "300", spent: "300" },
				{ kind: "charge", amount: "100", spent: null },
				{ kind: "voucher", amount: "100", spent: "300" },
				{ kind: "open", amount: "100", spent: "100" },
			],
		);
		expect(value.receipts[1]).toMatchObject({
			host: new URL(server.url).host,
			url: `${server.url}/charge`,
			text: "0.0001 USDC",
			payee: server.payee,
			txHash: expect.stringMatching(/^0x[0-9a-f]{64}$/),
			channelId: null,
		});
		expect(value).toMatchObject({
			count: 4,
			totals: [{ unit: "USDC", charges: "100", channels: "300", total: "400", text: "0.0004 USDC" }],
		});
		expect(BigInt(value.totals[0].total)).toBe(4n * PRICE);
	});

	it("lists those of a host, a channel, a kind, a time, and no more than asked for", async () => {
		const count = async (...filters: string[]) => (await receipts("list", ...filters)).value.count;
		expect(await count("--host", "127.0.0.1")).toBe(4);
		expect(await count("--host", "elsewhere.example")).toBe(0);
		expect(await count("--channel", channelId, "--kind", "voucher")).toBe(1);
		expect(await count("--since", "1h", "--limit", "2")).toBe(2);
		expect(await count("--since", "2100-01-01")).toBe(0);
	});

	it("shows people a table, with units", async () => {
		const { code, stdout, stderr } = await sluice(["receipts", "--table"], { SLUICE_WALLET: wallet });
		expect(code).toBe(0);
		expect(stdout.split("\n")[0]).toMatch(/^time +host +kind +amount +payee +channel or transaction$/);
		expect(stdout).toMatch(/charge +0\.0001 USDC/);
		expect(stderr).toContain("4 receipts; paid: 0.0004 USDC");
	});

	it("shows all of one, by the beginning of its id: what was asked for, and what it was paid", async () => {
		const { value } = await receipts("show", channelId.slice(0, 12));
		expect(value.receipts).toHaveLength(3);
		expect(value.receipts[0]).toMatchObject({
			kind: "close",
			challenge: { method: "evm", intent: "session" },
			receipt: { channelId, spent: "300" },
		});
		const missing = await receipts("show", "0x1234567890");
		expect(missing).toMatchObject({ code: 1, value: { error: { code: "RECEIPT_NOT_FOUND" } } });
		const short = await receipts("show", "0x1");
		expect(short.code).toBe(2);
	});

	it("writes them out as CSV and as JSON, without what a URL asks for", async () => {
		const csv = await sluice(["receipts", "export", "--format", "csv"], { SLUICE_WALLET: wallet });
		const [head, ...lines] = csv.stdout.trim().split("\r\n");
		expect(head).toBe("at,kind,host,url,method,amount,text,chainId,token,payee,channelId,spent,txHash,challengeId");
		expect(lines).toHaveLength(4);
		const json = await sluiceJson(["receipts", "export", "--kind", "charge"], { SLUICE_WALLET: wallet });
		expect(json.value).toMatchObject({ count: 1, receipts: [{ challenge: { intent: "charge" }, receipt: {} }] });
	});

	it("tells base units where no policy knows better, and finds no wallet where there is none", async () => {
		const policy = join(folder, "other.json");
		await writeFile(
			policy,
			JSON.stringify({
				hosts: ["example.com"],
				currencies: [
					{
						...{ symbol: "EUR", decimals: 2, tokens: [{ chainId: 1, address: `0x${"11".repeat(20)}` }] },
						...{ maxPrice: "1", maxDeposit: "1" },
					},
				],
			}),
		);
		const { value } = await receipts("--policy", policy);
		expect(value.totals[0].text).toBe(`400 base units of token ${world.token} on chain ${world.chain.chainId}`);
		const none = await sluiceJson(["receipts", "--json"], { SLUICE_WALLET: join(folder, "nowhere") });
		expect(none).toMatchObject({ code: 2, value: { error: { code: "USAGE" } } });
	});
});

it("reads moments and lengths of time", () => {
	const now = Date.parse("2026-11-26T12:00:00Z");
	expect(momentFrom("30m", now)).toBe(now - 1_800_000);
	expect(momentFrom("7d", now)).toBe(now - 7 * 86_400_000);
	expect(momentFrom("2026-11-26", now)).toBe(Date.parse("2026-11-26T00:00:00Z"));
	expect(momentFrom("2026-11-26T08:00Z", now)).toBe(Date.parse("2026-11-26T08:00:00Z"));
	for (const text of ["yesterday", "24", "2026-13-40", ""]) expect(() => momentFrom(text, now)).toThrow("--since is");
});
