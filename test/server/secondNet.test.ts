/** What stands behind the escrow's events: a node that keeps one to itself, clocks that are wrong, funds that are young. */
import type { Hex } from "viem";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { takeOut } from "../../src/cli/demo/chainControl.ts";
import { maxHeadAgeMs } from "../../src/server/evm/start.ts";
import { rarely } from "../../src/server/rarely.ts";
import { Sweep, type SweepOptions } from "../../src/server/sweep.ts";
import { expectPaid, expectRefusal } from "../support/expect.ts";
import { rpc } from "../support/sessionDrafts.ts";
import { useWorld } from "../support/useWorld.ts";
import { type PaidServer, type Payer, PRICE, type TestChannel } from "../support/world.ts";
import { owing, QUIET } from "./settlement/support.ts";
import { nextLook, pay, settledDown, until, WATCHING } from "./watchStage.ts";

/** An eighth of the escrow's grace period of 900 s, and a little. */
const EIGHTH_MS = 112_501;

const world = useWorld();
let payer: Payer;

beforeEach(async () => {
	payer = await world.payer({ gas: true });
});
afterEach(() => rpc(client(), "evm_setAutomine", [true]));

const client = () => world.chain.client;
const mine = () => rpc(client(), "evm_mine");
const head = () => client().getBlockNumber({ cacheTime: 0 });

async function found(server: PaidServer, channel: TestChannel) {
	const known = await server.ledger(channel);
	if (known === undefined) throw new Error("the server does not know this channel");
	return known;
}
const isClosing = async (server: PaidServer, channel: TestChannel) =>
	(await found(server, channel)).closeRequestedAt !== 0;
const isFrozen = async (server: PaidServer, channel: TestChannel) => (await found(server, channel)).behind !== null;

/** What was owed is on chain. */
const isIn = async (channel: TestChannel, amount: bigint) => (await world.onChain(channel))?.settled === amount;

/** The node has every block, and shows none of the escrow's events. */
function hideEvents({ rpc: node }: PaidServer): void {
	node.lies = (method) => (method === "eth_getLogs" ? { result: [] } : undefined);
}

describe("a close request that a node keeps to itself", () => {
	it("for one answer is known by the next one, and what is owed is on chain (I9)", async () => {
		const server = await world.serve({ engine: { ...WATCHING, settlement: QUIET } });
		const channel = await owing(server, payer, PRICE);
		await settledDown(server);
		hideEvents(server);
		await payer.requestClose(channel);
		await nextLook(server);
		expect(await isClosing(server, channel)).toBe(false);
		server.rpc.up();
		await until("what is owed is on chain", () => isIn(channel, PRICE));
	});

	it("for ever is known within an eighth of the grace period, though nobody uses the channel (I9)", async () => {
		const server = await world.serve({ engine: { ...WATCHING, settlement: QUIET } });
		const channel = await owing(server, payer, PRICE);
		await settledDown(server);
		hideEvents(server);
		await payer.requestClose(channel);
		await nextLook(server);
		expect(await isClosing(server, channel)).toBe(false);
		server.clock.advance(EIGHTH_MS);
		await until("what is owed is on chain", () => isIn(channel, PRICE));
	});

	it("for ever stops the vouchers of a channel in use: it is read by itself meanwhile, and nobody waits for that (I9, D2)", async () => {
		const server = await world.serve({ engine: { ...WATCHING, settlement: false } });
		const channel = await server.open(payer);
		await settledDown(server);
		hideEvents(server);
		await payer.requestClose(channel);
		server.clock.advance(EIGHTH_MS);
		await nextLook(server);
		// It owes nothing: only its use makes it be read.
		expect(await isClosing(server, channel)).toBe(false);
		let held = true;
		server.rpc.fails = (method) => held && method === "eth_call";
		expectPaid(await pay(server, payer, channel, PRICE));
		held = false;
		await until("the close request is known", () => isClosing(server, channel));
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "session/channel-closing");
	});

	it("before a restart is known after it (I9)", async () => {
		const server = await world.serve({ engine: { ...WATCHING, settlement: false } });
		const channel = await owing(server, payer, PRICE);
		await settledDown(server);
		hideEvents(server);
		await payer.requestClose(channel);
		await nextLook(server);
		await server.stop();
		server.rpc.up();
		await server.restart();
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "session/channel-closing");
	});
});

describe("channels that are read by themselves", () => {
	/** A sweep over the store of a server that watches nothing. */
	function sweepOver(server: PaidServer, options: Partial<SweepOptions> = {}) {
		const pages: (readonly Hex[])[] = [];
		const logs: string[] = [];
		const log = (_: object, message: string) => void logs.push(message);
		const sweep = new Sweep({
			chainId: world.chain.chainId,
			store: server.store,
			chainState: {
				async observe(channelIds) {
					pages.push(channelIds);
					return { number: 0n, timestampSeconds: 0 };
				},
			},
			isHere: () => true,
			everyMs: EIGHTH_MS - 1,
			pollMs: 5,
			now: server.clock.now,
			log: { info: log, warn: log, error: log },
			...options,
		});
		return { sweep, pages, logs };
	}
	let server: PaidServer;

	beforeEach(async () => {
		server = await world.serve({ engine: { watch: false, settlement: QUIET } });
	});

	it("are those that owe something, the highest amounts first, and once in an eighth of the grace period", async () => {
		const [low, high] = [await owing(server, payer, PRICE), await owing(server, payer, 8n * PRICE)];
		const elsewhere = await owing(server, payer, 9n * PRICE);
		await server.open(payer);
		const isHere: SweepOptions["isHere"] = ({ channelId }) => channelId !== elsewhere.channelId;
		const { sweep, pages } = sweepOver(server, { isHere });
		sweep.start();
		// They were read just now.
		await until("it has looked", async () => {
			await new Promise((resolve) => setTimeout(resolve, 50));
			return pages.length === 0;
		});
		server.clock.advance(EIGHTH_MS);
		const recent = await owing(server, payer, 4n * PRICE);
		await until("they are read", () => pages.length > 0);
		expect(pages).toEqual([[high.channelId, low.channelId]]);
		server.clock.advance(EIGHTH_MS);
		await until("they are read again", () => pages.length > 1);
		await sweep.stop();
		expect(pages.slice(1)).toEqual([[high.channelId, recent.channelId, low.channelId]]);
	});

	it("are also those that are in use and owe nothing, each once, when it was read too long ago", async () => {
		const [old, young] = [await server.open(payer), await server.open(payer)];
		const [known, other] = [await found(server, old), await found(server, young)];
		server.clock.advance(EIGHTH_MS);
		const { sweep, pages } = sweepOver(server);
		for (let voucher = 0; voucher < 3; voucher++) sweep.relied(known);
		sweep.relied({ ...other, chainReadAt: server.clock.now() });
		// The clock was set back since it was read.
		sweep.relied({ ...other, chainReadAt: server.clock.now() + 1_000_000 });
		sweep.start();
		await until("they are read", () => pages.length > 0);
		await sweep.stop();
		expect(pages).toEqual([[old.channelId, young.channelId]]);
	});

	it("are tried sooner again when the node fails, which is told once in a minute, and not at all after the end", async () => {
		const channel = await owing(server, payer, PRICE);
		server.clock.advance(EIGHTH_MS);
		let tries = 0;
		const observe = async () => {
			tries++;
			throw new Error("no answer");
		};
		const { sweep, logs } = sweepOver(server, { chainState: { observe } });
		sweep.start();
		await until("it is tried", () => tries === 1);
		server.clock.advance(EIGHTH_MS / 8);
		await until("it is tried again", () => tries === 2);
		expect(logs).toHaveLength(1);
		server.clock.advance(60_000);
		await until("it is tried and told again", () => tries === 3 && logs.length === 2);
		expect(await found(server, channel)).toBeDefined();
		await sweep.stop();
		sweep.start();
		server.clock.advance(EIGHTH_MS);
		await new Promise((resolve) => setTimeout(resolve, 50));
		expect(tries).toBe(3);
	});
});

describe("a clock that is ahead of the chain's", () => {
	const limits = { maxHeadAgeSeconds: 60 };
	/** The newest block looks as old as this to the server. */
	const lookAhead = async ({ clock }: PaidServer, ms: number) => {
		const { timestamp } = await client().getBlock({ blockTag: "latest" });
		clock.advance(Number(timestamp) * 1_000 + ms - clock.now());
	};

	it("keeps no close request from being seen and answered; it only stops sales (I9, I10)", async () => {
		const server = await world.serve({ engine: { ...WATCHING, settlement: QUIET, limits } });
		await lookAhead(server, 0);
		const [closing, other] = [await owing(server, payer, PRICE), await server.open(payer)];
		await settledDown(server);
		await lookAhead(server, 90_000);
		await payer.requestClose(closing);
		await until("what is owed is on chain", () => isIn(closing, PRICE));
		await server.engine.settle();
		await lookAhead(server, 90_000);
		const before = await found(server, other);
		expectRefusal(await pay(server, payer, other, PRICE), "service-unavailable");
		// It was read for that voucher, and is no fresher by it.
		expect((await found(server, other)).chainReadAt).toBe(before.chainReadAt);
		await until("it is told", async () =>
			server.logs.some(({ values }) => JSON.stringify(values).includes("this machine's clock is wrong")),
		);
	});

	it("lets no server start: it would not know what it may sell (I10)", async () => {
		const server = await world.serve({ engine: { ...WATCHING, limits } });
		const channel = await owing(server, payer, PRICE);
		await settledDown(server);
		await server.stop();
		await payer.requestClose(channel);
		await lookAhead(server, 90_000);
		await expect(server.restart()).rejects.toMatchObject({ code: "CATCH_UP" });
		await lookAhead(server, 0);
		await server.restart();
		expect(await isClosing(server, channel)).toBe(true);
	});
});

describe("a clock that was set back", () => {
	it("makes nothing young that is not: while the node is silent nothing is sold (I10)", async () => {
		const server = await world.serve({ engine: { ...WATCHING, settlement: QUIET } });
		const channel = await owing(server, payer, PRICE);
		server.rpc.down();
		server.clock.advance(-3_600_000);
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "service-unavailable");
		server.rpc.up();
		await until("vouchers are taken again", async () => (await pay(server, payer, channel, 2n * PRICE)).status === 200);
	});

	it("does not make a node young that has stopped: its head is too far ahead to be told from that (I10)", async () => {
		const server = await world.serve({ engine: { ...WATCHING, limits: { maxHeadAgeSeconds: 60 } } });
		const { timestamp } = await client().getBlock({ blockTag: "latest" });
		server.clock.advance(Number(timestamp) * 1_000 - server.clock.now());
		const channel = await owing(server, payer, PRICE);
		server.clock.advance(-3_600_000);
		await nextLook(server);
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "service-unavailable");
	});

	it("does not silence a log until it has caught up", () => {
		let now = 1_000_000;
		let told = 0;
		const tell = rarely(60_000, () => now);
		const advance = (ms: number) => {
			now += ms;
			tell(() => told++);
			return told;
		};
		expect([advance(0), advance(59_999), advance(1), advance(-500_000), advance(1)]).toEqual([1, 1, 2, 3, 3]);
	});
});

describe("the age of a head", () => {
	it("is a minute at most, less where the grace period is short, and none on development chains, unless it is given", () => {
		const maxChainStateAgeMs = 15_000;
		expect([
			maxHeadAgeMs({ maxChainStateAgeMs }, 8453, 900),
			maxHeadAgeMs({ maxChainStateAgeMs: 45_000 }, 8453, 900),
			maxHeadAgeMs({ maxChainStateAgeMs }, 8453, 600),
			maxHeadAgeMs({ maxChainStateAgeMs }, 31_337, 900),
			maxHeadAgeMs({ maxChainStateAgeMs, maxHeadAgeSeconds: 5 }, 31_337, 900),
			maxHeadAgeMs({ maxChainStateAgeMs, maxHeadAgeSeconds: 0 }, 8453, 900),
		]).toEqual([60_000, 45_000, 45_000, 0, 5_000, 0]);
	});
});

describe("with three confirmations", () => {
	const limits = { confirmations: 3 };

	/** Makes blocks until something has come to its end. */
	async function whileMining<T>(work: Promise<T>): Promise<T> {
		let isOver = false;
		const end = () => {
			isOver = true;
		};
		work.then(end, end);
		while (!isOver) {
			await mine();
			await new Promise((resolve) => setTimeout(resolve, 20));
		}
		return work;
	}

	it("a deposit that was reorganized and mined again thaws its channel once it is deep, without anybody's asking", async () => {
		const server = await world.serve({ engine: { ...WATCHING, limits } });
		const from = (await head()) + 1n;
		const channel = await whileMining(server.open(payer));
		expectPaid(await pay(server, payer, channel, PRICE));
		await settledDown(server);
		const goOn = await takeOut(client(), from);
		await until("the channel is frozen", () => isFrozen(server, channel));
		await goOn();
		await until("the deposit is there again", async () => {
			if ((await world.onChain(channel)) !== undefined) return true;
			await mine();
			return false;
		});
		// Its event has been followed, and is in too young a block.
		await nextLook(server);
		expect(await isFrozen(server, channel)).toBe(true);
		await mine();
		await nextLook(server);
		await mine();
		await until("the channel is thawed", async () => !(await isFrozen(server, channel)));
		expectPaid(await pay(server, payer, channel, 2n * PRICE));
	});
});
