import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { createPublicClient, custom, type Hex, http, type PublicClient } from "viem";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { topUpCall } from "../../src/escrow/calls.ts";
import type { EscrowEvent } from "../../src/escrow/escrowEvents.ts";
import { type EscrowChannel, readChannels } from "../../src/escrow/reads.ts";
import { connectChain, disconnectChain } from "../../src/escrow/rpc.ts";
import { SeenLogs } from "../../src/escrow/seenLogs.ts";
import type { WatchedBlock, WatchStep } from "../../src/escrow/stepReader.ts";
import { EscrowWatcher, type WatcherOptions } from "../../src/escrow/watcher.ts";
import { RpcProxy } from "../support/rpcProxy.ts";
import { type Account, createPayeeStage, type PayeeStage } from "./payeeStage.ts";
import { mine, rpc, until } from "./support.ts";

const SEED = 20_261_126;

/** How many blocks each step reads again. */
const REREAD_BLOCKS = 64;

let stage: PayeeStage;
let payee: Account;
let chain: PublicClient;
let proxy: RpcProxy;
const running: EscrowWatcher[] = [];

beforeAll(async () => {
	stage = await createPayeeStage();
	chain = stage.chain.client;
	payee = await stage.payee();
});
afterAll(() => stage?.chain.stop());
beforeEach(async () => {
	// What the test before has left behind lies below what is read again.
	await mineMany(REREAD_BLOCKS + 1);
	proxy = await RpcProxy.start(stage.chain.url);
});
afterEach(async () => {
	await Promise.all(running.splice(0).map((watcher) => watcher.stop()));
	await proxy.stop();
});

/** Where one watcher after the other has come, as a store would keep it. */
type Kept = { block?: WatchedBlock; writes: number };

/** A watcher and all that it says. `take` does what the follower does with a step. */
function follow(
	options: Partial<WatcherOptions> = {},
	kept: Kept = { writes: 0 },
	take?: (step: WatchStep) => unknown,
) {
	const steps: WatchStep[] = [];
	const faults: unknown[] = [];
	const watcher = new EscrowWatcher({
		client: chain,
		escrow: stage.escrow,
		cursor: {
			read: async () => kept.block && { number: kept.block.number, hash: kept.block.hash },
			write: async (block) => {
				kept.block = block;
				kept.writes++;
			},
		},
		onStep: async (step) => {
			await take?.(step);
			steps.push(step);
		},
		onFault: (error) => faults.push(error),
		pollMs: 20,
		...options,
	});
	running.push(watcher);
	const events = () => steps.flatMap((step) => step.events);
	return { watcher, steps, faults, kept, events, last: () => steps.at(-1) as WatchStep };
}

/** A watcher that has processed everything up to now. */
async function upToDate(options: Partial<WatcherOptions> = {}, kept?: Kept, take?: (step: WatchStep) => unknown) {
	const followed = follow(options, kept, take);
	await followed.watcher.catchUp();
	return followed;
}

const open = () => stage.open(payee);
const topUp = (id: Hex) => stage.send(topUpCall(stage.escrow, id, 1n), stage.payer);
const mineMany = (blocks: number) => rpc(chain, "anvil_mine", [`0x${blocks.toString(16)}`]);
/** Replaces the newest blocks by as many empty ones, which are others by their miner; what was sent in them is gone. */
async function reorganize(depth: number): Promise<void> {
	await rpc(chain, "anvil_setCoinbase", [`0x${randomBytes(20).toString("hex")}`]);
	await rpc(chain, "anvil_reorg", [depth, []]);
}
const ids = (events: readonly EscrowEvent[]) => events.map(({ channelId }) => channelId);
const codes = (faults: readonly unknown[]) => faults.map((fault) => (fault as { code?: unknown }).code);

/** A client that may answer, fail or do something by itself before the chain is asked. */
function between(intervene: (method: string, params: unknown) => unknown): PublicClient {
	const request = async ({ method, params }: { method: string; params?: unknown }) => {
		const given = await intervene(method, params);
		return given === undefined ? chain.request({ method, params } as never) : given;
	};
	return createPublicClient({ transport: custom({ request }, { retryCount: 0 }), cacheTime: 0 });
}

/** Over the proxy, without viem's own repeating. */
const throughProxy = () => createPublicClient({ transport: http(proxy.url, { retryCount: 0 }), cacheTime: 0 });

describe("a first run", () => {
	it("says that anything may have changed, looks back at nothing, and begins at the head", async () => {
		await open();
		const { steps, kept, watcher } = await upToDate();
		const head = await chain.getBlock();
		const { block } = kept;
		expect(steps).toEqual([{ head: block, latest: block, events: [], touched: new Set(), everything: true }]);
		expect(kept.block).toEqual({ number: head.number, hash: head.hash, timestampSeconds: Number(head.timestamp) });
		expect(watcher.seen?.block).toEqual(kept.block);
	});

	it("looks back some blocks where that is asked for", async () => {
		const id = await open();
		await topUp(id);
		const { events } = await upToDate({ overlapBlocks: 1 });
		expect(events()).toMatchObject([{ name: "ToppedUp", channelId: id }]);
	});
});

describe("following", () => {
	it("delivers each new event once, with its channel, and moves the cursor", async () => {
		const { watcher, steps, kept, events } = await upToDate();
		const id = await open();
		await watcher.poke();
		await topUp(id);
		await watcher.poke();
		await watcher.poke();
		expect(events()).toMatchObject([
			{ name: "ChannelOpened", channelId: id },
			{ name: "ToppedUp", channelId: id },
		]);
		expect(steps.slice(1).map(({ touched }) => [...touched])).toEqual([[id], [id], []]);
		expect(
			steps.slice(1).every(({ everything, reorganizedFrom }) => !everything && reorganizedFrom === undefined),
		).toBe(true);
		expect(kept.block?.number).toBe(await chain.getBlockNumber());
	});

	it("is seen anew when the head has not moved, and writes no cursor for it", async () => {
		let now = 1_000;
		const { watcher, kept, steps } = await upToDate({ now: () => now });
		const { writes } = kept;
		now = 2_000;
		await watcher.poke();
		expect(watcher.seen).toEqual({ block: kept.block, at: 2_000 });
		expect(steps).toHaveLength(2);
		expect(kept.writes).toBe(writes);
	});

	it("is as old as its question: what comes between question and answer is not seen yet", async () => {
		let now = 1_000;
		const client = between((method) => {
			if (method === "eth_getBlockByNumber") now += 500;
		});
		const { watcher } = await upToDate({ client, now: () => now });
		expect(watcher.seen?.at).toBe(1_000);
	});

	it("says up to which block it goes before it delivers", async () => {
		const said: unknown[] = [];
		const followed = follow({}, undefined, ({ head }) => said.push([followed.watcher.processingTo, head.number]));
		await followed.watcher.catchUp();
		await open();
		await followed.watcher.poke();
		expect(said).toEqual(followed.steps.map(({ head }) => [head.number, head.number]));
	});

	it("repeats a step that was not taken, whole, and moves no cursor meanwhile", async () => {
		let refuses = false;
		const { watcher, kept, events, faults } = await upToDate({}, undefined, () => {
			if (refuses) throw new Error("the store is full");
		});
		const { block } = kept;
		refuses = true;
		const id = await open();
		const seen = watcher.seen;
		await watcher.poke();
		expect([kept.block, watcher.seen, events(), faults.length]).toEqual([block, seen, [], 1]);
		refuses = false;
		const other = await open();
		await watcher.poke();
		expect(ids(events())).toEqual([id, other]);
	});

	it("never runs two steps at a time, however it is driven", async () => {
		let inside = 0;
		let most = 0;
		const { watcher, steps } = follow({ pollMs: 1 }, undefined, async () => {
			most = Math.max(most, ++inside);
			await new Promise((resolve) => setTimeout(resolve, 3));
			inside--;
		});
		watcher.start();
		await Promise.all(Array.from({ length: 20 }, () => watcher.poke()));
		await until(async () => steps.length >= 10);
		expect(most).toBe(1);
	});

	it("looks again when it is asked while a step runs, for that has asked for the head before", async () => {
		const head = Promise.withResolvers<void>();
		const going = Promise.withResolvers<void>();
		let asked = 0;
		const client = between(async (method) => {
			if (method === "eth_getLogs" && asked++ === 0) {
				head.resolve();
				await going.promise;
			}
			return undefined;
		});
		const { watcher, events } = follow({ client, overlapBlocks: 1 });
		const running = watcher.poke();
		await head.promise;
		const id = await open();
		const looking = Promise.all([watcher.poke(), watcher.poke()]);
		going.resolve();
		await Promise.all([running, looking]);
		expect(ids(events()).filter((one) => one === id)).toEqual([id]);
	});

	it("stops when the running step has ended, and begins none after that", async () => {
		const { promise, resolve } = Promise.withResolvers<void>();
		const begun = Promise.withResolvers<void>();
		const { watcher, steps } = follow({ pollMs: 1 }, undefined, () => {
			begun.resolve();
			return promise;
		});
		watcher.start();
		await begun.promise;
		void watcher.poke();
		let stopped = false;
		const stopping = watcher.stop().then(() => {
			stopped = true;
		});
		await new Promise((turn) => setTimeout(turn, 20));
		expect(stopped).toBe(false);
		resolve();
		await stopping;
		const done = steps.length;
		await new Promise((turn) => setTimeout(turn, 20));
		expect(steps).toHaveLength(done);
	});
});

describe("a gap", () => {
	it("is worked off in pieces from the cursor after a restart, each with its own cursor", async () => {
		const { kept } = await upToDate();
		const start = kept.block?.number ?? 0n;
		const first = await open();
		await mineMany(25);
		const second = await open();
		const { writes } = kept;
		const restarted = await upToDate({ maxBlocksPerStep: 10 }, kept);
		expect(ids(restarted.events())).toEqual([first, second]);
		expect(restarted.steps.map(({ head }) => head.number - start)).toEqual([10n, 20n, 27n]);
		expect(restarted.steps.map(({ latest }) => latest.number - start)).toEqual([27n, 27n, 27n]);
		expect(kept.writes - writes).toBe(3);
		expect(restarted.steps.some(({ everything }) => everything)).toBe(false);
	});

	it("is not seen as the present before its last piece", async () => {
		const { kept } = await upToDate();
		await mineMany(25);
		const { watcher } = follow({ maxBlocksPerStep: 10 }, kept);
		await watcher.poke();
		expect(watcher.processingTo).toBeDefined();
		expect(watcher.seen).toBeUndefined();
	});

	it("begins some blocks before the cursor where that is asked for, on the first step of a run only", async () => {
		const { kept } = await upToDate();
		const id = await open();
		await upToDate({}, kept);
		const restarted = await upToDate({ overlapBlocks: 3 }, kept);
		expect(ids(restarted.events())).toContain(id);
		const before = restarted.events().length;
		await mine(chain);
		await restarted.watcher.poke();
		expect(restarted.events()).toHaveLength(before);
	});

	it("is read in smaller ranges where the node refuses wide ones", async () => {
		const { kept } = await upToDate();
		const id = await open();
		await mineMany(30);
		const client = between((method, params) => {
			if (method !== "eth_getLogs") return;
			const [{ fromBlock, toBlock }] = params as [{ fromBlock: Hex; toBlock: Hex }];
			if (BigInt(toBlock) - BigInt(fromBlock) > 3n)
				throw Object.assign(new Error("block range too wide"), { code: -32602 });
		});
		const restarted = await upToDate({ client }, kept);
		expect(ids(restarted.events())).toEqual([id]);
	});
});

describe("a reorganization", () => {
	it("touches the channels whose events it took away, and delivers none of them again", async () => {
		const { watcher, last, kept } = await upToDate();
		const common = kept.block?.number ?? 0n;
		const gone = await open();
		await watcher.poke();
		await reorganize(1);
		await watcher.poke();
		expect(last()).toMatchObject({ events: [], touched: new Set([gone]), everything: false });
		expect(last().reorganizedFrom).toBe(common + 1n);
		expect((await readChannels(chain, stage.escrow, [gone], last().head.number)).size).toBe(0);
		await watcher.poke();
		expect(last()).toMatchObject({ touched: new Set() });
		expect(last().reorganizedFrom).toBeUndefined();
	});

	it("touches what is new in its place as well", async () => {
		const { watcher, last } = await upToDate();
		const kept = await open();
		await watcher.poke();
		const gone = await topUp(kept);
		await watcher.poke();
		await reorganize(1);
		const added = await open();
		await watcher.poke();
		expect(ids(last().events)).toEqual([added]);
		expect(last().touched).toEqual(new Set([kept, added]));
		expect(last().reorganizedFrom).toBe(gone.blockNumber);
	});

	it("to a shorter chain is found where its head has another hash than was remembered", async () => {
		const { watcher, last, faults } = await upToDate();
		const snapshot = await rpc(chain, "evm_snapshot");
		const gone = await open();
		await watcher.poke();
		await mine(chain);
		await watcher.poke();
		await rpc(chain, "evm_revert", [snapshot]);
		await mine(chain);
		await watcher.poke();
		expect(last().touched).toEqual(new Set([gone]));
		expect(last().reorganizedFrom).toBe(last().head.number);
		expect(faults).toEqual([]);
	});

	it("deeper than what is remembered says that anything may have changed", async () => {
		const { watcher, last } = await upToDate({ rememberedBlocks: 2 });
		for (let block = 0; block < 5; block++) {
			await mine(chain);
			await watcher.poke();
		}
		await reorganize(4);
		await watcher.poke();
		expect(last().everything).toBe(true);
		await mine(chain);
		await watcher.poke();
		expect(last().everything).toBe(false);
	});

	it("while nobody watched says that anything may have changed, and scans from before the cursor", async () => {
		const { watcher, kept } = await upToDate();
		const before = await open();
		await mineMany(3);
		await watcher.poke();
		await reorganize(2);
		const restarted = await upToDate({ rememberedBlocks: 10 }, kept);
		expect(restarted.steps[0]?.everything).toBe(true);
		expect(ids(restarted.events())).toContain(before);
		expect(restarted.steps.at(-1)?.head.hash).toBe((await chain.getBlock()).hash);
	});

	it("between head and logs is noticed, and nothing of both chains is delivered", async () => {
		const { kept } = await upToDate();
		const gone = await open();
		let moved = false;
		const client = between(async (method) => {
			if (method !== "eth_getLogs" || moved) return;
			moved = true;
			await reorganize(1);
		});
		const restarted = await upToDate({ client }, kept);
		expect(codes(restarted.faults)).toEqual(["CHAIN_MOVED"]);
		expect(ids(restarted.events())).not.toContain(gone);
		expect(restarted.last().head.hash).toBe((await chain.getBlock()).hash);
	});

	it("of what was delivered in a step that did not end touches its channels all the same", async () => {
		const delivered: WatchStep[] = [];
		let refuses = false;
		const { watcher, last } = await upToDate({}, undefined, (step) => {
			delivered.push(step);
			if (refuses) throw new Error("it died after half of it");
		});
		refuses = true;
		const gone = await open();
		await watcher.poke();
		expect(delivered.at(-1)?.touched).toEqual(new Set([gone]));
		refuses = false;
		await reorganize(1);
		await watcher.poke();
		expect(last()).toMatchObject({ events: [], touched: new Set([gone]), reorganizedFrom: last().head.number });
	});
});

describe("a node that can't be followed", () => {
	it("lags: nothing is delivered, it does not count as seen, and it is told ever more rarely", async () => {
		const { kept } = await upToDate();
		const behind = await rpc(chain, "eth_getBlockByNumber", ["latest", false]);
		const id = await open();
		let lags = false;
		const client = between((method, params) =>
			lags && method === "eth_getBlockByNumber" && (params as unknown[])[0] === "latest" ? behind : undefined,
		);
		const { watcher, steps, faults, events } = await upToDate({ client }, kept);
		expect(ids(events())).toEqual([id]);
		lags = true;
		const { seen } = watcher;
		const before = steps.length;
		for (let poll = 0; poll < 8; poll++) await watcher.poke();
		expect(steps).toHaveLength(before);
		expect(watcher.seen).toEqual(seen);
		expect(codes(faults)).toEqual(Array(4).fill("HEAD_LAGS"));
		lags = false;
		await watcher.poke();
		expect(steps).toHaveLength(before + 1);
		expect(steps.at(-1)?.touched.size).toBe(0);
	});

	it("is silent: it is told, and everything is delivered when the node is back", async () => {
		const { watcher, faults, events } = await upToDate({ client: throughProxy() });
		watcher.start();
		proxy.down();
		const id = await open();
		await until(async () => faults.length >= 3);
		expect(events()).toEqual([]);
		proxy.up();
		await until(async () => events().length > 0);
		expect(ids(events())).toEqual([id]);
	});

	it("fails half of all calls: every event is delivered all the same, and each once", async () => {
		const random = fc.sample(fc.boolean(), { numRuns: 400, seed: SEED });
		let at = 0;
		const { watcher, events } = await upToDate({ client: throughProxy(), pollMs: 2 });
		proxy.fails = () => random[at++ % random.length] as boolean;
		watcher.start();
		const opened: Hex[] = [];
		for (let count = 0; count < 4; count++) {
			opened.push(await open());
			await until(async () => ids(events()).includes(opened[count] as Hex));
		}
		expect(ids(events())).toEqual(opened);
	});

	it("fails a start that waits for it, after a bounded number of attempts", async () => {
		proxy.down();
		const { watcher, faults } = follow({ client: throughProxy(), pollMs: 1 });
		await expect(watcher.catchUp()).rejects.toThrow();
		expect(faults).toHaveLength(8);
	});

	it("does not hold a start beyond its signal", async () => {
		proxy.down();
		const { watcher } = follow({ client: throughProxy(), pollMs: 60_000 });
		const controller = new AbortController();
		const starting = watcher.catchUp({ signal: controller.signal });
		controller.abort(new Error("enough"));
		await expect(starting).rejects.toThrow("enough");
	});
});

describe("a node that does not show all it has", () => {
	/** What a node is asked for that has no block above `newest`: it gives the logs it has, and no error. */
	const clamped = ([filter]: readonly unknown[], newest: bigint) => {
		const { toBlock, ...rest } = filter as { toBlock: Hex };
		return [{ ...rest, toBlock: BigInt(toBlock) < newest ? toBlock : `0x${newest.toString(16)}` }];
	};

	it("answers once for logs as if there were none: they are delivered with the next look, and once", async () => {
		const { watcher, events, faults } = await upToDate({ client: throughProxy() });
		let hidden = 0;
		proxy.lies = (method) => (method === "eth_getLogs" && hidden++ === 0 ? { result: [] } : undefined);
		const id = await open();
		await watcher.poke();
		expect(hidden).toBe(1);
		expect(events()).toEqual([]);
		for (let look = 0; look < 3; look++) await watcher.poke();
		expect(ids(events())).toEqual([id]);
		await mineMany(5);
		await watcher.poke();
		expect(ids(events())).toEqual([id]);
		expect(faults).toEqual([]);
	});

	it("lags behind the head that another one behind the same URL gives: nothing is lost, and the rest is not told twice", async () => {
		const { watcher, events, kept, last } = await upToDate({ client: throughProxy() });
		const first = await open();
		const newest = await chain.getBlockNumber({ cacheTime: 0 });
		const { blockNumber } = await topUp(first);
		proxy.asks = (method, params) => (method === "eth_getLogs" ? clamped(params, newest) : params);
		await watcher.poke();
		expect(events()).toMatchObject([{ name: "ChannelOpened", channelId: first }]);
		expect(kept.block?.number).toBe(blockNumber);
		proxy.up();
		await mine(chain);
		await watcher.poke();
		expect(last()).toMatchObject({ touched: new Set([first]), everything: false });
		expect(last().reorganizedFrom).toBeUndefined();
		await watcher.poke();
		expect(events()).toMatchObject([{ name: "ChannelOpened" }, { name: "ToppedUp", channelId: first }]);
	});

	it("and hid what was in the last block before a restart: the next run delivers it", async () => {
		const client = throughProxy();
		const { watcher, kept } = await upToDate({ client });
		proxy.lies = (method) => (method === "eth_getLogs" ? { result: [] } : undefined);
		const id = await open();
		await watcher.poke();
		expect(kept.block?.number).toBe(await chain.getBlockNumber({ cacheTime: 0 }));
		proxy.lies = () => undefined;
		const restarted = await upToDate({ client }, kept);
		expect(ids(restarted.events())).toEqual([id]);
		expect(restarted.steps.some(({ everything }) => everything)).toBe(false);
	});

	it("is read again no further back than is asked for: what it hides for longer stays hidden", async () => {
		const { watcher, events } = await upToDate({ client: throughProxy(), rereadBlocks: 2 });
		proxy.lies = (method) => (method === "eth_getLogs" ? { result: [] } : undefined);
		await open();
		await mineMany(2);
		await watcher.poke();
		proxy.lies = () => undefined;
		await watcher.poke();
		expect(events()).toEqual([]);
	});

	it("hid what a reorganization takes away at once: whoever was read as of that block is touched", async () => {
		const { watcher, last } = await upToDate({ client: throughProxy() });
		const id = await open();
		const newest = await chain.getBlockNumber({ cacheTime: 0 });
		await topUp(id);
		proxy.asks = (method, params) => (method === "eth_getLogs" ? clamped(params, newest) : params);
		await watcher.poke();
		expect(last()).toMatchObject({ events: [{ name: "ChannelOpened" }], touched: new Set([id]) });
		await reorganize(1);
		await watcher.poke();
		expect(last()).toMatchObject({ events: [], touched: new Set([id]) });
	});

	it("hid what a reorganization takes away after it was shown late: it is touched all the same", async () => {
		const { watcher, last } = await upToDate({ client: throughProxy() });
		proxy.lies = (method) => (method === "eth_getLogs" ? { result: [] } : undefined);
		const id = await open();
		await mineMany(2);
		await watcher.poke();
		proxy.lies = () => undefined;
		await watcher.poke();
		expect(last().touched).toEqual(new Set([id]));
		await reorganize(3);
		await watcher.poke();
		expect(last()).toMatchObject({ events: [], touched: new Set([id]) });
		expect(last().reorganizedFrom).toBeDefined();
	});
});

describe("logs that were delivered", () => {
	const log = (number: number, logIndex: number) => {
		const blockHash: Hex = `0x${number.toString(16).padStart(64, "0")}`;
		return { blockNumber: BigInt(number), blockHash, logIndex };
	};

	it("are told apart by block and index, and forgotten from below when there are too many, or outside of a range", () => {
		const seen = new SeenLogs(4);
		seen.add([log(2, 0), log(2, 1), log(1, 0), log(3, 7)]);
		seen.add([log(3, 7)]);
		expect([log(1, 0), log(2, 1), log(3, 7), log(3, 0)].map((one) => seen.has(one))).toEqual([true, true, true, false]);
		seen.add([log(4, 0)]);
		expect([seen.size, seen.has(log(1, 0)), seen.has(log(2, 0))]).toEqual([4, false, true]);
		seen.keepWithin(3n, 3n);
		expect([seen.size, seen.has(log(3, 7)), seen.has(log(4, 0))]).toEqual([1, true, false]);
	});
});

describe("a WebSocket", () => {
	it("tells of new blocks long before the next poll", async () => {
		const url = stage.chain.url.replace("http://", "ws://");
		const client = connectChain({ urls: [url], chainId: stage.chain.chainId });
		const { watcher, events, faults } = await upToDate({ client, pollMs: 3_600_000 });
		watcher.start();
		const id = await open();
		await until(async () => {
			await mine(chain);
			return ids(events()).includes(id);
		});
		await watcher.stop();
		await disconnectChain(client);
		expect(faults).toEqual([]);
	});
});

describe("whoever reads again what was touched", () => {
	/** What may happen, to the channel at an index or to some blocks. */
	const action = fc.oneof(
		{ weight: 3, arbitrary: fc.record({ kind: fc.constant("open" as const) }) },
		{ weight: 4, arbitrary: fc.record({ kind: fc.constant("topUp" as const), at: fc.nat(5) }) },
		{ weight: 2, arbitrary: fc.record({ kind: fc.constant("mine" as const), blocks: fc.integer({ min: 1, max: 6 }) }) },
		{
			weight: 3,
			arbitrary: fc.record({ kind: fc.constant("reorganize" as const), depth: fc.integer({ min: 1, max: 4 }) }),
		},
		{ weight: 5, arbitrary: fc.record({ kind: fc.constant("poll" as const) }) },
		{ weight: 1, arbitrary: fc.record({ kind: fc.constant("fail" as const) }) },
		{ weight: 1, arbitrary: fc.record({ kind: fc.constant("hide" as const) }) },
		{ weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const) }) },
	);

	it("knows every channel as the chain has it, whatever is mined, reorganized, refused, hidden or restarted between", async () => {
		const property = fc.asyncProperty(
			fc.array(action, { minLength: 5, maxLength: 25, size: "max" }),
			async (actions) => {
				const known = new Map<Hex, EscrowChannel>();
				/** Stands for the store: what is known outlives the watcher, as the cursor does. */
				const opened = new Set<Hex>();
				let refuses = false;
				const take = async ({ head, touched, everything }: WatchStep) => {
					// Others are of another round.
					const wanted = [...opened].filter((id) => everything || touched.has(id));
					const found = await readChannels(chain, stage.escrow, wanted, head.number);
					for (const id of wanted) {
						const channel = found.get(id);
						if (channel === undefined) known.delete(id);
						else known.set(id, channel);
					}
					if (refuses) throw new Error("refused");
				};
				const kept: Kept = { writes: 0 };
				const options = { client: throughProxy(), maxBlocksPerStep: 4, rememberedBlocks: 8 };
				let { watcher } = await upToDate(options, kept, take);
				// The stage's own blocks are not to be taken away, nor another round's to be read again.
				await mineMany(REREAD_BLOCKS + 1);
				await watcher.catchUp();
				for (const one of actions) {
					if (one.kind === "open") opened.add(await open());
					if (one.kind === "topUp") {
						const id = [...opened][one.at];
						if (id !== undefined && (await stage.channel(id)) !== undefined) await topUp(id);
					}
					if (one.kind === "mine") await mineMany(one.blocks);
					if (one.kind === "reorganize") await reorganize(one.depth);
					if (one.kind === "poll") await watcher.poke();
					if (one.kind === "fail") {
						refuses = true;
						await watcher.poke();
						refuses = false;
					}
					if (one.kind === "hide") {
						proxy.lies = (method) => (method === "eth_getLogs" ? { result: [] } : undefined);
						await watcher.poke();
						proxy.up();
					}
					// A clean stop: nothing is half done.
					if (one.kind === "restart") {
						await watcher.catchUp();
						watcher = follow(options, kept, take).watcher;
					}
				}
				await watcher.catchUp();
				expect(known).toEqual(await readChannels(chain, stage.escrow, [...opened]));
			},
		);
		await fc.assert(property, { numRuns: 12, seed: SEED });
	});
});
