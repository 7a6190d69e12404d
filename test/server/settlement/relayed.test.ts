import type { LocalAccount } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, it } from "vitest";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import { rpc } from "../../support/sessionDrafts.ts";
import { useWorld } from "../../support/useWorld.ts";
import type { PaidServer, Payer, TestChannel } from "../../support/world.ts";
import { all, listen, NEVER_SECONDS, openBooks, owing, owingChannels, QUIET, reverting } from "./support.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;
let relayer: LocalAccount;
let listener: ReturnType<typeof listen>;

beforeEach(async () => {
	payer = await world.payer({ gas: true });
	relayer = privateKeyToAccount(generatePrivateKey());
	listener = listen();
	await rpc(world.chain.client, "anvil_setBalance", [relayer.address, "0x8ac7230489e80000"]);
	const settlement = { ...QUIET, maxUnsettled: 1_000n };
	server = await world.serve({ engine: { relayer, settlement, hooks: listener.hooks } });
	await rpc(world.chain.client, "anvil_setBalance", [server.payee, "0x0"]);
});

const onChain = async (channel: TestChannel) => {
	const found = await world.onChain(channel);
	return found && { settled: found.settled, finalized: found.finalized };
};
/** A node that refuses what it is given, and does not know it. */
const refusing = (method: string) => {
	const error = { code: -32_000, message: "intrinsic gas too low" };
	return method === "eth_sendRawTransaction" ? ({ error } as never) : undefined;
};
const challenge = () => server.challenge("/session");

describe("a payee without gas, whose transactions another account pays for", () => {
	it("settles channel by channel by its authorizations, again and again, and closes", async () => {
		const books = await openBooks(world, server, [payer]);
		const channels = await owingChannels(server, payer, [1_000n, 1_100n]);
		const [first, second] = channels as [TestChannel, TestChannel];
		await server.engine.settle();
		expect(await Promise.all(channels.map(onChain))).toEqual([
			{ settled: 1_000n, finalized: false },
			{ settled: 1_100n, finalized: false },
		]);
		await owing(server, payer, 2_000n, first);
		await server.engine.settle();
		expect(await onChain(first)).toEqual({ settled: 2_000n, finalized: false });
		server.clock.advance(2 * NEVER_SECONDS * 1_000);
		await owing(server, payer, 2_100n, first);
		await owing(server, payer, 1_200n, second);
		server.clock.advance(2 * NEVER_SECONDS * 1_000);
		await server.engine.settle();
		expect(await Promise.all(channels.map(onChain))).toEqual([
			{ settled: 2_100n, finalized: true },
			{ settled: 1_200n, finalized: true },
		]);
		await books.balance(channels);
		expect(await server.transactions()).toBe(0);
	});

	it("closes when the client asks", async () => {
		const channel = await owing(server, payer, 900n);
		expectPaid(await server.pay("/session", await payer.close(await challenge(), channel, 500n)));
		expect(await onChain(channel)).toEqual({ settled: 500n, finalized: true });
		expect(await server.transactions()).toBe(0);
	});

	it("keeps a channel closing whose close reverted: others have seen the authorization; it is closed again", async () => {
		const channel = await owing(server, payer, 900n);
		server.clock.advance(2 * NEVER_SECONDS * 1_000);
		await reverting(world, server);
		expect(await server.ledger(channel)).toMatchObject({ closingBy: server.store.owner, finalized: false });
		const voucher = await payer.voucher(await challenge(), channel, 950n);
		expectRefusal(await server.pay("/session", voucher), "session/channel-closing");
		server.clock.advance(server.engine.limits.settleEveryMs);
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 900n, finalized: true });
		expect((await all(server.store.outbox({ state: "pending" }))).length).toBe(0);
		expect(await server.ledger(channel)).toMatchObject({ closingBy: null, finalized: true });
	});

	it("gives it back in the end where it can't be closed, once nobody can use the authorization", async () => {
		const { client } = world.chain;
		const channel = await owing(server, payer, 900n);
		server.clock.advance(2 * NEVER_SECONDS * 1_000);
		await reverting(world, server);
		const code = await client.getCode({ address: world.token });
		await rpc(client, "anvil_setCode", [world.token, "0x60006000fd"]);
		try {
			for (let attempt = 0; attempt < 6; attempt++) {
				server.clock.advance(3_600_000);
				await server.engine.settle();
				expect(await server.ledger(channel)).toMatchObject({ closingBy: server.store.owner });
			}
			server.clock.advance(3_600_000);
			await server.engine.settle();
			expect(await server.ledger(channel)).toMatchObject({ closingBy: null, publishedCumulative: 900n });
		} finally {
			await rpc(client, "anvil_setCode", [world.token, code]);
		}
		await owing(server, payer, 950n, channel);
	});

	it("keeps a channel closing whose close no node took: one has seen the authorization", async () => {
		const channel = await owing(server, payer, 900n);
		server.rpc.lies = refusing;
		const answer = await server.pay("/session", await payer.close(await challenge(), channel, 900n));
		expect(answer.status).toBe(503);
		server.rpc.lies = () => undefined;
		expect(await server.ledger(channel)).toMatchObject({ closingBy: server.store.owner, finalized: false });
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 900n, finalized: true });
	});

	it("keeps it closing across a restart, and closes it then", async () => {
		const books = await openBooks(world, server, [payer]);
		const channel = await owing(server, payer, 900n);
		server.clock.advance(2 * NEVER_SECONDS * 1_000);
		await reverting(world, server);
		await server.restart();
		expect(await server.ledger(channel)).toMatchObject({ closingBy: server.store.owner, finalized: false });
		const voucher = await payer.voucher(await challenge(), channel, 950n);
		expectRefusal(await server.pay("/session", voucher), "session/channel-closing");
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 900n, finalized: true });
		await books.balance([channel]);
	});
});
