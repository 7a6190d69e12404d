import { createPublicClient, custom, type Hex } from "viem";
import { beforeEach, describe, expect, it } from "vitest";
import { type ChainStateOptions, ChainStateReader, type Follower } from "../../src/server/chainState.ts";
import type { Channel } from "../../src/server/index.ts";
import { rpc, StillClock } from "../support/sessionDrafts.ts";
import { useWorld } from "../support/useWorld.ts";
import { DEPOSIT, type PaidServer, type Payer, type TestChannel } from "../support/world.ts";

const MAX_AGE_MS = 15_000;

const world = useWorld();
let server: PaidServer;
let payer: Payer;
let channel: TestChannel;
let clock: StillClock;
/** Calls of the node, in order. */
let calls: string[];
/** Which of them fail. */
let fails: (method: string) => boolean;

beforeEach(async () => {
	payer = await world.payer({ gas: true });
	clock = new StillClock();
	server = await world.serve({ clock });
	channel = await server.open(payer);
	calls = [];
	fails = () => false;
});

const client = () => world.chain.client;
const head = () => client().getBlock({ blockTag: "latest" });

async function known(): Promise<Channel> {
	const found = await server.ledger(channel);
	if (found === undefined) throw new Error("the server does not know this channel");
	return found;
}

/** A reader over the server's store and chain, beside the server's own. */
function readerOf(options: Partial<ChainStateOptions> = {}) {
	const effects: (readonly [Hex, readonly string[]])[] = [];
	const request = async (call: { method: string }) => {
		calls.push(call.method);
		if (fails(call.method)) throw new Error("no answer");
		return client().request(call as never);
	};
	const reader = new ChainStateReader({
		client: createPublicClient({ transport: custom({ request }, { retryCount: 0 }), cacheTime: 0 }),
		escrow: world.escrow,
		store: server.store,
		maxAgeMs: MAX_AGE_MS,
		maxHeadAgeMs: 0,
		confirmations: 1,
		now: clock.now,
		onEffects: ({ channelId }, some) => void effects.push([channelId, some]),
		...options,
	});
	return { reader, effects };
}

/** One that has seen the latest block, this long ago. */
async function followerOf(agoMs = 0, blocks = 0n): Promise<Follower> {
	const { number, timestamp } = await head();
	const at = clock.now() - agoMs;
	const block = { number: number + blocks, timestampSeconds: Number(timestamp) };
	return {
		seen: () => ({ block, at }),
		processingTo: () => block.number,
		revisit: () => undefined,
		relied: () => undefined,
	};
}

describe("a channel's state", () => {
	it("is read again when it is too old, once for all who wait for it, and then is young", async () => {
		const { reader } = readerOf();
		await reader.ensureFresh(await known());
		expect(calls).toEqual([]);
		clock.advance(MAX_AGE_MS + 1);
		const old = await known();
		await Promise.all(Array.from({ length: 10 }, () => reader.ensureFresh(old)));
		expect(calls).toEqual(["eth_getBlockByNumber", "eth_call"]);
		expect(await known()).toMatchObject({ chainReadAt: clock.now(), deposit: DEPOSIT });
	});

	it("is not read while somebody follows the chain, and is when he falls behind (D2)", async () => {
		const { reader } = readerOf();
		clock.advance(MAX_AGE_MS + 1);
		reader.followedBy(await followerOf(MAX_AGE_MS));
		await reader.ensureFresh(await known());
		expect(calls).toEqual([]);
		reader.followedBy(await followerOf(MAX_AGE_MS + 1));
		await reader.ensureFresh(await known());
		expect(calls).toContain("eth_call");
	});

	it("is not made young by a block that is too old, whoever has seen it (I10)", async () => {
		const { reader } = readerOf({ maxHeadAgeMs: 60_000 });
		clock.advance(120_000);
		reader.followedBy(await followerOf());
		await expect(reader.ensureFresh(await known())).rejects.toMatchObject({
			code: "CHAIN_UNAVAILABLE",
			message: expect.stringContaining("stopped following"),
		});
	});

	it("is not made young by a node that is behind what was followed, however often it is asked (I10)", async () => {
		const { reader } = readerOf();
		clock.advance(MAX_AGE_MS + 1);
		reader.followedBy(await followerOf(MAX_AGE_MS + 1, 1n));
		await expect(reader.ensureFresh(await known())).rejects.toMatchObject({
			code: "CHAIN_UNAVAILABLE",
			message: expect.stringContaining("behind block"),
		});
		expect(calls).not.toContain("eth_call");
		await rpc(client(), "evm_mine");
		await reader.ensureFresh(await known());
	});

	it("is asked for again where the node fails for a moment, and not for ever", async () => {
		const { reader } = readerOf();
		let failures = 2;
		fails = (method) => method === "eth_call" && failures-- > 0;
		await reader.refresh(channel.channelId);
		fails = (method) => method === "eth_call";
		await expect(reader.refresh(channel.channelId)).rejects.toMatchObject({ code: "CHAIN_UNAVAILABLE" });
	});
});

describe("observing channels", () => {
	it("puts what the chain says into the ledger, and carries out what follows from it", async () => {
		const { reader, effects } = readerOf();
		const other = payer.channel(server.payee);
		await payer.requestClose(channel);
		// One that this store does not know is left out.
		await reader.observe([other.channelId, channel.channelId]);
		expect(await known()).toMatchObject({ closeRequestedAt: expect.any(Number) });
		expect(effects).toEqual([[channel.channelId, ["close-requested"]]]);
		expect(await server.ledger(other)).toBeUndefined();
	});

	it("changes nothing by an earlier block, unless blocks were replaced: then it is what counts (I2)", async () => {
		const { reader } = readerOf();
		const { blockNumber } = await known();
		const before = { number: BigInt(blockNumber - 1), timestampSeconds: 0 };
		await reader.observe([channel.channelId], { head: before });
		expect(await known()).toMatchObject({ deposit: DEPOSIT, blockNumber });
		await reader.observe([channel.channelId], { head: before, reorganized: true });
		expect(await known()).toMatchObject({ deposit: 0n, blockNumber: blockNumber - 1 });
	});

	it("rejects where the node has not reached the block that it must have", async () => {
		const { reader } = readerOf();
		const { number } = await head();
		await expect(reader.observe([channel.channelId], { notBefore: number + 1n })).rejects.toMatchObject({
			code: "CHAIN_UNAVAILABLE",
		});
		await reader.observe([channel.channelId], { notBefore: number });
	});

	it("lets its follower read again what was read ahead of him", async () => {
		const { reader } = readerOf();
		const asked: [readonly Hex[], bigint][] = [];
		reader.followedBy({ ...(await followerOf()), revisit: (ids, block) => void asked.push([ids, block]) });
		await rpc(client(), "evm_mine");
		await reader.observe([channel.channelId]);
		expect(asked).toEqual([[[channel.channelId], (await head()).number]]);
	});
});
