import { once } from "node:events";
import { createServer } from "node:net";
import { inspect } from "node:util";
import type { Hex } from "viem";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { closeCall } from "../../src/escrow/payeeCalls.ts";
import { readDecimals } from "../../src/escrow/reads.ts";
import { revertReason } from "../../src/escrow/reverts.ts";
import {
	type ConnectChainOptions,
	connectChain,
	disconnectChain,
	EndpointError,
	RpcUrlError,
} from "../../src/escrow/rpc.ts";
import { RpcProxy } from "../support/rpcProxy.ts";
import { createStage, mine, rpc, type Stage, until } from "./support.ts";

let stage: Stage;
let first: RpcProxy;
let second: RpcProxy;
let nowMs: number;

beforeAll(async () => {
	stage = await createStage();
});
afterAll(() => stage?.chain.stop());
beforeEach(async () => {
	first = await RpcProxy.start(stage.chain.url);
	second = await RpcProxy.start(stage.chain.url);
	nowMs = Date.now();
});
afterEach(async () => {
	await first.stop();
	await second.stop();
});

const connect = (options: Partial<ConnectChainOptions> = {}) =>
	connectChain({
		urls: [first.url, second.url],
		chainId: stage.chain.chainId,
		retries: 0,
		now: () => nowMs,
		...options,
	});

const failure = (promise: Promise<unknown>): Promise<Error> =>
	promise.then(
		() => {
			throw new Error("it did not fail");
		},
		(error: Error) => error,
	);

/** What a node says instead of a result. */
const says = (message: string, code = -32000) => ({ result: undefined, error: { code, message } });

/** The chain's head with another number or time. */
async function headWith(change: Readonly<{ number?: bigint; timestamp?: number }>) {
	const head = (await rpc(stage.chain.client, "eth_getBlockByNumber", ["latest", false])) as object;
	const hex = Object.entries(change).map(([key, value]) => [key, `0x${value.toString(16)}`]);
	return { result: { ...head, ...Object.fromEntries(hex) } };
}

const RAW: Hex = `0x02${"ab".repeat(120)}`;

describe("several endpoints", () => {
	it("uses the first one as long as it answers", async () => {
		const client = connect();
		expect(await client.getBlockNumber()).toBe(await stage.chain.client.getBlockNumber());
		expect(first.calls()).toBeGreaterThan(0);
		expect(second.calls()).toBe(0);
	});

	it("goes on with the next one while one is away, and comes back", async () => {
		const client = connect();
		first.down();
		expect(await client.getChainId()).toBe(stage.chain.chainId);
		first.up();
		const before = second.calls();
		await client.getBlockNumber();
		expect(second.calls()).toBe(before);
	});

	it("goes on with the next one when one accepts calls and never answers", async () => {
		const silent = createServer(() => undefined).listen(0, "127.0.0.1");
		await once(silent, "listening");
		const { port } = silent.address() as { port: number };
		const client = connect({ urls: [`http://127.0.0.1:${port}`, second.url], timeoutMs: 200 });
		expect(await client.getChainId()).toBe(stage.chain.chainId);
		silent.close();
	});

	it("tries all of them again before a call fails", async () => {
		let failures = 3;
		const fails = () => failures-- > 0;
		first.fails = fails;
		second.fails = fails;
		expect(await connect({ retries: 2 }).getBlockNumber()).toBeGreaterThan(0n);
		first.down();
		second.down();
		await expect(connect({ retries: 1 }).getBlockNumber()).rejects.toThrow();
	});

	it("does not ask a second one about a revert", async () => {
		const call = closeCall(stage.escrow, `0x${"77".repeat(32)}`, 1n, `0x${"00".repeat(65)}`);
		const error = await failure(connect().estimateGas({ account: stage.payer, to: call.to as Hex, data: call.data }));
		expect(revertReason(error)).toBe("ChannelNotFound");
		expect(second.calls()).toBe(0);
	});
});

describe("sending a transaction", () => {
	const send = () => failure(connect({ retries: 2 }).sendRawTransaction({ serializedTransaction: RAW }));

	it.each(["already known", "nonce too low", "replacement transaction underpriced", "OldNonce"])(
		"takes `%s` from the first endpoint that answers",
		async (message) => {
			first.lies = (method) => (method === "eth_sendRawTransaction" ? says(message) : undefined);
			const error = await send();
			expect((error as Error & { details: string }).details).toContain(message);
			expect(first.calls("eth_sendRawTransaction")).toBe(1);
			expect(second.calls()).toBe(0);
		},
	);

	it("takes it from the second one where the first one is away, or has been asked too much", async () => {
		second.lies = (method) => (method === "eth_sendRawTransaction" ? says("already known") : undefined);
		first.fails = (method) => method === "eth_sendRawTransaction";
		expect(((await send()) as Error & { details: string }).details).toContain("already known");
		first.up();
		first.lies = (method) => (method === "eth_sendRawTransaction" ? says("limit exceeded", -32005) : undefined);
		expect(((await send()) as Error & { details: string }).details).toContain("already known");
	});
});

describe("the chain id", () => {
	const otherChain = (method: string) => (method === "eth_chainId" ? { result: "0x1" } : undefined);

	it("is asked for before anything else", async () => {
		first.lies = otherChain;
		await connect().getBlockNumber();
		expect(first.calls()).toBe(1);
		expect(first.calls("eth_chainId")).toBe(1);
		expect(second.calls("eth_blockNumber")).toBe(1);
	});

	it("keeps an endpoint of another chain out, until it is asked again later", async () => {
		first.lies = otherChain;
		const client = connect({ urls: [first.url], recheckMs: 1_000 });
		const error = await failure(client.getBlockNumber());
		expect(error).toBeInstanceOf(EndpointError);
		expect(error).toMatchObject({ code: "WRONG_CHAIN", endpoint: 1 });
		first.up();
		await expect(client.getBlockNumber()).rejects.toMatchObject({ code: "WRONG_CHAIN" });
		expect(first.calls()).toBe(1);
		nowMs += 1_000;
		expect(await client.getBlockNumber()).toBeGreaterThan(0n);
	});

	it("is asked for anew every now and then", async () => {
		const client = connect({ urls: [first.url] });
		await client.getBlockNumber();
		first.lies = otherChain;
		await client.getBlockNumber();
		nowMs += 300_000;
		await expect(client.getBlockNumber()).rejects.toMatchObject({ code: "WRONG_CHAIN" });
	});

	it("that is wrong fails a read: it is not taken for the contract's own refusal", async () => {
		first.lies = otherChain;
		await expect(readDecimals(connect({ urls: [first.url] }), stage.token)).rejects.toThrow("serves chain 1");
	});
});

describe("a head", () => {
	it("that is too old leaves its endpoint out for a while", async () => {
		const now = Math.floor(nowMs / 1_000);
		const [old, young] = [await headWith({ timestamp: now - 61 }), await headWith({ timestamp: now })];
		first.lies = (method) => (method === "eth_getBlockByNumber" ? old : undefined);
		second.lies = (method) => (method === "eth_getBlockByNumber" ? young : undefined);
		const client = connect({ maxHeadAgeSeconds: 60, recheckMs: 5_000 });
		expect((await client.getBlock()).timestamp).toBe(BigInt(now));
		const before = first.calls();
		await client.getChainId();
		expect(first.calls()).toBe(before);
		nowMs += 5_000;
		await client.getChainId();
		expect(first.calls()).toBeGreaterThan(before);
	});

	it("that is too old everywhere fails the call, and says so", async () => {
		const old = await headWith({ timestamp: 1_000 });
		first.lies = (method) => (method === "eth_getBlockByNumber" ? old : undefined);
		second.lies = first.lies;
		const error = await failure(connect({ maxHeadAgeSeconds: 60 }).getBlock());
		expect(error).toBeInstanceOf(EndpointError);
		expect(error).toMatchObject({ code: "HEAD_STALE", endpoint: 2 });
	});

	it("that is far behind another endpoint's leaves its own out", async () => {
		const client = connect({ maxHeadLagBlocks: 10 });
		const shows = (number: string) => (method: string) =>
			method === "eth_blockNumber" ? { result: number } : undefined;
		second.lies = shows("0x64");
		first.down();
		expect(await client.getBlockNumber()).toBe(100n);
		first.up();
		first.lies = shows("0x5a");
		expect(await client.getBlockNumber()).toBe(90n);
		first.lies = shows("0x59");
		expect(await client.getBlockNumber()).toBe(100n);
	});
});

describe("what an error shows", () => {
	it("is no URL and no transaction, however deep one looks", async () => {
		const failing = [
			() => connect({ urls: [first.url] }).getBalance({ address: stage.payer.address }),
			() => connect({ urls: [first.url] }).sendRawTransaction({ serializedTransaction: RAW }),
			() => connect({ urls: [first.url.replace("http://", "ws://")] }).getBlockNumber(),
			() => connect({ urls: ["http://user:rpc-password@127.0.0.1:1/rpc-key"] }).getBlockNumber(),
		];
		first.fails = (method) => method !== "eth_chainId" && method !== "eth_sendRawTransaction";
		first.lies = (method) => (method === "eth_sendRawTransaction" ? says("nonce too low") : undefined);
		for (const call of failing) {
			const error = await failure(call());
			const shown = `${inspect(error, { depth: 20, showHidden: true })} ${error.message} ${error.stack}`;
			expect(shown).not.toContain(RpcProxy.API_KEY);
			expect(shown).not.toMatch(/rpc-password|rpc-key/);
			expect(shown).not.toContain(RAW.slice(2, 60));
		}
	});

	it("is not what was given as a URL either", () => {
		for (const url of ["rpc-key", "ftp://127.0.0.1/rpc-key"]) {
			expect(() => connect({ urls: [first.url, url] })).toThrow(RpcUrlError);
			expect(() => connect({ urls: [first.url, url] })).not.toThrow("rpc-key");
		}
		expect(() => connect({ urls: [] })).toThrow(RpcUrlError);
	});
});

describe("a WebSocket", () => {
	const socketUrl = () => stage.chain.url.replace("http://", "ws://");

	it("serves calls, can be closed, and opens again for a later call", async () => {
		const client = connect({ urls: [socketUrl()] });
		expect(client.transport.type).toBe("webSocket");
		expect(await client.getChainId()).toBe(stage.chain.chainId);
		const { getRpcClient } = client.transport as unknown as {
			getRpcClient(): Promise<{ socket: { readyState: number } }>;
		};
		const { socket } = await getRpcClient();
		await disconnectChain(client);
		await until(async () => socket.readyState === 3);
		expect(await client.getChainId()).toBe(stage.chain.chainId);
		await disconnectChain(client);
	});

	it("tells of new blocks, also as the first of several endpoints", async () => {
		for (const urls of [[socketUrl()], [socketUrl(), first.url]]) {
			const client = connect({ urls });
			const numbers: bigint[] = [];
			const unwatch = client.watchBlockNumber({ onBlockNumber: (number) => numbers.push(number) });
			await until(async () => {
				await mine(stage.chain.client);
				return numbers.length > 0;
			});
			unwatch();
			await disconnectChain(client);
		}
		expect(first.calls()).toBe(0);
	});

	it("that can't be had is passed over for the next endpoint", async () => {
		const client = connect({ urls: ["ws://127.0.0.1:1", second.url] });
		expect(await client.getChainId()).toBe(stage.chain.chainId);
	});
});
