import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import { type Address, encodeDeployData } from "viem";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { CANONICAL_PERMIT2 } from "../../deploy/index.ts";
import { startChain } from "../../src/cli/demo/chain.ts";
import { paymentChannelEscrowAbi, paymentChannelEscrowBytecode, readEscrow } from "../../src/escrow/index.ts";
import { mined } from "../support/mined.ts";
import { useWorld } from "../support/useWorld.ts";
import { DEPOSIT } from "../support/world.ts";
import {
	books,
	giveGas,
	keyed,
	type OwingChannel as Owing,
	openShop,
	rpc,
	type Shop,
	sluice,
	sluiceJson,
	transactionsOf,
	withoutMining,
} from "./support.ts";

const world = useWorld();
let folder: string;

beforeAll(async () => {
	folder = await mkdtemp(join(tmpdir(), "sluice-rescue-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The server is gone, and of its store there is a copy. */
async function disaster({ server }: Shop, name: string): Promise<string> {
	const copy = join(folder, name);
	await server.stop();
	await cp(server.folder, copy, { recursive: true });
	await rm(server.folder, { recursive: true, force: true });
	return copy;
}

/** Changes one record as a bad disk does. */
async function damage(store: string, { channelId }: Owing): Promise<void> {
	const disk = new Level<string, string>(store);
	const key = `c:${channelId}`;
	const text = await disk.get(key);
	await disk.put(key, `${text?.slice(0, -5)}xxxxx`, { sync: true } as never);
	await disk.close();
}

describe("from a copy of the store, with the server gone", () => {
	let shop: Shop;
	let copy: string;
	let settled: Owing;
	let low: Owing;
	let high: Owing;
	let closing: Owing;
	let damaged: Owing;
	let graceSeconds: number;
	let before: Awaited<ReturnType<typeof books>>;

	beforeAll(async () => {
		shop = await openShop(world, [400n, 200n, 3_000n, 150n, 700n, 0n]);
		[settled, low, high, closing, damaged] = shop.channels as readonly [Owing, Owing, Owing, Owing, Owing, Owing];
		before = await books(world, shop);
		copy = await disaster(shop, "store");
		// The copy is old: since then one was settled, and one payer wants its deposit back.
		await world.settle(shop.payee.account, settled, settled.owes, settled.signature);
		await closing.by.requestClose(closing);
		await damage(copy, damaged);
		graceSeconds = (await readEscrow(world.chain.client, world.escrow, world.chain.chainId)).closeGraceSeconds;
	});

	it("lists what is owed by store and chain, what can soon be withdrawn first, and sends nothing", async () => {
		const sent = await transactionsOf(world, shop.payee.address);
		const { rpc: proxy } = shop.server;
		const through = proxy.calls("eth_sendRawTransaction");
		const { code, value, stderr } = await sluiceJson(["rescue", "--data", copy, "--rpc", proxy.url, "--dry-run"]);
		// A record that can't be read is no success, though everything else can be had.
		expect(code, stderr).toBe(1);
		expect(value).toMatchObject({
			chainId: world.chain.chainId,
			payees: [shop.payee.address],
			settled: 3,
			transactions: 0,
			amount: { [world.token]: "3350" },
			estimate: { transactions: 1 },
		});
		expect(value.rows).toMatchObject([
			{ channelId: closing.channelId, state: "close-requested", unsettled: "150", outcome: "would-settle" },
			{ channelId: high.channelId, state: "open", unsettled: "3000", secondsLeft: null, outcome: "would-settle" },
			{ channelId: low.channelId, state: "open", unsettled: "200", secondsLeft: null, outcome: "would-settle" },
		]);
		const [{ secondsLeft, closeRequestedAt }] = value.rows;
		expect(closeRequestedAt).toBeGreaterThan(0);
		expect(secondsLeft).toBeGreaterThan(0);
		expect(secondsLeft).toBeLessThanOrEqual(graceSeconds);
		expect(value.damaged).toMatchObject([{ key: `c:${damaged.channelId}` }]);
		expect(stderr).toContain(`c:${damaged.channelId}`);
		expect(proxy.calls("eth_sendRawTransaction")).toBe(through);
		expect(await transactionsOf(world, shop.payee.address)).toBe(sent);
	});

	it("shows people a table of it", async () => {
		const args = ["rescue", "--data", copy, "--rpc", world.chain.url, "--dry-run", "--table"];
		const { stdout, stderr } = await sluice(args);
		const rows = stdout.trimEnd().split("\n");
		expect(rows[0]).toMatch(/^channel .* owed +state +time left +outcome/);
		expect(rows[1]).toMatch(/ 150 +close-requested +\d+ min +would-settle$/);
		expect(rows).toHaveLength(4);
		expect(stderr).toMatch(/estimate: 1 transactions, about \d+ gas/);
	});

	it("settles all that can be read, and the books balance", async () => {
		const { code, value, stderr } = await sluiceJson(
			["rescue", "--data", copy, "--rpc", world.chain.url],
			shop.payee.env,
		);
		expect(code, stderr).toBe(1);
		expect(value).toMatchObject({ settled: 3, failed: 0, pending: 0, amount: { [world.token]: "3350" } });
		expect(value.rows.map(({ outcome }: { outcome: string }) => outcome)).toEqual(["settled", "settled", "settled"]);
		// What is urgent waits for nothing else.
		expect(value.transactions).toBe(2);
		const after = await books(world, shop);
		const earned = settled.owes + low.owes + high.owes + closing.owes;
		expect(after).toEqual({ ...before, earned, escrow: before.escrow - earned });
		expect(after.sum).toBe(before.sum);
		for (const channel of [settled, low, high, closing]) {
			expect(await world.onChain(channel)).toMatchObject({ settled: channel.owes, deposit: DEPOSIT, finalized: false });
		}
		expect(await world.onChain(damaged)).toMatchObject({ settled: 0n });
	});

	it("can be repeated: nothing is owed and nothing is sent any more", async () => {
		const sent = await transactionsOf(world, shop.payee.address);
		const { code, value, stderr } = await sluiceJson(
			["rescue", "--data", copy, "--rpc", world.chain.url],
			shop.payee.env,
		);
		expect(code, stderr).toBe(1);
		expect(value).toMatchObject({ rows: [], transactions: 0, damaged: [{ key: `c:${damaged.channelId}` }] });
		expect(await transactionsOf(world, shop.payee.address)).toBe(sent);
	});

	it("needs a key, and takes the payee's only", async () => {
		const args = ["rescue", "--data", copy, "--rpc", world.chain.url];
		expect((await sluice(args)).code).toBe(2);
		const other = await sluiceJson(args, keyed().env);
		expect(other.value).toMatchObject({ rows: [], otherPayees: 4 });
		expect(other.stderr).toContain("run it with their key");
	});
});

test("what was sent and not mined is found again by the next run and sent no second time (I4)", async () => {
	const shop = await openShop(world, [500n, 600n]);
	const before = await books(world, shop);
	const copy = await disaster(shop, "pending");
	const sent = await transactionsOf(world, shop.payee.address);
	const args = ["rescue", "--data", copy, "--rpc", world.chain.url];
	await withoutMining(world, async () => {
		const { code, value, stderr } = await sluiceJson([...args, "--timeout", "1"], shop.payee.env);
		expect(code, stderr).toBe(3);
		expect(value).toMatchObject({ outcome: "pending", pending: 2, settled: 0 });
		// The node forgets it, as nodes do: it is in the outbox.
		await rpc(world.chain.client, "anvil_dropAllTransactions");
	});
	expect(await world.balance(shop.payee.address)).toBe(0n);
	const { code, value, stderr } = await sluiceJson(args, shop.payee.env);
	expect(code, stderr).toBe(0);
	expect(value).toMatchObject({ outcome: "done", rows: [] });
	expect(await transactionsOf(world, shop.payee.address)).toBe(sent + 1);
	expect(await books(world, shop)).toMatchObject({ earned: 1_100n, sum: before.sum });
});

test("a payee without gas is rescued by another account's", async () => {
	const shop = await openShop(world, [500n, 600n]);
	const copy = await disaster(shop, "relayed");
	await giveGas(world, shop.payee.address, 0n);
	const relayer = keyed();
	await giveGas(world, relayer.address);
	const args = ["rescue", "--data", copy, "--rpc", world.chain.url, "--relayer-key-env", "SLUICE_RELAYER_KEY"];
	const poor = await sluiceJson(args.slice(0, -2), shop.payee.env);
	expect(poor.code).toBe(1);
	expect(poor.value).toMatchObject({ outcome: "failed", failed: 2, settled: 0 });
	const { code, value, stderr } = await sluiceJson(args, { ...shop.payee.env, SLUICE_RELAYER_KEY: relayer.key });
	expect(code, stderr).toBe(0);
	expect(value).toMatchObject({ settled: 2, transactions: 2 });
	expect(await world.balance(shop.payee.address)).toBe(1_100n);
});

test("dust is left where --min-value says so, and named", async () => {
	const shop = await openShop(world, [100n, 900n]);
	const copy = await disaster(shop, "dust");
	const args = ["rescue", "--data", copy, "--rpc", world.chain.url, "--min-value", "500"];
	const { code, value, stderr } = await sluiceJson(args, shop.payee.env);
	expect(code, stderr).toBe(0);
	expect(value.rows).toMatchObject([
		{ unsettled: "900", outcome: "settled" },
		{ unsettled: "100", outcome: "uneconomic", reason: "less than --min-value" },
	]);
	expect(await world.balance(shop.payee.address)).toBe(900n);
});

test("channels of another chain are left alone, and counted", async () => {
	const shop = await openShop(world, [900n]);
	const copy = await disaster(shop, "elsewhere");
	const other = await startChain({ args: ["--chain-id", "4711"] });
	try {
		const { code, value, stderr } = await sluiceJson(["rescue", "--data", copy, "--rpc", other.url], shop.payee.env);
		expect(code, stderr).toBe(0);
		expect(value).toMatchObject({ chainId: 4711, otherChains: 1, rows: [] });
		expect(stderr).toContain("give their chain's --rpc");
	} finally {
		await other.stop();
	}
});

test("channels on two escrows, from before and after a server got another one, are each settled on their own", async () => {
	const shop = await openShop(world, [500n]);
	const { server, payee } = shop;
	const [first] = shop.channels as readonly [Owing];
	const second = await deployEscrow();
	await server.restart({ escrow: second });
	const by = await world.payer();
	const channel = by.channelOn(second, payee.address);
	const opening = await by.open(await server.challenge("/session"), channel, { deposit: DEPOSIT });
	expect((await server.pay("/session", opening)).status).toBe(200);
	const paying = await by.voucher(await server.challenge("/session"), channel, 800n);
	expect((await server.pay("/session", paying)).status).toBe(200);
	const copy = await disaster(shop, "two-escrows");
	const args = ["rescue", "--data", copy, "--rpc", world.chain.url];
	await withoutMining(world, async () => {
		const { code, value, stderr } = await sluiceJson([...args, "--timeout", "1"], payee.env);
		expect(code, stderr).toBe(3);
		expect(value).toMatchObject({ pending: 2, transactions: 2 });
		await rpc(world.chain.client, "anvil_dropAllTransactions");
	});
	// Now it only has the outbox to tell which escrow each was for.
	const { code, value, stderr } = await sluiceJson(args, payee.env);
	expect(code, stderr).toBe(0);
	expect(value.rows).toEqual([]);
	expect(await world.balance(payee.address)).toBe(1_300n);
	for (const { channelId } of [first, channel]) {
		const shown = await sluiceJson(["channels", "show", channelId, "--data", copy, "--rpc", world.chain.url]);
		expect(shown.value).toMatchObject({ channel: { state: "open", unsettled: "0" }, chain: { difference: {} } });
	}
});

async function deployEscrow(): Promise<Address> {
	const { client, chainId } = world.chain;
	const deployer = keyed();
	await giveGas(world, deployer.address);
	const args = [900n, CANONICAL_PERMIT2] as const;
	const data = encodeDeployData({ abi: paymentChannelEscrowAbi, bytecode: paymentChannelEscrowBytecode, args });
	const fees = await client.estimateFeesPerGas();
	const serializedTransaction = await deployer.account.signTransaction({
		type: "eip1559",
		chainId,
		nonce: 0,
		data,
		gas: 8_000_000n,
		...fees,
	} as never);
	const { contractAddress } = await mined(client, await client.sendRawTransaction({ serializedTransaction }));
	return contractAddress?.toLowerCase() as Address;
}
