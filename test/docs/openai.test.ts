/** OpenAI's own client, unchanged but for its `fetch`, at the examples' servers: tokens are paid for as they are delivered. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import Fastify, { type FastifyError, type FastifyInstance } from "fastify";
import OpenAI from "openai";
import { encodeFunctionData, parseAbi } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { gatewayRoutes } from "../../examples/openai/gateway.ts";
import { answerTo, chunkOf, completionOf, lastChunksOf, promptTokens, readChat } from "../../examples/openai/model.ts";
import { chatRoutes } from "../../examples/openai/server.ts";
import type { PaymentPolicy } from "../../src/client/index.ts";
import { until } from "../client/streamStage.ts";
import { clientFor, spyOn } from "../client/support.ts";
import { createWorld, FUNDS, type PaidServer, sendFrom, type World } from "../support/world.ts";

const ROOT = new URL("../../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, ROOT), "utf8");
const MODEL = "counter";
/** The credit of the payers here, in tokens. */
const AHEAD = 200n;
const KEY = "sk-of-the-gateway";

/** An upstream that speaks OpenAI's API, and is not paid by us. */
type Upstream = Readonly<{
	app: FastifyInstance;
	baseURL: string;
	/** The credentials that it got. */
	keys: string[];
	/** Streams that are being sent. */
	running: () => number;
	/** Ends those that wait for it, without an end to their answers. */
	breakOff: () => void;
}>;

let world: World;
let upstream: Upstream;
const servers = new Map<string, PaidServer>();

beforeAll(async () => {
	world = await createWorld();
	upstream = await startUpstream();
	const { baseURL } = upstream;
	servers.set("server", await world.serve({ routes: async (app) => void (await app.register(chatRoutes)) }));
	const gateway = { baseURL, apiKey: KEY };
	servers.set(
		"gateway",
		await world.serve({ routes: async (app) => void (await app.register(gatewayRoutes, gateway)) }),
	);
});
afterAll(async () => {
	await upstream?.app.close();
	await world?.stop();
});

async function startUpstream(): Promise<Upstream> {
	const keys: string[] = [];
	const broken = Promise.withResolvers<void>();
	let running = 0;
	const app = Fastify({ forceCloseConnections: true });
	app.setErrorHandler<FastifyError>(({ statusCode = 500, message }, _request, reply) =>
		reply.code(statusCode).send({ error: { message, type: "invalid_request_error", param: null, code: null } }),
	);
	app.post("/v1/chat/completions", async ({ body, headers }, reply) => {
		keys.push(String(headers.authorization));
		const chat = readChat(body);
		const said = chat.messages.at(-1)?.content ?? "";
		if (said.startsWith("Too often")) {
			const error = { message: "slow down", type: "rate_limit_error", param: null, code: "rate_limit_exceeded" };
			return reply.code(429).send({ error });
		}
		const tokens = answerTo(chat);
		if (!chat.stream) {
			const all: string[] = [];
			for await (const token of tokens) all.push(token);
			return completionOf(chat, all.join(""), all.length);
		}
		const event = (data: unknown) => `data: ${JSON.stringify(data)}\n\n`;
		reply.hijack();
		reply.raw.writeHead(200, { "content-type": "text/event-stream" });
		running++;
		reply.raw.on("close", () => running--);
		const write = async (text: string) => {
			if (!reply.raw.write(text) && !reply.raw.destroyed)
				await Promise.race([once(reply.raw, "drain"), once(reply.raw, "close")]);
		};
		let count = 0;
		await write(event(chunkOf(chat, { role: "assistant", content: "" })));
		for await (const content of tokens) {
			if (reply.raw.destroyed) return reply;
			await write(event(chunkOf(chat, { content })));
			count++;
			if (!said.startsWith("Break") || count < 30) continue;
			await broken.promise;
			return reply.raw.destroy();
		}
		for (const chunk of lastChunksOf(chat, count)) await write(event(chunk));
		reply.raw.end("data: [DONE]\n\n");
		return reply;
	});
	const origin = await app.listen({ host: "127.0.0.1", port: 0 });
	return { app, baseURL: `${origin}/v1`, keys, running: () => running, breakOff: broken.resolve };
}

function serverOf(name: string): PaidServer {
	const server = servers.get(name);
	if (server === undefined) throw new Error(`no ${name}`);
	return server;
}

/** What a token costs there. */
const PRICES: Readonly<Record<string, bigint>> = { server: 100n, gateway: 120n };

/** OpenAI's client with a new payer's `fetch`, and what both ledgers and the chain say of it. */
async function customer(name: string, policy: Partial<PaymentPolicy> = {}) {
	const server = serverOf(name);
	const { account, address } = await world.payer();
	const spy = spyOn(account);
	const price = PRICES[name] ?? 0n;
	const payer = clientFor(
		world,
		spy.account,
		[new URL(server.url).host],
		{ maxDeposit: 200_000n, maxPrice: price, maxStream: 200_000n, ...policy },
		{ stream: { aheadUnits: Number(AHEAD) } },
	);
	const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "unused", fetch: payer.fetch, maxRetries: 0 });
	const received = await world.balance(server.payee);
	return {
		...{ server, payer, openai, spy, price },
		/** The channel's ledger at the server, once nothing is reserved any more. */
		async ledger() {
			const [channel] = payer.channels;
			if (channel === undefined) return undefined;
			await until(async () => (await server.amounts(channel))?.reserved === 0n, "the end of what is reserved");
			return server.amounts(channel);
		},
		/** Closes: what the payer has paid and the payee has got on chain, in base units. */
		async close() {
			await payer.close();
			const paid = FUNDS - (await world.balance(address));
			expect((await world.balance(server.payee)) - received).toBe(paid);
			return paid;
		},
	};
}

function countTo(count: number, words = "Count to") {
	return { model: MODEL, messages: [{ role: "user" as const, content: `${words} ${count}.` }] };
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1).join(" ");

describe.each(["server", "gateway"])("the official client at the example's %s", (name) => {
	it("reads a stream, and pays for each token of prompt and answer, on both ledgers and on chain", async () => {
		const { openai, payer, spy, price, ledger, close } = await customer(name);
		const asked = { ...countTo(500), max_completion_tokens: 600, stream_options: { include_usage: true } };
		let text = "";
		let total = 0;
		for await (const { choices, usage } of await openai.chat.completions.create({ ...asked, stream: true })) {
			text += choices[0]?.delta.content ?? "";
			total = usage?.total_tokens ?? total;
		}
		expect(text).toBe(numbers(500));
		expect(total).toBe(503);
		expect(await ledger()).toMatchObject({ spent: BigInt(total) * price });
		// A voucher may still be on its way.
		await until(() => payer.channels[0]?.consumed === BigInt(total) * price, "the payer's own count");
		expect(spy.vouchers().length).toBeLessThan(20);
		expect(await close()).toBe(BigInt(total) * price);
	});

	it("gets a whole answer, and pays for what it has used of what was reserved", async () => {
		const { openai, price, ledger, close } = await customer(name);
		let total = 0;
		for (const count of [10, 20, 30]) {
			const answer = await openai.chat.completions.create({ ...countTo(count), max_completion_tokens: 100 });
			expect(answer.choices[0]).toMatchObject({ message: { content: numbers(count) }, finish_reason: "stop" });
			total += answer.usage?.total_tokens ?? 0;
		}
		expect(total).toBe(69);
		expect(await ledger()).toMatchObject({ spent: 69n * price });
		expect(await close()).toBe(69n * price);
	});

	it.each(["abort", "break"])("that leaves its stream by %s pays no more", async (how) => {
		const { openai, spy, price, ledger, close } = await customer(name);
		const asked = { ...countTo(100_000), max_completion_tokens: 4_000 };
		const stream = await openai.chat.completions.create({ ...asked, stream: true });
		let tokens = 0;
		for await (const { choices } of stream) {
			if (choices[0]?.delta.content) tokens++;
			if (tokens < 300) continue;
			if (how === "break") break;
			stream.controller.abort();
		}
		const signed = spy.vouchers().at(-1) ?? 0n;
		const spent = (await ledger())?.spent ?? 0n;
		expect(spent).toBeGreaterThanOrEqual(BigInt(tokens) * price);
		// All of the credit may have been in the last chunk, which counts as delivered.
		expect(signed).toBeLessThanOrEqual((BigInt(tokens) + 1n + 2n * AHEAD) * price);
		expect(spent).toBeLessThanOrEqual(signed);
		if (name === "gateway") await until(() => upstream.running() === 0, "the upstream to be let go");
		// What is signed after that is the close, for what was delivered.
		expect(await close()).toBe(spent);
		expect(spy.vouchers().at(-1)).toBe(spent);
	});

	it("asks for what can't be, is told so in OpenAI's way before it pays, and has no channel for it", async () => {
		const { openai, payer, spy } = await customer(name);
		const asked = openai.chat.completions.create({ ...countTo(10), max_completion_tokens: 0 });
		await expect(asked).rejects.toThrow(OpenAI.BadRequestError);
		await expect(asked).rejects.toMatchObject({ status: 400 });
		expect(payer.channels).toEqual([]);
		expect(spy.signed).toEqual([]);
	});

	it.each([true, false])("pays nothing for an error that comes after its payment, with stream: %s", async (stream) => {
		const { openai, ledger, close } = await customer(name);
		const messages = [{ role: "user" as const, content: "Count." }];
		const asked = openai.chat.completions.create({ model: MODEL, messages, stream });
		await expect(asked).rejects.toThrow(OpenAI.BadRequestError);
		await expect(asked).rejects.toThrow("there is nothing to count to");
		expect(await ledger()).toMatchObject({ spent: 0n });
		expect(await close()).toBe(0n);
	});

	it("is not let down by a policy: what it does not allow is an error with its reason, and nothing is signed", async () => {
		const { openai, spy } = await customer(name, { maxPrice: 99n });
		const asked = openai.chat.completions.create({ ...countTo(10), stream: true });
		await expect(asked).rejects.toMatchObject({ cause: { code: "POLICY_REFUSED", rule: "price" } });
		expect(spy.signed).toEqual([]);
	});
});

describe("the example's gateway", () => {
	it("hands the upstream's refusals on, free, and keeps its key to itself", async () => {
		const { openai, ledger, close } = await customer("gateway");
		for (const stream of [true, false]) {
			const asked = openai.chat.completions.create({ ...countTo(10, "Too often"), stream });
			await expect(asked).rejects.toMatchObject({ status: 429, code: "rate_limit_exceeded" });
		}
		expect(await ledger()).toMatchObject({ spent: 0n });
		expect(await close()).toBe(0n);
		expect(new Set(upstream.keys)).toEqual(new Set([`Bearer ${KEY}`]));
	});

	it("is paid for what it has handed on when the upstream breaks off, and its client sees that it did", async () => {
		const { openai, price, ledger, close } = await customer("gateway");
		const asked = { ...countTo(100, "Break at"), stream: true as const };
		let tokens = 0n;
		const all = (async () => {
			for await (const { choices } of await openai.chat.completions.create(asked))
				if (choices[0]?.delta.content && ++tokens === 20n) upstream.breakOff();
		})();
		await expect(all).rejects.toThrow();
		expect(tokens).toBeGreaterThanOrEqual(20n);
		// The events that have left: each token, and the one that begins.
		const spent = (await ledger())?.spent ?? 0n;
		expect(spent).toBeGreaterThanOrEqual(tokens * price);
		expect(spent).toBeLessThanOrEqual(31n * price);
		expect(await close()).toBe(spent);
	});
});

describe("the example", () => {
	it("of the client runs as it stands: a stream, a whole answer, one close", async () => {
		const { url, payee } = serverOf("server");
		const helper = await world.payer({ gas: true });
		const key = generatePrivateKey();
		const { address } = privateKeyToAccount(key);
		const abi = parseAbi(["function transfer(address to, uint256 value) returns (bool)"]);
		const data = encodeFunctionData({ abi, functionName: "transfer", args: [address, 200_000n] });
		await sendFrom(world.chain, helper.account, { to: world.token, data });
		const received = await world.balance(payee);
		const { stdout } = await promisify(execFile)(
			process.execPath,
			["--disable-warning=ExperimentalWarning", "--conditions=sluice-source", "examples/openai/client.ts"],
			{
				cwd: ROOT,
				env: {
					PATH: process.env.PATH,
					RPC_URL: world.chain.url,
					CHAIN_ID: String(world.chain.chainId),
					ESCROW: world.escrow,
					TOKEN: world.token,
					PAYER_KEY: key,
					API: url,
				},
			},
		);
		const chat = (content: string) => promptTokens(readChat({ model: MODEL, messages: [{ role: "user", content }] }));
		const used = BigInt(2 * chat("Count to 100.") + 100 + 20);
		expect(stdout).toContain(numbers(100));
		expect(stdout).toContain(`spent: ${used * 100n}n`);
		expect((await world.balance(payee)) - received).toBe(used * 100n);
		expect(await world.balance(address)).toBe(200_000n - used * 100n);
	});

	it.each([
		["client", "README.md"],
		["server", "docs/streams.md"],
		["gateway", "docs/streams.md"],
	])("stands in the documentation as it is: %s in %s", (name, page) => {
		expect(read(page).includes(read(`examples/openai/${name}.ts`))).toBe(true);
	});
});
