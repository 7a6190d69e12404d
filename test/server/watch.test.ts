import { inspect } from "node:util";
import { createPublicClient, custom, encodeFunctionData, type Hex } from "viem";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { advance, pooled, takeOut } from "../../src/cli/demo/chainControl.ts";
import { paymentChannelEscrowAbi } from "../../src/escrow/generated/escrow.ts";
import { ChainStateReader } from "../../src/server/chainState.ts";
import { unsettled } from "../../src/server/index.ts";
import { ChannelWatch, type ChannelWatchOptions } from "../../src/server/watch.ts";
import { expectPaid, expectRefusal, unmoved } from "../support/expect.ts";
import { rpc, topUpByHash, topUpOnChain } from "../support/sessionDrafts.ts";
import { useWorld } from "../support/useWorld.ts";
import {
	DEPOSIT,
	type PaidServer,
	type Payer,
	PRICE,
	RpcProxy,
	type TestChannel,
	transactionOf,
} from "../support/world.ts";
import { listen, openBooks } from "./settlement/support.ts";
import { nextLook, pay, settledDown, topUpAsStranger, until, WATCHING, WHEN_TOLD } from "./watchStage.ts";

/** Longer than a channel's state may be old. */
const OLD_MS = 15_001;

const world = useWorld();
let payer: Payer;

beforeEach(async () => {
	payer = await world.payer({ gas: true });
});
afterEach(async () => {
	await rpc(client(), "evm_setAutomine", [true]);
	await mine();
});

const client = () => world.chain.client;
const mine = (blocks = 1) => rpc(client(), "anvil_mine", [`0x${blocks.toString(16)}`]);
/** A transaction waits for a block. */
const isPooled = async () => (await pooled(client())) > 0;
const head = () => client().getBlockNumber({ cacheTime: 0 });
/** Replaces the newest blocks by empty ones. What was in them is in no pool any more. */
const replace = (blocks: number) => rpc(client(), "anvil_reorg", [blocks, []]);

async function found(server: PaidServer, channel: TestChannel) {
	const known = await server.ledger(channel);
	if (known === undefined) throw new Error("the server does not know this channel");
	return known;
}
const isClosing = async (server: PaidServer, channel: TestChannel) =>
	(await found(server, channel)).closeRequestedAt !== 0;
const isFrozen = async (server: PaidServer, channel: TestChannel) => (await found(server, channel)).behind !== null;

/** Opens a channel by the payer's own transactions and tells the server of it. */
async function openByHash(server: PaidServer, amount = 0n, deposit = DEPOSIT): Promise<TestChannel> {
	const channel = payer.channel(server.payee);
	const hash = await payer.openOnChain(channel, deposit);
	const challenge = await server.challenge("/session");
	const draft = await payer.openByHash(challenge, channel, hash, amount);
	expect((await server.pay("/session", draft)).status).toBe(200);
	return channel;
}

/** Makes blocks until something has come to its end. */
async function whileMining<T>(work: Promise<T>): Promise<T> {
	const state = { isOver: false };
	const done = work.finally(() => {
		state.isOver = true;
	});
	done.catch(() => undefined);
	while (!state.isOver) {
		await mine();
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
	return done;
}

/** A watch of its own over the store of a server that does not watch. */
function watchOver(server: PaidServer, options: Partial<ChannelWatchOptions> & { maxHeadAgeMs?: number } = {}) {
	const { escrow, chain } = world;
	const { maxHeadAgeMs = 0, ...rest } = options;
	const { client: node = chain.client } = options;
	const shared = { client: node, escrow, store: server.store, confirmations: 1, now: server.clock.now };
	const logs: string[] = [];
	const log = (_: object, message: string) => void logs.push(message);
	const chainState = new ChainStateReader({ ...shared, maxAgeMs: OLD_MS, maxHeadAgeMs, onEffects: () => undefined });
	const watch = new ChannelWatch({
		...shared,
		chainId: chain.chainId,
		chainState,
		pollMs: 20,
		closeGraceSeconds: 900,
		onStep: () => undefined,
		log: { info: log, warn: log, error: log },
		...rest,
	});
	return { watch, logs };
}

describe("a server that watches the chain", () => {
	it("takes no voucher from one poll after a close request on, however young its own reading of the channel is (I9, D2)", async () => {
		const server = await world.serve({ engine: WATCHING });
		const channel = await server.open(payer);
		expectPaid(await pay(server, payer, channel, PRICE));
		await payer.requestClose(channel);
		await until("the close request is known", () => isClosing(server, channel));
		const refused = await unmoved(server, [channel], () => pay(server, payer, channel, 2n * PRICE));
		expectRefusal(refused, "session/channel-closing");
		expect(server.clock.now() - (await found(server, channel)).openedAt).toBeLessThan(OLD_MS);
	});

	it("reads no channel for a voucher while it keeps up, however old its own reading of the channel is (D2)", async () => {
		const server = await world.serve({ engine: WATCHING });
		const channels = [await server.open(payer), await server.open(payer), await server.open(payer)];
		await settledDown(server);
		const before = server.rpc.calls("eth_call");
		for (let round = 1n; round <= 5n; round++) {
			server.clock.advance(OLD_MS);
			// The clock is the watch's, too: it has to look again to know that nothing has happened meanwhile.
			await nextLook(server);
			for (const channel of channels) expectPaid(await pay(server, payer, channel, round * PRICE));
		}
		expect(server.rpc.calls("eth_call")).toBe(before);
	});

	it("misses no close request between the opening of a channel and its record (I9)", async () => {
		const between = Promise.withResolvers<TestChannel>();
		const opening: { channelId?: Hex } = {};
		let held = 0;
		const server: PaidServer = await world.serve({
			engine: WHEN_TOLD,
			store: (onDisk) =>
				new Proxy(onDisk, {
					get(target, name) {
						const member = Reflect.get(target, name) as unknown;
						if (name !== "transact") return typeof member === "function" ? member.bind(target) : member;
						return async (...parts: Parameters<typeof target.transact>) => {
							const [keys] = parts;
							// The turn that makes the channel: the chain was read for it before.
							if (keys.channel !== undefined && keys.channel === opening.channelId && held++ === 0) {
								await payer.requestClose(await between.promise);
								await server.engine.settle();
							}
							return target.transact(...parts);
						};
					},
				}),
		});
		const channel = payer.channel(server.payee);
		opening.channelId = channel.channelId;
		between.resolve(channel);
		const open = await payer.open(await server.challenge("/session"), channel, { deposit: DEPOSIT });
		await server.pay("/session", open);
		expect(held).toBeGreaterThan(0);
		expectRefusal(await pay(server, payer, channel, PRICE), "session/channel-closing");
	});
});

describe("a server that was down", () => {
	it("knows before its first answer what has happened to its channels meanwhile (I9)", async () => {
		const server = await world.serve({ engine: WATCHING });
		const [closing, funded, settled, closed] = [
			await server.open(payer),
			await server.open(payer),
			await server.open(payer),
			await server.open(payer),
		];
		for (const channel of [closing, funded, settled, closed]) expectPaid(await pay(server, payer, channel, PRICE));
		const stranger = await world.payer({ gas: true });
		const voucher = (channel: TestChannel) => payer.sign(channel, PRICE);
		await server.stop();

		await payer.requestClose(closing);
		await topUpAsStranger(stranger, funded, 5_000n);
		await world.settle(server.account, settled, PRICE, await voucher(settled));
		await world.closeOnChain(server.account, closed, PRICE, await voucher(closed));
		await server.restart();
		const calls = server.rpc.calls("eth_call");
		expectRefusal(await pay(server, payer, closing, 2n * PRICE), "session/channel-closing");
		expectPaid(await pay(server, payer, funded, DEPOSIT + 5_000n));
		expect(await found(server, settled)).toMatchObject({ settledOnChain: PRICE, publishedCumulative: PRICE });
		expectPaid(await pay(server, payer, settled, 2n * PRICE));
		expectRefusal(await pay(server, payer, closed, 2n * PRICE), "session/channel-finalized");
		// All of it was there before anybody asked.
		expect(server.rpc.calls("eth_call")).toBe(calls);
	});

	it("does not start while the chain does not answer, says what to do, shows no URL, and leaves nothing running (I10)", async () => {
		const server = await world.serve({ engine: WATCHING });
		const channel = await server.open(payer);
		await server.stop();
		for (const [broken, code] of [
			["", "CHAIN_UNAVAILABLE"],
			["eth_getLogs", "CATCH_UP"],
		]) {
			server.rpc.fails = (method) => broken === "" || method === broken;
			await mine();
			const error = await server.restart().then(
				() => undefined,
				(reason: unknown) => reason,
			);
			expect(error).toMatchObject({ code, message: expect.stringMatching(/check the RPC endpoint.*start again/) });
			expect(inspect(error, { depth: 9 })).not.toContain(RpcProxy.API_KEY);
			const calls = server.rpc.calls();
			await new Promise((resolve) => setTimeout(resolve, 200));
			expect(server.rpc.calls()).toBe(calls);
		}
		server.rpc.up();
		await server.restart();
		expectPaid(await pay(server, payer, channel, PRICE));
	});

	it("ends its search for a transaction of the last run as well when its start fails, and finds it at the next one", async () => {
		const server = await world.serve({ engine: { ...WATCHING, limits: { transactionTimeoutMs: 200 } } });
		const channel = payer.channel(server.payee);
		const open = await payer.open(await server.challenge("/session"), channel, { deposit: DEPOSIT });
		await rpc(client(), "evm_setAutomine", [false]);
		expectRefusal(await server.pay("/session", open), "service-unavailable");
		await server.crash();
		server.rpc.fails = (method) => method === "eth_getLogs";
		// It would look for it for a minute.
		const patient = { ...WATCHING, limits: { transactionTimeoutMs: 60_000 } };
		await expect(server.restart({ engine: patient })).rejects.toMatchObject({ code: "CATCH_UP" });
		const calls = server.rpc.calls();
		await new Promise((resolve) => setTimeout(resolve, 200));
		expect(server.rpc.calls()).toBe(calls);
		await rpc(client(), "evm_setAutomine", [true]);
		await mine();
		server.rpc.up();
		await server.restart();
		expectPaid(await pay(server, payer, channel, PRICE));
	});
});

describe("a chain that is silent for a while", () => {
	it("makes the server refuse vouchers once its knowledge is too old, and take them again when it is back (I10)", async () => {
		const server = await world.serve({ engine: WATCHING });
		const channel = await server.open(payer);
		server.rpc.down();
		expectPaid(await pay(server, payer, channel, PRICE));
		server.clock.advance(OLD_MS);
		const [before, served] = [await server.ledger(channel), server.calls()];
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "service-unavailable");
		expect([await server.ledger(channel), server.calls()]).toEqual([before, served]);
		server.rpc.up();
		await until("vouchers are taken again", async () => (await pay(server, payer, channel, 2n * PRICE)).status === 200);
	});

	it("or fails half of all calls, is followed all the same: vouchers are paid, and a close request is noticed (I9, I10)", async () => {
		const limits = { maxChainStateAgeMs: 2_000 };
		const server = await world.serve({ engine: { watch: { pollMs: 5 }, limits } });
		const [paying, closing] = [await server.open(payer), await server.open(payer)];
		let seed = 20_261_127;
		server.rpc.fails = () => {
			seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
			return seed < 2 ** 31;
		};
		await payer.requestClose(closing);
		for (let round = 1n; round <= 20n; round++) {
			await until("the voucher is paid", async () => {
				const answer = await pay(server, payer, paying, round * PRICE);
				if (answer.status !== 200) expectRefusal(answer, "service-unavailable");
				return answer.status === 200;
			});
			server.clock.advance(500);
		}
		await until("the close request is known", () => isClosing(server, closing));
		server.rpc.up();
		await nextLook(server);
		expectRefusal(await pay(server, payer, closing, PRICE), "session/channel-closing");
	});
});

describe("a reorganization", () => {
	it("of a deposit freezes its channel, which sells again when the deposit is mined again (I1, I2, I10)", async () => {
		const { hooks, told, of } = listen();
		const server = await world.serve({ engine: { ...WATCHING, hooks } });
		const books = await openBooks(world, server, [payer]);
		const from = (await head()) + 1n;
		const channel = await server.open(payer);
		expectPaid(await pay(server, payer, channel, PRICE));
		await settledDown(server);

		const goOn = await takeOut(client(), from);
		await until("the channel is frozen", () => isFrozen(server, channel));
		await until("the application is told", () => told.length > 0);
		expect(of("onAtRisk")).toEqual([
			{ channelId: channel.channelId, payer: payer.address, unsettled: PRICE, reason: "frozen" },
		]);
		await until("the deposit was sent again", isPooled);
		const refused = await unmoved(server, [channel], () => pay(server, payer, channel, 2n * PRICE));
		expectRefusal(refused, "service-unavailable");
		expect(await found(server, channel)).toMatchObject({ deposit: DEPOSIT, acceptedCumulative: PRICE, spent: PRICE });
		expect(unsettled(await found(server, channel))).toBe(0n);

		await goOn();
		await until("the channel is thawed", async () => !(await isFrozen(server, channel)));
		expectPaid(await pay(server, payer, channel, 2n * PRICE));
		expect(told).toHaveLength(1);
		await server.send("/session", {
			authorization: await payer.close(await server.challenge("/session"), channel, 2n * PRICE),
		});
		await books.balance([channel]);
	});

	it("of a settlement lets what it brought count as owed again, until it is mined again: nothing is paid twice (I2, I4)", async () => {
		const { hooks, of } = listen();
		const settlement = { maxUnsettled: 1n };
		const server = await world.serve({ engine: { ...WATCHING, hooks, settlement } });
		const books = await openBooks(world, server, [payer]);
		const channel = await server.open(payer);
		expectPaid(await pay(server, payer, channel, PRICE));
		const from = (await head()) + 1n;
		await server.engine.settle();
		expect(unsettled(await found(server, channel))).toBe(0n);
		await settledDown(server);

		const goOn = await takeOut(client(), from);
		await until("the channel is frozen", () => isFrozen(server, channel));
		expect(unsettled(await found(server, channel))).toBe(PRICE);
		await until("the application is told", () => of("onAtRisk").length > 0);
		expect(of("onAtRisk")).toMatchObject([{ unsettled: PRICE, reason: "frozen" }]);
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "service-unavailable");
		await until("the settlement was sent again", isPooled);
		await goOn();
		await until("the channel is thawed", async () => !(await isFrozen(server, channel)));
		expect(await world.balance(server.payee)).toBe(PRICE);
		expectPaid(await pay(server, payer, channel, 2n * PRICE));
		await until("the second voucher is settled, too", async () => {
			await server.engine.settle();
			return (await world.balance(server.payee)) !== PRICE;
		});
		expect(await world.balance(server.payee)).toBe(2n * PRICE);
		// The opening, and one settlement for each voucher: the first one's transaction is the same as before.
		expect(await server.transactions()).toBe(3);
		await books.balance([channel]);
	});

	it("of a close pays out once: the same transaction closes the channel again (I4, I12)", async () => {
		const server = await world.serve({ engine: WATCHING });
		const books = await openBooks(world, server, [payer]);
		const channel = await server.open(payer);
		expectPaid(await pay(server, payer, channel, PRICE));
		const from = (await head()) + 1n;
		const close = await payer.close(await server.challenge("/session"), channel, PRICE);
		const closed = await server.pay("/session", close);
		await settledDown(server);

		const goOn = await takeOut(client(), from);
		await until("the undone close is known", () => isFrozen(server, channel));
		expect(await world.balance(server.payee)).toBe(0n);
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "session/channel-finalized");
		await until("the close was sent again", isPooled);
		await goOn();
		await until("the channel is closed again", async () => !(await isFrozen(server, channel)));
		expect(await found(server, channel)).toMatchObject({ finalized: true, closeTxHash: transactionOf(closed) });
		expect(await world.balance(server.payee)).toBe(PRICE);
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: PRICE });
		await books.balance([channel]);
	});

	it("of a close request lets the channel take vouchers again", async () => {
		const server = await world.serve({ engine: WATCHING });
		const channel = await server.open(payer);
		await payer.requestClose(channel);
		await until("the close request is known", () => isClosing(server, channel));
		await replace(1);
		await until("the close request is gone", async () => !(await isClosing(server, channel)));
		expectPaid(await pay(server, payer, channel, PRICE));
	});
});

describe("what was taken in from a block that is replaced before the watch has followed it", () => {
	it("freezes a channel whose deposit never comes back", async () => {
		const { hooks, of } = listen();
		const server = await world.serve({ engine: { ...WHEN_TOLD, hooks } });
		const channel = await openByHash(server, PRICE);
		await replace(1);
		await server.engine.settle();
		expect(await isFrozen(server, channel)).toBe(true);
		expect(of("onAtRisk")).toMatchObject([{ channelId: channel.channelId, reason: "frozen" }]);
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "service-unavailable");
	});

	it("freezes it also when the server was killed in between (I5)", async () => {
		const server = await world.serve({ engine: WHEN_TOLD });
		const channel = await openByHash(server, PRICE);
		await server.crash();
		await replace(1);
		await server.restart();
		expect(await isFrozen(server, channel)).toBe(true);
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "service-unavailable");
	});

	it("freezes it also when the chain is shorter at first than where the channel was read", async () => {
		const server = await world.serve({ engine: WHEN_TOLD });
		const snapshot = await rpc(client(), "evm_snapshot");
		const channel = await openByHash(server, PRICE);
		await server.crash();
		await rpc(client(), "evm_revert", [snapshot]);
		await server.restart();
		await mine(3);
		await server.engine.settle();
		expect(await isFrozen(server, channel)).toBe(true);
	});

	it("takes back a top-up, and what it would have paid for", async () => {
		const server = await world.serve({ engine: WHEN_TOLD });
		const channel = await server.open(payer);
		await server.engine.settle();
		const hash = await topUpOnChain(payer, channel, 5_000n);
		const draft = topUpByHash(payer, await server.challenge("/session"), channel, hash, 5_000n);
		expect((await server.pay("/session", draft)).status).toBe(200);
		expect(await found(server, channel)).toMatchObject({ deposit: DEPOSIT + 5_000n });
		await replace(1);
		await server.engine.settle();
		expect(await found(server, channel)).toMatchObject({ deposit: DEPOSIT, behind: null });
		expectRefusal(await pay(server, payer, channel, DEPOSIT + 1n), "session/amount-exceeds-deposit");
	});

	it("shows a close that is undone, and closes again", async () => {
		const server = await world.serve({ engine: WHEN_TOLD });
		const books = await openBooks(world, server, [payer]);
		const channel = await server.open(payer);
		expectPaid(await pay(server, payer, channel, PRICE));
		await server.engine.settle();
		await server.pay("/session", await payer.close(await server.challenge("/session"), channel, PRICE));
		await replace(1);
		await server.engine.settle();
		expect(await isFrozen(server, channel)).toBe(true);
		// Housekeeping sends it again; a restart does so at once.
		await server.restart();
		await server.engine.settle();
		expect(await found(server, channel)).toMatchObject({ finalized: true, behind: null, settledOnChain: PRICE });
		await books.balance([channel]);
	});
});

describe("with three confirmations", () => {
	const limits = { confirmations: 3 };

	it("counts a third party's top-up once it is deep, without anybody's asking", async () => {
		const server = await world.serve({ engine: { ...WATCHING, limits } });
		const channel = await whileMining(server.open(payer));
		const stranger = await world.payer({ gas: true });
		await topUpAsStranger(stranger, channel, 5_000n);
		await nextLook(server);
		expect(await found(server, channel)).toMatchObject({ deposit: DEPOSIT });
		await mine();
		await nextLook(server);
		expect(await found(server, channel)).toMatchObject({ deposit: DEPOSIT });
		await mine();
		await until("the top-up counts", async () => (await found(server, channel)).deposit === DEPOSIT + 5_000n);
	});

	it("counts one also that was too young when the server watched for the first time", async () => {
		const server = await world.serve({ engine: { limits } });
		const channel = await whileMining(server.open(payer));
		await topUpOnChain(payer, channel, 5_000n);
		await server.restart({ engine: { ...WATCHING, limits } });
		expect(await found(server, channel)).toMatchObject({ deposit: DEPOSIT });
		await mine(2);
		await until("the top-up counts", async () => (await found(server, channel)).deposit === DEPOSIT + 5_000n);
	});

	it("is not told anything by a node that lags: nothing is fresh by it, and nothing undone (I10)", async () => {
		const server = await world.serve({ engine: { ...WATCHING, limits } });
		const channel = await whileMining(server.open(payer));
		expectPaid(await pay(server, payer, channel, PRICE));
		await settledDown(server);
		await mine(6);
		await nextLook(server);
		const known = await found(server, channel);
		// Behind what was seen, though not behind where this channel was read last.
		const lagging = (await head()) - 2n;
		expect(lagging).toBeGreaterThan(BigInt(known.blockNumber));
		const old = await rpc(client(), "eth_getBlockByNumber", [`0x${lagging.toString(16)}`, false]);
		server.rpc.lies = (method, [block]) =>
			method === "eth_getBlockByNumber" && block === "latest" ? { result: old } : undefined;
		await nextLook(server);
		server.clock.advance(OLD_MS);
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "service-unavailable");
		expect(await found(server, channel)).toEqual(known);
		server.rpc.up();
		await until("vouchers are taken again", async () => (await pay(server, payer, channel, 2n * PRICE)).status === 200);
	});
});

describe("the age of the chain's head", () => {
	const limits = { maxHeadAgeSeconds: 60 };
	const headAt = async () =>
		Number(
			(await client().getBlock({ blockTag: "latest" })).timestamp,
		); /** The chain makes a block of the server's time. */
	const keepUp = async ({ clock }: PaidServer) =>
		advance(client(), Math.max(1, Math.floor(clock.now() / 1_000) - (await headAt())));

	it("is what a node that has stopped is known by: nothing is sold by its word (I10)", async () => {
		await mine();
		const server = await world.serve({ engine: { ...WATCHING, limits } });
		const channel = await server.open(payer);
		expectPaid(await pay(server, payer, channel, PRICE));
		server.clock.advance(90_000);
		await nextLook(server);
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "service-unavailable");
		await keepUp(server);
		await until("vouchers are taken again", async () => (await pay(server, payer, channel, 2n * PRICE)).status === 200);
	});
});

describe("a start", () => {
	it("reads again what it has read ahead of the block that it had reached, for that may be another one by then", async () => {
		const server = await world.serve();
		const channel = await server.open(payer);
		const first = watchOver(server);
		await first.watch.catchUp();
		await topUpOnChain(payer, channel, 1_000n);
		await mine(25);
		const from = (await head()) + 1n;
		await topUpOnChain(payer, channel, 5_000n);
		// The first step is read as of the newest block, which holds the second top-up, and is replaced after that.
		let steps = 0;
		const { watch } = watchOver(server, {
			maxBlocksPerStep: 10,
			store: new Proxy(server.store, {
				get(target, name) {
					const member = Reflect.get(target, name) as unknown;
					if (name !== "putCursor") return typeof member === "function" ? member.bind(target) : member;
					return async (...parts: Parameters<typeof target.putCursor>) => {
						if (steps++ === 0) {
							expect(await found(server, channel)).toMatchObject({ deposit: DEPOSIT + 6_000n });
							await replace(Number((await head()) - from) + 1);
						}
						return target.putCursor(...parts);
					};
				},
			}),
		});
		await watch.catchUp();
		expect(steps).toBeGreaterThan(1);
		expect(await found(server, channel)).toMatchObject({ deposit: DEPOSIT + 1_000n });
	});

	it("does not wait for ever for a node that says nothing at all, nor when it is stopped meanwhile (I10)", async () => {
		const server = await world.serve();
		const silent = createPublicClient({ transport: custom({ request: () => new Promise(() => undefined) }) });
		const stalled = watchOver(server, { client: silent, stallMs: 50 });
		await expect(stalled.watch.catchUp()).rejects.toMatchObject({
			code: "CATCH_UP",
			message: expect.stringMatching(/nothing came of it/),
		});
		const stopped = watchOver(server, { client: silent });
		const starting = stopped.watch.catchUp();
		void stopped.watch.stop();
		await expect(starting).rejects.toMatchObject({
			code: "CATCH_UP",
			message: expect.stringMatching(/it was stopped/),
		});
	});
});

describe("after a long absence", () => {
	// The last ones: the chain's clock is not the tests' any more after them.
	it("after long is not kept from working off what is old, for it is read as of now (I9)", async () => {
		const server = await world.serve();
		const closing = await server.open(payer);
		const first = watchOver(server);
		await first.watch.catchUp();
		await payer.requestClose(closing);
		await mine(25);
		await advance(client(), 3_600);
		const { timestamp } = await client().getBlock({ blockTag: "latest" });
		server.clock.advance(Number(timestamp) * 1_000 - server.clock.now());
		// No state is asked for but that of the newest block: a node may have deleted all others.
		const newest = `0x${(await head()).toString(16)}`;
		const asked: unknown[] = [];
		const late = createPublicClient({
			transport: custom({
				async request({ method, params }: { method: string; params?: unknown[] }) {
					if (method === "eth_call") asked.push(params?.[1]);
					return client().request({ method, params } as never);
				},
			}),
		});
		const { watch } = watchOver(server, { client: late, maxHeadAgeMs: 60_000, maxBlocksPerStep: 10 });
		await watch.catchUp();
		expect(await isClosing(server, closing)).toBe(true);
		expect(new Set(asked)).toEqual(new Set([newest]));
	});

	it("a channel whose payer has taken everything back is told as lost", async () => {
		const { hooks, of } = listen();
		const server = await world.serve({ engine: { ...WATCHING, hooks } });
		const channel = await openByHash(server, PRICE);
		await server.stop();
		await payer.requestClose(channel);
		await advance(client(), 901);
		const data = encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "withdraw",
			args: [channel.channelId],
		});
		await payer.sendBlind({ to: world.escrow, data });
		await server.restart();
		expect(await found(server, channel)).toMatchObject({ finalized: true, spent: PRICE, settledOnChain: 0n });
		const { channelId } = channel;
		expect(of("onChannelClosed")).toMatchObject([{ channelId, settledOnChain: 0n }]);
		expect(of("onAtRisk")).toEqual([{ channelId, payer: payer.address, unsettled: PRICE, reason: "lost" }]);
	});
});
