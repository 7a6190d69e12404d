import { cp, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { openDisk } from "../../src/server/store/disk.ts";
import { useWorld } from "../support/useWorld.ts";
import { DEPOSIT } from "../support/world.ts";
import {
	books,
	giveGas,
	keyed,
	openShop,
	runExposed,
	type Shop,
	sluice,
	sluiceJson,
	transactionsOf,
	withoutMining,
} from "./support.ts";

const world = useWorld();
let folder: string;

beforeAll(async () => {
	folder = await mkdtemp(join(tmpdir(), "sluice-channels-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("beside a running server", () => {
	let shop: Shop;
	let data: readonly string[];
	let ids: readonly string[];

	beforeAll(async () => {
		shop = await openShop(world, [300n, 2_000n, 0n]);
		data = ["--data", shop.server.folder];
		ids = shop.channels.map(({ channelId }) => channelId);
	});

	it("lists channels as JSON where the output is piped, with amounts as decimal strings and no signatures", async () => {
		const { code, value, stderr } = await sluiceJson(["channels", "list", ...data]);
		expect(code, stderr).toBe(0);
		expect(value).toMatchObject({ count: 3, unsettled: { [world.token]: "2300" }, damaged: [] });
		expect(value.channels.map((row: { channelId: string }) => row.channelId)).toEqual([...ids].sort());
		const [first] = shop.channels;
		expect(value.channels.find((row: { channelId: string }) => row.channelId === first?.channelId)).toEqual({
			channelId: first?.channelId,
			chainId: world.chain.chainId,
			escrow: world.escrow,
			payer: first?.by.address,
			payee: shop.payee.address,
			token: world.token,
			state: "open",
			deposit: String(DEPOSIT),
			acceptedCumulative: "300",
			spent: "100",
			reserved: "0",
			settledOnChain: "0",
			unsettled: "300",
			closeRequestedAt: 0,
			openedAt: expect.stringMatching(/^\d{4}-.*Z$/),
			lastActivityAt: expect.stringMatching(/^\d{4}-.*Z$/),
			unsettledSince: expect.stringMatching(/^\d{4}-.*Z$/),
			blockNumber: expect.any(Number),
		});
	});

	it("lists those that owe something, the highest value first; by payer, token, idleness; and no more than asked for", async () => {
		const list = async (...filters: string[]) => {
			const { value } = await sluiceJson(["channels", "list", ...data, ...filters]);
			return value.channels.map((row: { channelId: string }) => row.channelId);
		};
		expect(await list("--owed")).toEqual([ids[1], ids[0]]);
		expect(await list("--owed", "--limit", "1")).toEqual([ids[1]]);
		expect(await list("--payer", shop.channels[2]?.by.address ?? "")).toEqual([ids[2]]);
		expect(await list("--token", world.escrow)).toEqual([]);
		expect(await list("--idle", "86400")).toEqual([]);
		expect(await list("--closing")).toEqual([]);
	});

	it("shows people a table", async () => {
		const scratch = await mkdtemp(join(folder, "tmp-"));
		const { code, stdout, stderr } = await sluice(["channels", "list", ...data, "--owed", "--table"], {
			TMPDIR: scratch,
		});
		expect(code, stderr).toBe(0);
		const [head, first] = stdout.split("\n");
		expect(head).toMatch(/^channel +payer +token +deposit +accepted +spent +settled +unsettled +state +last activity$/);
		expect(first).toMatch(new RegExp(`^${ids[1]?.slice(0, 8)}….* 2000 +100 +0 +2000 +open +\\d+ s ago$`));
		expect(stderr).toContain(`2 channels, unsettled: 2300 of ${world.token}`);
		// The copy that it looked at is gone.
		expect(await readdir(scratch)).toEqual([]);
	});

	it("shows a channel: ledger, transactions, audit log, and how the chain differs from what the store knows", async () => {
		const [channel] = shop.channels;
		if (channel === undefined) throw new Error("there is a channel");
		await world.settle(shop.payee.account, channel, 300n, channel.signature);
		const { rpc } = shop.server;
		const { code, value, stderr } = await sluiceJson([
			"channels",
			"show",
			channel.channelId,
			...data,
			"--rpc",
			rpc.url,
		]);
		expect(code, stderr).toBe(0);
		expect(value.channel).toMatchObject({ channelId: channel.channelId, settledOnChain: "0", closeTxHash: null });
		expect(value.transactions).toEqual([
			expect.objectContaining({ kind: "open", state: "confirmed", nonce: 0, from: shop.payee.address, versions: 1 }),
		]);
		expect(value.audit).toEqual([expect.objectContaining({ kind: "opened" })]);
		expect(value.chain).toMatchObject({
			exists: true,
			settledOnChain: "300",
			unsettled: "0",
			difference: { settledOnChain: "300" },
		});
		const shown = await sluice(["channels", "show", channel.channelId, ...data, "--table"]);
		expect(shown.stdout).toMatch(/^acceptedCumulative +300$/m);
	});

	it("refuses to settle while the server has the store, saying who has it", async () => {
		const args = ["channels", "settle", "--all", ...data, "--rpc", world.chain.url];
		const { code, value, stderr } = await sluiceJson(args, shop.payee.env);
		expect(code).toBe(1);
		expect(value).toMatchObject({ outcome: "failed", error: { code: "STORE_UNAVAILABLE" } });
		expect(stderr).toContain(`process ${process.pid}`);
	});

	it("says in a dry run what would be sent and what that would cost, with no key and sending nothing", async () => {
		const sent = shop.server.rpc.calls("eth_sendRawTransaction");
		const args = ["channels", "settle", "--all", ...data, "--rpc", shop.server.rpc.url, "--dry-run"];
		const scratch = await mkdtemp(join(folder, "tmp-"));
		const { code, value, stderr } = await sluiceJson(args, { TMPDIR: scratch });
		expect(code, stderr).toBe(0);
		// The first one was settled past the server: the store does not know it, the chain does.
		expect(value).toMatchObject({
			outcome: "dry-run",
			settled: 1,
			transactions: 0,
			amount: { [world.token]: "2000" },
			estimate: { transactions: 1, gas: "58200", gasPrice: expect.stringMatching(/^[1-9]/) },
			rows: [{ channelId: ids[1], unsettled: "2000", outcome: "would-settle" }],
		});
		expect(value.estimate.cost).toBe(String(58_200n * BigInt(value.estimate.gasPrice)));
		expect(shop.server.rpc.calls("eth_sendRawTransaction")).toBe(sent);
		expect((await shop.server.ledger(shop.channels[0] ?? { channelId: "0x" }))?.settledOnChain).toBe(0n);
		expect(await readdir(scratch)).toEqual([]);
	});

	it("names a record that is damaged also where other channels are to be settled", async () => {
		const { server, channels } = await openShop(world, [100n, 200n]);
		const [whole, broken] = channels;
		await server.stop();
		const disk = await openDisk(server.folder);
		await disk.put(`c:${broken?.channelId}`, "");
		await disk.close();
		const args = ["channels", "settle", whole?.channelId ?? "", "--data", server.folder, "--rpc", server.rpc.url];
		const { code, stderr } = await sluiceJson([...args, "--dry-run"]);
		expect(code, stderr).toBe(0);
		expect(stderr).toContain(`error: a stored record is damaged; restore it from a backup (key c:${broken?.channelId}`);
	});

	describe("export", () => {
		it("writes everything as JSON, with the audit log when asked", async () => {
			const { code, value } = await sluiceJson(["channels", "export", ...data, "--audit"]);
			expect(code).toBe(0);
			expect(value.channels).toHaveLength(3);
			expect(value.audit.map(({ kind }: { kind: string }) => kind)).toEqual(["opened", "opened", "opened"]);
			expect(value.damaged).toEqual([]);
			expect(JSON.stringify(value)).not.toContain("voucherSignature");
		});

		it("writes CSV: the channels, or the audit log", async () => {
			const { stdout } = await sluice(["channels", "export", ...data, "--format", "csv"]);
			const [head, ...rows] = stdout.trimEnd().split("\r\n");
			expect(head).toMatch(/^channelId,chainId,escrow,payer,payee,token,state,deposit,acceptedCumulative,/);
			expect(rows.map((row) => row.split(",")[0])).toEqual([...ids].sort());
			const audit = await sluice(["channels", "export", ...data, "--format", "csv", "--audit"]);
			expect(audit.stdout.split("\r\n")[1]).toMatch(/^\d{4}-[^,]*,opened,0x[0-9a-f]{64},"\{""/);
		});

		it("writes vouchers only to who says so twice", async () => {
			const refused = await sluice(["channels", "export", ...data, "--with-vouchers"]);
			expect(refused.code).toBe(2);
			expect(refused.stderr).toMatch(/warning: .*money[\s\S]*--yes/);
			const { code, stdout, stderr } = await runExposed(["channels", "export", ...data, "--with-vouchers", "--yes"]);
			expect(code).toBe(0);
			expect(stderr).toMatch(/^warning: /);
			const signatures = JSON.parse(stdout).channels.map((row: { voucherSignature: string }) => row.voucherSignature);
			expect(new Set(signatures)).toEqual(new Set(shop.channels.map(({ signature }) => signature)));
		});
	});
});

describe("settle and close, after the server has stopped", () => {
	test("a named channel is settled with its highest voucher, and the server finds it so (I8)", async () => {
		const shop = await openShop(world, [700n, 500n]);
		const { server, payee } = shop;
		const [channel, other] = shop.channels;
		if (channel === undefined || other === undefined) throw new Error("there are two");
		const before = await books(world, shop);
		await server.stop();
		const args = ["channels", "settle", channel.channelId, "--data", server.folder, "--rpc", server.rpc.url];
		const { code, value, stderr } = await sluiceJson(args, payee.env);
		expect(code, stderr).toBe(0);
		expect(value).toMatchObject({
			outcome: "done",
			chainId: world.chain.chainId,
			payees: [payee.address],
			transactions: 1,
			settled: 1,
			failed: 0,
			amount: { [world.token]: "700" },
			rows: [{ channelId: channel.channelId, token: world.token, unsettled: "700", outcome: "settled" }],
		});
		expect(value.rows[0].txHash).toMatch(/^0x[0-9a-f]{64}$/);
		expect(stderr).toContain(`settled ${channel.channelId} 700`);
		const after = await books(world, shop);
		expect(after).toEqual({ ...before, earned: 700n, escrow: before.escrow - 700n });
		expect(after.sum).toBe(before.sum);

		await server.restart();
		expect(await server.ledger(channel)).toMatchObject({ settledOnChain: 700n, finalized: false, spent: 100n });
		expect(await server.ledger(other)).toMatchObject({ settledOnChain: 0n });
		await server.stop();
	});

	test("all of them are settled in one transaction, and a second run finds nothing to do", async () => {
		const shop = await openShop(world, [100n, 200n, 300n]);
		const { server, payee } = shop;
		const before = await books(world, shop);
		await server.stop();
		const sent = await transactionsOf(world, payee.address);
		const args = ["channels", "settle", "--all", "--data", server.folder, "--rpc", world.chain.url];
		const first = await sluiceJson(args, payee.env);
		expect(first.code, first.stderr).toBe(0);
		expect(first.value).toMatchObject({ settled: 3, transactions: 1, amount: { [world.token]: "600" } });
		expect(await transactionsOf(world, payee.address)).toBe(sent + 1);
		const second = await sluiceJson(args, payee.env);
		expect(second.code, second.stderr).toBe(0);
		expect(second.value).toMatchObject({ outcome: "done", settled: 0, transactions: 0, rows: [] });
		expect(await transactionsOf(world, payee.address)).toBe(sent + 1);
		expect(await books(world, shop)).toMatchObject({ earned: 600n, sum: before.sum });
	});

	test("close captures the highest voucher and gives the payer the rest", async () => {
		const shop = await openShop(world, [900n]);
		const { server, payee } = shop;
		const [channel] = shop.channels;
		if (channel === undefined) throw new Error("there is one");
		const before = await books(world, shop);
		await server.stop();
		const args = ["channels", "close", channel.channelId, "--data", server.folder, "--rpc", world.chain.url];
		const { code, value, stderr } = await sluiceJson(args, payee.env);
		expect(code, stderr).toBe(0);
		expect(value).toMatchObject({ closed: 1, settled: 0, rows: [{ outcome: "closed", unsettled: "900" }] });
		const after = await books(world, shop);
		expect(after).toMatchObject({ earned: 900n, payers: before.payers + DEPOSIT - 900n, sum: before.sum });
		const shown = await sluiceJson(["channels", "show", channel.channelId, "--data", server.folder]);
		expect(shown.value.channel).toMatchObject({ state: "finalized", unsettled: "0", settledOnChain: "900" });
		expect(shown.value.transactions.map(({ kind }: { kind: string }) => kind)).toEqual(["open", "retire"]);

		const again = await sluiceJson(args, payee.env);
		expect(again.code).toBe(1);
		expect(again.value.error.code).toBe("CHANNEL_CLOSED");
	});

	test("another account pays the gas when its key is given", async () => {
		const shop = await openShop(world, [400n, 500n]);
		const { server, payee } = shop;
		await server.stop();
		const relayer = keyed();
		await giveGas(world, relayer.address);
		await giveGas(world, payee.address, 0n);
		const file = join(folder, "relayer.key");
		await writeFile(file, relayer.key, { mode: 0o600 });
		const args = ["channels", "settle", "--all", "--data", server.folder, "--rpc", world.chain.url];
		const { code, value, stderr } = await sluiceJson([...args, "--relayer-key-file", file], payee.env);
		expect(code, stderr).toBe(0);
		expect(value).toMatchObject({ settled: 2, transactions: 2 });
		expect(await world.balance(payee.address)).toBe(900n);
		expect(await transactionsOf(world, relayer.address)).toBe(2);
	});

	test("what owes less than --min-value is left alone, unless it is forced", async () => {
		const shop = await openShop(world, [100n, 5_000n]);
		const { server, payee } = shop;
		await server.stop();
		const args = ["channels", "settle", "--all", "--data", server.folder, "--rpc", world.chain.url];
		const first = await sluiceJson([...args, "--min-value", "1000"], payee.env);
		expect(first.code, first.stderr).toBe(0);
		expect(first.value).toMatchObject({ settled: 1, uneconomic: 1, amount: { [world.token]: "5000" } });
		const second = await sluiceJson([...args, "--min-value", "1000", "--force"], payee.env);
		expect(second.value).toMatchObject({ settled: 1, uneconomic: 0, amount: { [world.token]: "100" } });
	});

	test("what is not mined in time is taken up by the next run, which sends it no second time", async () => {
		const shop = await openShop(world, [800n]);
		const { server, payee } = shop;
		const [channel] = shop.channels;
		if (channel === undefined) throw new Error("there is one");
		await server.stop();
		const sent = await transactionsOf(world, payee.address);
		const args = ["channels", "settle", channel.channelId, "--data", server.folder, "--rpc", world.chain.url];
		await withoutMining(world, async () => {
			const { code, value, stderr } = await sluiceJson([...args, "--timeout", "1"], payee.env);
			expect(code, stderr).toBe(3);
			expect(value).toMatchObject({ outcome: "pending", pending: 1, rows: [{ outcome: "pending" }] });
			expect(stderr).toContain("run the same command again");
			// Again while it is on its way: nothing new is sent.
			const again = await sluiceJson([...args, "--timeout", "1"], payee.env);
			expect(again.code, again.stderr).toBe(3);
			expect(again.value.rows).toMatchObject([{ outcome: "pending", reason: "on its way already" }]);
		});
		const last = await sluiceJson(args, payee.env);
		expect(last.code, last.stderr).toBe(0);
		expect(last.value.rows).toMatchObject([{ outcome: "skipped", reason: "nothing is owed" }]);
		expect(await world.balance(payee.address)).toBe(800n);
		expect(await transactionsOf(world, payee.address)).toBe(sent + 1);
	});
});

describe("settle refuses, says what to do instead, and sends nothing", () => {
	let shop: Shop;
	let args: readonly string[];
	let id: string;

	beforeAll(async () => {
		shop = await openShop(world, [600n]);
		await shop.server.stop();
		id = shop.channels[0]?.channelId ?? "";
		args = ["channels", "settle", "--data", shop.server.folder, "--rpc", world.chain.url];
	});
	afterAll(async () => {
		expect(await world.balance(shop.payee.address)).toBe(0n);
	});

	test("without a key", async () => {
		const { code, value, stderr } = await sluiceJson([...args, id]);
		expect(code).toBe(2);
		expect(value).toMatchObject({ outcome: "failed", error: { code: "USAGE" } });
		expect(stderr).toContain("SLUICE_PAYEE_KEY");
	});

	test("with the key as an argument, which it never repeats", async () => {
		const { code, stderr } = await sluice([...args, id, "--private-key", shop.payee.key]);
		expect(code).toBe(2);
		expect(stderr).toContain("never taken from an argument");
		const named = await sluice([...args, id, "--private-key-env", shop.payee.key]);
		expect(named.code).toBe(2);
		const stuck = await sluice([...args, id, `--private-key=${shop.payee.key}`]);
		expect(stuck.code).toBe(2);
	});

	test("with another account's key", async () => {
		const { code, value } = await sluiceJson([...args, id], keyed().env);
		expect(code).toBe(2);
		expect(value.error.message).toContain(shop.payee.address);
		const all = await sluiceJson([...args, "--all"], keyed().env);
		expect(all.code).toBe(0);
		expect(all.value).toMatchObject({ otherPayees: 1, rows: [] });
	});

	test("without channels, or with some and --all", async () => {
		expect((await sluice([...args], shop.payee.env)).code).toBe(2);
		expect((await sluice([...args, id, "--all"], shop.payee.env)).code).toBe(2);
	});

	test("a channel that the store does not have", async () => {
		const { code, value } = await sluiceJson([...args, id, `0x${"ab".repeat(32)}`], shop.payee.env);
		expect(code).toBe(1);
		expect(value.error.code).toBe("CHANNEL_NOT_FOUND");
	});

	test("an RPC of another chain, or none, or no URL", async () => {
		const other = await sluiceJson([...args, id, "--chain-id", "5"], shop.payee.env);
		expect(other.code).toBe(1);
		expect(other.value.error.code).toBe("WRONG_CHAIN");
		const none = await sluice(["channels", "settle", id, "--data", shop.server.folder], shop.payee.env);
		expect(none.code).toBe(2);
		const bad = await sluice([...args, id, "--rpc", "rpc-api-key-0f9d5c1b"], shop.payee.env);
		expect(bad.code).toBe(2);
	});

	test("a folder without a store, which it does not make", async () => {
		const empty = join(folder, "empty");
		const { code, value } = await sluiceJson(
			["channels", "settle", "--all", "--data", empty, "--rpc", world.chain.url],
			shop.payee.env,
		);
		expect(code).toBe(1);
		expect(value.error.code).toBe("STORE_UNAVAILABLE");
		await expect(readdir(empty)).rejects.toThrow(/ENOENT/);
	});

	test("an RPC that does not answer", async () => {
		const { rpc, folder: data } = shop.server;
		rpc.down();
		const copy = join(folder, "copy");
		await cp(data, copy, { recursive: true });
		const { code, value } = await sluiceJson(
			["channels", "settle", "--all", "--data", copy, "--rpc", rpc.url],
			shop.payee.env,
		);
		rpc.up();
		expect(code).toBe(1);
		expect(value.error.code).toBe("RPC");
	});
});
