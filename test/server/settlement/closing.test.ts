import { beforeEach, describe, expect, it } from "vitest";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import { rpc } from "../../support/sessionDrafts.ts";
import { useWorld } from "../../support/useWorld.ts";
import { type PaidServer, type Payer, PRICE, type TestChannel, transactionOf } from "../../support/world.ts";
import {
	all,
	costOfSettle,
	eventually,
	listen,
	NEVER_SECONDS,
	openBooks,
	owing,
	QUIET,
	reverting,
	setGasPrice,
} from "./support.ts";

const world = useWorld();
/** A test that waits for nothing may still take a while on a busy machine. */
const DRAIN_MS = 20_000;

let server: PaidServer;
let payer: Payer;
let listener: ReturnType<typeof listen>;

beforeEach(async () => {
	payer = await world.payer({ gas: true });
	listener = listen();
	server = await world.serve({
		engine: {
			settlement: QUIET,
			watch: { pollMs: 50 },
			hooks: listener.hooks,
			limits: { drainDeadlineMs: DRAIN_MS },
		},
	});
});

const challenge = () => server.challenge("/session");
const onChain = async (channel: TestChannel) => {
	const found = await world.onChain(channel);
	return found && { settled: found.settled, finalized: found.finalized };
};
/** Transactions of ours that close channels. */
const closes = async () => {
	const entries = await all(server.store.outbox({ state: "any" }));
	return entries.filter(({ purpose }) => purpose.kind === "close" || purpose.kind === "retire");
};

describe("a payer that asks the chain to close while it owes", () => {
	it("is closed on with the highest voucher, without anybody asking (I9)", async () => {
		const books = await openBooks(world, server, [payer]);
		const channel = await owing(server, payer, 900n);
		await payer.requestClose(channel);
		await eventually(() => onChain(channel)).toEqual({ settled: 900n, finalized: true });
		await eventually(() => listener.of("onSettled")).toMatchObject([{ settled: 900n, delta: 900n }]);
		expect(listener.of("onCloseRequested")).toMatchObject([{ channelId: channel.channelId, unsettled: 900n }]);
		await eventually(() => listener.of("onChannelClosed").length).toBe(1);
		await books.balance([channel]);
	});

	it("while the server is down, is closed on when it starts", async () => {
		const books = await openBooks(world, server, [payer]);
		const channel = await owing(server, payer, 900n);
		await server.stop();
		await payer.requestClose(channel);
		await server.restart();
		await eventually(() => onChain(channel)).toEqual({ settled: 900n, finalized: true });
		await eventually(async () => (await server.ledger(channel))?.finalized).toBe(true);
		await eventually(async () => (await closes()).map(({ state }) => state)).toEqual(["confirmed"]);
		expect((await server.ledger(channel))?.closeTxHash).toBe((await closes()).at(0)?.minedIn?.transactionHash);
		await books.balance([channel]);
	});

	it("and owes nothing, is left to the chain", async () => {
		const channel = await server.open(payer);
		await payer.requestClose(channel);
		await eventually(() => listener.of("onCloseRequested").length).toBe(1);
		await server.engine.settle();
		expect(await closes()).toEqual([]);
	});

	it("several in one batch, beside one that nobody has asked for", async () => {
		await server.restart({ engine: { settlement: QUIET, watch: false, hooks: listener.hooks } });
		const channels = [
			await owing(server, payer, 500n),
			await owing(server, payer, 600n),
			await owing(server, payer, 700n),
		];
		const [first, second, third] = channels as [TestChannel, TestChannel, TestChannel];
		for (const channel of [first, second]) await payer.requestClose(channel);
		// Without a watch it is seen when a voucher comes.
		server.clock.advance(server.engine.limits.maxChainStateAgeMs + 1_000);
		for (const channel of [first, second])
			expectRefusal(
				await server.pay("/session", await payer.voucher(await challenge(), channel, 800n)),
				"session/channel-closing",
			);
		await server.engine.settle();
		expect(await Promise.all(channels.map(onChain))).toEqual([
			{ settled: 500n, finalized: true },
			{ settled: 600n, finalized: true },
			{ settled: 0n, finalized: false },
		]);
		await owing(server, payer, 800n, third);
	});

	it("is told of as late when a quarter of the grace period is over, once", async () => {
		const { client } = world.chain;
		const channel = await owing(server, payer, 900n);
		const code = await client.getCode({ address: world.token });
		await rpc(client, "anvil_setCode", [world.token, "0x60006000fd"]);
		try {
			await payer.requestClose(channel);
			await eventually(() => listener.of("onSettlementFailed").length).toBeGreaterThan(0);
			server.clock.advance(190_000);
			await server.engine.settle();
			expect(listener.of("onAtRisk")).toEqual([]);
			server.clock.advance(40_000);
			for (let run = 0; run < 3; run++) await server.engine.settle();
			await eventually(() => listener.of("onAtRisk")).toEqual([
				{ channelId: channel.channelId, payer: payer.address, unsettled: 900n, reason: "late" },
			]);
		} finally {
			await rpc(client, "anvil_setCode", [world.token, code]);
		}
		// The pause between two attempts is a small part of the grace period.
		server.clock.advance(60_000);
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 900n, finalized: true });
	});

	it("while the node does not answer, is closed on as soon as it does", async () => {
		const channel = await owing(server, payer, 900n);
		server.rpc.fails = (method) => method === "eth_estimateGas";
		await payer.requestClose(channel);
		await eventually(() => server.logs.some(({ message }) => message.includes("could not be sent"))).toBe(true);
		server.rpc.up();
		await eventually(() => onChain(channel)).toEqual({ settled: 900n, finalized: true });
	});
});

describe("a node that fails for longer than a few attempts take", () => {
	it("is asked again until it answers, also where a run is far away (I9)", async () => {
		await server.restart({
			engine: {
				settlement: QUIET,
				watch: { pollMs: 50 },
				hooks: listener.hooks,
				limits: { settleEveryMs: 3_600_000 },
			},
		});
		const channel = await owing(server, payer, 900n);
		let asked = 0;
		server.rpc.fails = (method) => method === "eth_estimateGas" && asked++ >= 0;
		await payer.requestClose(channel);
		// More often than in one go, and the next run is 45 seconds after the start.
		await eventually(() => asked).toBeGreaterThan(5);
		server.rpc.up();
		await eventually(() => onChain(channel)).toEqual({ settled: 900n, finalized: true });
	});
});

describe("while the server closes a channel of its own accord", () => {
	/** A request that runs, so that the close waits for it. */
	async function running(channel: TestChannel, amount: bigint) {
		const held = server.hold("/session");
		const answer = server.pay("/session", await payer.voucher(await challenge(), channel, amount));
		await held.entered;
		return { answer, release: held.release };
	}

	it("vouchers are refused (D1), the request that runs is charged, and a client's close gets the same transaction", async () => {
		const books = await openBooks(world, server, [payer]);
		const channel = await owing(server, payer, 500n);
		const request = await running(channel, 900n);
		await payer.requestClose(channel);
		await eventually(async () => (await server.ledger(channel))?.closingBy).toBe(server.store.owner);
		expectRefusal(
			await server.pay("/session", await payer.voucher(await challenge(), channel, 1_000n)),
			"session/channel-closing",
		);
		const closing = server.pay("/session", await payer.close(await challenge(), channel, 200n));
		request.release();
		expectPaid(await request.answer);
		const answer = await closing;
		expectPaid(answer);
		expect(await closes()).toHaveLength(1);
		expect(transactionOf(answer)).toBe((await closes()).at(0)?.minedIn?.transactionHash);
		// Its own decision takes the highest voucher (I8).
		expect(await onChain(channel)).toEqual({ settled: 900n, finalized: true });
		await books.balance([channel]);
	});

	it("a request that outlasts the drain deadline is abandoned and costs nothing (I7)", async () => {
		await server.restart({
			engine: { settlement: QUIET, watch: { pollMs: 50 }, hooks: listener.hooks, limits: { drainDeadlineMs: 50 } },
		});
		const channel = await owing(server, payer, 500n);
		const request = await running(channel, 600n);
		await payer.requestClose(channel);
		await eventually(() => onChain(channel)).toEqual({ settled: 600n, finalized: true });
		request.release();
		expect((await request.answer).status).toBe(409);
		expect(await server.ledger(channel)).toMatchObject({ spent: PRICE, acceptedCumulative: 600n });
	});

	it("a close that a client has begun goes on, and is the only one", async () => {
		const channel = await owing(server, payer, 500n);
		const request = await running(channel, 600n);
		const closing = server.pay("/session", await payer.close(await challenge(), channel, 300n));
		await eventually(async () => (await server.ledger(channel))?.closingBy).toBe(server.store.owner);
		await payer.requestClose(channel);
		await eventually(() => listener.of("onCloseRequested").length).toBe(1);
		await server.engine.settle();
		request.release();
		expectPaid(await closing);
		await request.answer;
		expect((await closes()).map(({ purpose }) => purpose.kind)).toEqual(["close"]);
		expect(await onChain(channel)).toEqual({ settled: 300n, finalized: true });
	});
});

describe("a close by the server that is mined and reverts", () => {
	it("is not made again and again where the payer has asked to close: after a pause, and never for more than is owed", async () => {
		const GWEI = 10n ** 9n;
		let coinPrice = 1_500_000n;
		await setGasPrice(world, 10n * GWEI);
		// A settlement costs about half of what is owed.
		coinPrice = (coinPrice * 5_000n) / (await costOfSettle(world, coinPrice));
		await server.restart({
			engine: { settlement: { ...QUIET, coinPrice: () => coinPrice }, watch: false, hooks: listener.hooks },
		});
		const channel = await owing(server, payer, 9_000n);
		await payer.requestClose(channel);
		server.clock.advance(server.engine.limits.maxChainStateAgeMs + 1_000);
		const voucher = await payer.voucher(await challenge(), channel, 9_500n);
		expectRefusal(await server.pay("/session", voucher), "session/channel-closing");
		await setGasPrice(world, 10n * GWEI);
		await reverting(world, server);
		expect((await closes()).map(({ state }) => state)).toEqual(["reverted"]);
		for (let run = 0; run < 3; run++) await server.engine.settle();
		expect(await closes()).toHaveLength(1);
		// Gas is cheap now; but what was burnt is worth more than what is owed.
		await setGasPrice(world, GWEI);
		coinPrice *= 4n;
		server.clock.advance(60_000);
		await server.engine.settle();
		expect(await closes()).toHaveLength(1);
		await eventually(() => listener.of("onAtRisk")).toMatchObject([{ reason: "uneconomic", unsettled: 9_000n }]);
		coinPrice /= 8n;
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 9_000n, finalized: true });
	});

	it("gives the channel back, with its voucher known to be public (D7), and is made again", async () => {
		await server.restart({ engine: { settlement: QUIET, watch: false, hooks: listener.hooks } });
		const channel = await owing(server, payer, 900n);
		server.clock.advance(2 * NEVER_SECONDS * 1_000);
		await reverting(world, server);
		expect(await server.ledger(channel)).toMatchObject({ closingBy: null, publishedCumulative: 900n });
		await eventually(() => listener.of("onSettlementFailed")).toMatchObject([{ reason: "reverted", unsettled: 900n }]);
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 0n, finalized: false });
		// Idle as it is, it is not forgotten for another ten years.
		server.clock.advance(server.engine.limits.settleEveryMs);
		await server.engine.settle();
		expect(await onChain(channel)).toEqual({ settled: 900n, finalized: true });
	});
});
