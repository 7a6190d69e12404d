import { beforeEach, describe, expect, it } from "vitest";
import { createSmartPayer, rpc } from "../../support/sessionDrafts.ts";
import { useWorld } from "../../support/useWorld.ts";
import { type PaidServer, type Payer, PRICE, type TestChannel } from "../../support/world.ts";
import { all, eventually, listen, openBooks, owing, owingChannels, QUIET } from "./support.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;
let listener: ReturnType<typeof listen>;

beforeEach(async () => {
	payer = await world.payer();
	listener = listen();
	server = await world.serve({ engine: { settlement: { ...QUIET, maxUnsettled: 1_000n }, hooks: listener.hooks } });
});

const settled = async (channel: TestChannel) => (await world.onChain(channel))?.settled;
const ids = (events: readonly Readonly<Record<string, unknown>>[]) => events.map(({ channelId }) => channelId);

describe("channels that owe maxUnsettled", () => {
	it("are settled in one transaction, each with its highest voucher (I8), and others are left alone", async () => {
		const books = await openBooks(world, server, [payer]);
		const due = await owingChannels(server, payer, [1_000n, 1_500n, 2_000n]);
		const small = await owing(server, payer, 999n);
		const before = await server.transactions();
		await server.engine.settle();
		expect(await server.transactions()).toBe(before + 1);
		expect(await Promise.all([...due, small].map(settled))).toEqual([1_000n, 1_500n, 2_000n, 0n]);
		expect(await world.balance(server.payee)).toBe(4_500n);
		await books.balance(due);
		await eventually(() => listener.of("onSettled").length).toBe(3);
		const [event] = listener.of("onSettled").filter(({ channelId }) => channelId === due[1]?.channelId);
		expect(event).toMatchObject({ payer: payer.address, settled: 1_500n, delta: 1_500n });
		const lines = await all(server.store.audit());
		const line = lines.find(({ channelId, kind }) => kind === "settled" && channelId === due[1]?.channelId);
		expect(line?.values).toEqual({ settled: "1500", delta: "1500", txHash: event?.txHash });
	});

	it("stay open, and are settled again by what they owe since", async () => {
		const [channel] = (await owingChannels(server, payer, [1_000n])) as [TestChannel];
		await server.engine.settle();
		const before = await server.transactions();
		await owing(server, payer, 1_900n, channel);
		await server.engine.settle();
		expect(await server.transactions()).toBe(before);
		await owing(server, payer, 2_000n, channel);
		await server.engine.settle();
		expect(await settled(channel)).toBe(2_000n);
		await eventually(() => listener.of("onSettled").map(({ delta }) => delta)).toEqual([1_000n, 1_000n]);
	});

	it("their vouchers are known to be public before they are sent (D7)", async () => {
		const [channel] = (await owingChannels(server, payer, [1_000n])) as [TestChannel];
		expect(await server.ledger(channel)).toMatchObject({ publishedCumulative: null });
		await rpc(world.chain.client, "evm_setAutomine", [false]);
		const settling = server.engine.settle();
		await eventually(async () => (await all(server.store.outbox({ state: "pending" }))).length).toBe(1);
		expect(await server.ledger(channel)).toMatchObject({ publishedCumulative: 1_000n, settledOnChain: 0n });
		await rpc(world.chain.client, "evm_setAutomine", [true]);
		await rpc(world.chain.client, "evm_mine", []);
		await settling;
		expect(await server.ledger(channel)).toMatchObject({ publishedCumulative: 1_000n, closingBy: null });
		const entries = await all(server.store.outbox({ state: "any" }));
		const entry = entries.find(({ purpose }) => purpose.kind === "settle");
		expect(entry).toMatchObject({
			state: "confirmed",
			purpose: { rows: JSON.stringify([[channel.channelId, "1000"]]) },
		});
	});

	it("are all paid but the one that the escrow refuses, which is named", async () => {
		const due = await owingChannels(server, payer, [1_000n, 1_100n, 1_200n]);
		const [spoilt, ...others] = due as [TestChannel, ...TestChannel[]];
		const signature = await payer.sign(spoilt, PRICE);
		await world.closeOnChain(server.account, spoilt, PRICE, signature);
		await server.engine.settle();
		expect(await Promise.all(others.map(settled))).toEqual([1_100n, 1_200n]);
		await eventually(() => ids(listener.of("onSettled")).sort()).toEqual(
			others.map(({ channelId }) => channelId).sort(),
		);
		await eventually(() => listener.of("onSettlementFailed")).toMatchObject([
			{ channelId: spoilt.channelId, reason: "ChannelFinalized" },
		]);
		expect(await server.ledger(spoilt)).toMatchObject({ finalized: true, settledOnChain: PRICE });
		expect(await world.balance(server.payee)).toBe(2_300n + PRICE);
		const before = await server.transactions();
		await server.engine.settle();
		expect(await server.transactions()).toBe(before);
	});

	it("of a contract wallet is settled by itself, beside the batch of the others", async () => {
		const owner = await world.payer({ gas: true });
		const smart = await createSmartPayer(world, owner);
		const books = await openBooks(world, server, [payer, smart.payer]);
		const due = await owingChannels(server, payer, [1_000n, 1_100n]);
		const contracts = await owing(server, smart.payer, 1_200n);
		expect(await server.ledger(contracts)).toMatchObject({ contractSigner: true });
		const before = await server.transactions();
		await server.engine.settle();
		expect(await server.transactions()).toBe(before + 2);
		expect(await Promise.all([...due, contracts].map(settled))).toEqual([1_000n, 1_100n, 1_200n]);
		await books.balance([...due, contracts]);
	});

	it("of a record that does not say that a contract signed is settled by itself all the same", async () => {
		const owner = await world.payer({ gas: true });
		const smart = await createSmartPayer(world, owner);
		const due = await owingChannels(server, payer, [1_000n, 1_100n]);
		const { channelId } = await owing(server, smart.payer, 1_200n);
		const { durable } = await server.store.transact({ channel: channelId }, ({ channel }) => {
			if (channel === undefined) throw new Error("there is no such channel");
			return { value: undefined, writes: { channel: { ...channel, contractSigner: false } } };
		});
		await durable;
		await server.engine.settle();
		expect(await world.balance(server.payee)).toBe(3_300n);
		expect(listener.of("onSettlementFailed")).toEqual([]);
		expect(await Promise.all(due.map(settled))).toEqual([1_000n, 1_100n]);
	});
});

describe("a batch that the token refuses as a whole", () => {
	it("costs nothing and is reported; next time each channel goes by itself, later and later", async () => {
		const { client } = world.chain;
		const due = await owingChannels(server, payer, [1_000n, 1_100n]);
		const code = await client.getCode({ address: world.token });
		const before = await server.transactions();
		await rpc(client, "anvil_setCode", [world.token, "0x60006000fd"]);
		try {
			await server.engine.settle();
			await eventually(() => listener.of("onSettlementFailed").length).toBe(2);
			// At once again is too soon.
			await server.engine.settle();
			expect(listener.of("onSettlementFailed").length).toBe(2);
			server.clock.advance(server.engine.limits.settleEveryMs);
			const tried = server.rpc.calls("eth_estimateGas");
			await server.engine.settle();
			await eventually(() => listener.of("onSettlementFailed").length).toBe(4);
			expect(server.rpc.calls("eth_estimateGas")).toBe(tried + 2);
		} finally {
			await rpc(client, "anvil_setCode", [world.token, code]);
		}
		expect(await server.transactions()).toBe(before);
		server.clock.advance(server.engine.limits.settleEveryMs);
		await server.engine.settle();
		expect(await Promise.all(due.map(settled))).toEqual([0n, 0n]);
		server.clock.advance(server.engine.limits.settleEveryMs);
		await server.engine.settle();
		expect(await Promise.all(due.map(settled))).toEqual([1_000n, 1_100n]);
	});
});
