/** Paid tools, resources and prompts through the official SDK: a real chain, real sockets, this project's own payer. */

import { InMemoryTransport } from "@modelcontextprotocol/sdk/inMemory.js";
import { ResourceTemplate } from "@modelcontextprotocol/sdk/server/mcp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";
import type { Address } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import { payMcp } from "../../src/client/mcp.ts";
import { RECEIPT_META } from "../../src/protocol/index.ts";
import { paidPrompt, paidResource, paidTool } from "../../src/server/mcp/index.ts";
import { clientFor, spyOn } from "../client/support.ts";
import { errorOf, type McpStage, mcpStage, type Register, serverOf } from "../support/mcpStage.ts";
import { createWorld, type PaidServer, type World } from "../support/world.ts";

const PRICE = 100n;
const CHARGE = 500n;
const session = { price: PRICE, unitType: "call", suggestedDeposit: 10_000n } as const;
const charge = { price: CHARGE, intent: "charge" } as const;

/** How often each handler ran. */
const ran = new Map<string, number>();
/** What tools wait for that are told to. */
let gate = Promise.withResolvers<void>();
let entered = Promise.withResolvers<void>();

function count(name: string): number {
	const times = (ran.get(name) ?? 0) + 1;
	ran.set(name, times);
	return times;
}
const text = (value: string) => ({ content: [{ type: "text" as const, text: value }] });

const register: Register = (server, payments) => {
	paidTool(
		server,
		payments,
		"search",
		{ description: "Searches.", inputSchema: { query: z.string() } },
		session,
		({ query }, { payment }) => text(`${payment.intent}: ${query} ${count("search")}`),
	);
	paidTool(server, payments, "ping", {}, session, ({ payment }) => text(`${payment.amount} ${count("ping")}`));
	paidTool(server, payments, "report", {}, charge, ({ payment }) => text(`${payment.txHash} ${count("report")}`));
	paidTool(server, payments, "either", {}, [session, charge], ({ payment }) => text(payment.intent));
	paidTool(server, payments, "fails", {}, session, () => ({ ...text("no luck"), isError: true }));
	paidTool(server, payments, "throws", {}, session, () => {
		throw new Error("broken");
	});
	paidTool(server, payments, "typed", { outputSchema: { answer: z.number() } }, session, () => ({
		...text("42"),
		structuredContent: { answer: 42 },
	}));
	paidTool(server, payments, "mistyped", { outputSchema: { answer: z.number() } }, session, () => ({
		...text("42"),
		structuredContent: { answer: "42" },
	}));
	paidTool(server, payments, "slow", {}, session, async ({ sendNotification, _meta }) => {
		count("slow");
		entered.resolve();
		const progressToken = _meta?.progressToken;
		if (progressToken !== undefined)
			await sendNotification({ method: "notifications/progress", params: { progressToken, progress: 1, total: 2 } });
		await gate.promise;
		return text("done");
	});
	server.registerTool("free", {}, ({ _meta }) => text(`free ${JSON.stringify(_meta ?? {})}`));
	paidResource(server, payments, "market", "data://premium/market", {}, session, (uri, { payment }) => ({
		contents: [{ uri: uri.href, text: payment.intent }],
	}));
	const template = new ResourceTemplate("data://quotes/{symbol}", { list: undefined });
	paidResource(server, payments, "quotes", template, {}, session, (uri, { symbol }) => ({
		contents: [{ uri: uri.href, text: String(symbol) }],
	}));
	paidPrompt(server, payments, "brief", { argsSchema: { topic: z.string() } }, session, ({ topic }) => ({
		messages: [{ role: "user", content: { type: "text", text: topic } }],
	}));
};

let world: World;
let server: PaidServer;
let mcp: McpStage;
beforeAll(async () => {
	world = await createWorld();
	server = await world.serve();
	mcp = await mcpStage(() => server.engine, register);
});
afterAll(async () => {
	await mcp?.stop();
	await world?.stop();
});

async function agentFor(policy: Partial<PaymentPolicy> = {}, options: Partial<PaymentClientOptions> = {}) {
	const payer = await world.payer();
	const spy = spyOn(payer.account);
	const agent = clientFor(world, spy.account, [mcp.host], policy, options);
	const client = await mcp.connect();
	return { agent, spy, payer, client, tools: payMcp(agent, client, { url: mcp.url }) };
}

const spentBy = async ({ address }: { address: Address }) => 1_000_000n - (await world.balance(address));

describe("a paid tool, by session", () => {
	it("is listed like any other, and called three times over one channel, with amounts that add up", async () => {
		const { agent, spy, payer, client, tools } = await agentFor();
		const { tools: listed } = await client.listTools();
		expect(listed.map(({ name }) => name)).toContain("search");
		const before = ran.get("search") ?? 0;
		const receipts = [];
		for (const query of ["a", "b", "b"]) {
			const result = await tools.callTool({ name: "search", arguments: { query } });
			expect(result.content).toEqual([{ type: "text", text: `session: ${query} ${before + receipts.length + 1}` }]);
			expect(result._meta?.[RECEIPT_META]).toEqual(result.receipt);
			receipts.push(result.receipt);
		}
		expect(receipts.map((receipt) => receipt?.spent)).toEqual(["100", "200", "300"]);
		expect(new Set(receipts.map((receipt) => receipt?.channelId)).size).toBe(1);
		expect(new Set(receipts.map((receipt) => receipt?.challengeId)).size).toBe(3);
		expect(spy.vouchers()).toEqual([100n, 200n, 300n]);
		const [channel] = agent.channels;
		expect(channel).toMatchObject({ consumed: 300n });
		await agent.close();
		expect(await spentBy(payer.account)).toBe(300n);
		expect(await world.balance(server.payee)).toBeGreaterThanOrEqual(300n);
	});

	it("takes no challenge twice, however often the same is asked", async () => {
		const { spy, tools } = await agentFor();
		const results = [];
		for (let i = 0; i < 4; i++) results.push(await tools.callTool({ name: "ping" }));
		expect(new Set(results.map(({ receipt }) => receipt?.challengeId)).size).toBe(4);
		expect(spy.vouchers()).toEqual([100n, 200n, 300n, 400n]);
	});

	it("is called many times at once over one channel", async () => {
		const { agent, tools } = await agentFor();
		await tools.callTool({ name: "ping" });
		const calls = Array.from({ length: 8 }, () => tools.callTool({ name: "ping" }));
		const results = await Promise.all(calls);
		expect(new Set(results.map(({ receipt }) => receipt?.challengeId)).size).toBe(8);
		expect(agent.channels).toHaveLength(1);
		expect(agent.channels[0]).toMatchObject({ consumed: 900n });
	});

	it("is topped up, and goes on", async () => {
		const { agent, tools } = await agentFor({ maxDeposit: 300n });
		for (let i = 0; i < 5; i++) await tools.callTool({ name: "ping" });
		expect(agent.channels[0]).toMatchObject({ deposit: 600n, consumed: 500n });
	});

	it("has its output checked by the SDK on both sides", async () => {
		const { agent, client, tools } = await agentFor();
		await client.listTools();
		expect((await tools.callTool({ name: "typed" })).structuredContent).toEqual({ answer: 42 });
		expect(await tools.callTool({ name: "mistyped" })).toMatchObject({ isError: true, receipt: undefined });
		await agent.close();
	});

	it("costs nothing where it says isError, or throws, and the next call pays its own price alone (I7)", async () => {
		const { agent, spy, payer, tools } = await agentFor();
		await tools.callTool({ name: "ping" });
		expect(await tools.callTool({ name: "fails" })).toMatchObject({ isError: true, receipt: undefined });
		expect(await tools.callTool({ name: "throws" })).toMatchObject({ isError: true, receipt: undefined });
		expect((await tools.callTool({ name: "ping" })).receipt?.spent).toBe("200");
		expect(spy.vouchers().at(-1)).toBe(200n);
		await agent.close();
		expect(await spentBy(payer.account)).toBe(200n);
	});

	it("that is given up costs nothing, and what it was waited for with is the SDK's: signal and progress", async () => {
		const { agent, payer, tools } = await agentFor();
		await tools.callTool({ name: "ping" });
		const stop = new AbortController();
		const progress: unknown[] = [];
		const onprogress = (seen: unknown) => void progress.push(seen);
		const call = tools.callTool({ name: "slow" }, undefined, { signal: stop.signal, onprogress });
		await entered.promise;
		await expect.poll(() => progress, { timeout: 10_000 }).toEqual([{ progress: 1, total: 2 }]);
		stop.abort(new Error("enough"));
		await expect(call).rejects.toThrow("enough");
		const amounts = () => server.amounts(agent.channels[0] as never);
		await expect.poll(amounts, { timeout: 10_000 }).toMatchObject({ spent: 100n, reserved: 0n });
		gate.resolve();
		expect((await tools.callTool({ name: "ping" })).receipt?.spent).toBe("200");
		await agent.close();
		expect(await spentBy(payer.account)).toBe(200n);
	});

	it("that is late ends with the SDK's own error, and is not called again", async () => {
		const { tools } = await agentFor();
		await tools.callTool({ name: "ping" });
		gate = Promise.withResolvers();
		entered = Promise.withResolvers();
		const before = ran.get("slow") ?? 0;
		const error = await errorOf(tools.callTool({ name: "slow" }, undefined, { timeout: 300 }));
		expect(error.code).toBe(-32001);
		gate.resolve();
		expect(ran.get("slow")).toBe(before + 1);
	});
});

describe("a paid tool, by charge", () => {
	it("is paid by a transfer for each call", async () => {
		const { agent, payer, tools } = await agentFor();
		const first = await tools.callTool({ name: "report" });
		expect(first.receipt).toMatchObject({ method: "evm", status: "success" });
		expect(first.content).toEqual([{ type: "text", text: expect.stringContaining(String(first.receipt?.reference)) }]);
		const second = await tools.callTool({ name: "report" });
		expect(second.receipt?.reference).not.toBe(first.receipt?.reference);
		expect(await spentBy(payer.account)).toBe(2n * CHARGE);
		expect(agent.channels).toHaveLength(0);
	});

	it("is paid by whichever of its prices the client prefers", async () => {
		const { tools } = await agentFor({}, { prefer: ["evm/charge"] });
		expect((await tools.callTool({ name: "either" })).content).toEqual([{ type: "text", text: "charge" }]);
		const { tools: others } = await agentFor();
		expect((await others.callTool({ name: "either" })).content).toEqual([{ type: "text", text: "session" }]);
	});
});

describe("other paid operations", () => {
	it("are resources, by address and by template, and prompts", async () => {
		const { tools } = await agentFor();
		const market = await tools.readResource({ uri: "data://premium/market" });
		expect(market).toMatchObject({ contents: [{ text: "session" }], receipt: { spent: "100" } });
		const quote = await tools.readResource({ uri: "data://quotes/ABC" });
		expect(quote).toMatchObject({ contents: [{ text: "ABC" }], receipt: { spent: "200" } });
		const brief = await tools.getPrompt({ name: "brief", arguments: { topic: "rain" } });
		expect(brief).toMatchObject({ messages: [{ content: { text: "rain" } }], receipt: { spent: "300" } });
	});

	it("are not free where an address is spelled otherwise", async () => {
		const client = await mcp.connect();
		const error = await errorOf(client.readResource({ uri: "DATA://premium/market" }));
		expect(error.code).toBe(-32042);
	});
});

describe("a free tool", () => {
	it("has no receipt, and heeds no credential", async () => {
		const { tools, client } = await agentFor();
		const free = await tools.callTool({ name: "free" });
		expect(free).toMatchObject({ content: [{ text: "free {}" }], receipt: undefined });
		const _meta = { "org.paymentauth/credential": { nonsense: true } };
		const result = await client.callTool({ name: "free", _meta });
		expect(result.isError).toBeUndefined();
		expect(result._meta).toBeUndefined();
	});
});

describe("the payer's policy", () => {
	it("is asked before anything is signed: another host, a higher price", async () => {
		const payer = await world.payer();
		const spy = spyOn(payer.account);
		const client = await mcp.connect();
		const stranger = clientFor(world, spy.account, ["api.example.com"]);
		await expect(payMcp(stranger, client, { url: mcp.url }).callTool({ name: "ping" })).rejects.toMatchObject({
			code: "POLICY_REFUSED",
			rule: "host",
		});
		const poor = clientFor(world, spy.account, [mcp.host], { maxPrice: 99n });
		await expect(payMcp(poor, client, { url: mcp.url }).callTool({ name: "ping" })).rejects.toMatchObject({
			rule: "price",
		});
		expect(spy.signed).toEqual([]);
	});

	it("knows a server that is reached by a pipe by a name", async () => {
		const payer = await world.payer();
		const agent = clientFor(world, payer.account, ["web-search.localhost"]);
		const client = await mcp.connect();
		const tools = payMcp(agent, client, { name: "web-search" });
		expect((await tools.callTool({ name: "ping" })).receipt?.spent).toBe("100");
		await agent.close();
		expect(await spentBy(payer.account)).toBe(100n);
		expect(() => payMcp(agent, client, { name: "not a name" })).toThrow(/name/);
	});
});

describe("a server that is not connected by way of its payments", () => {
	it("gives nothing away", async () => {
		const before = ran.get("ping");
		const [near, far] = InMemoryTransport.createLinkedPair();
		const bare = serverOf(mcp.payments, register);
		await bare.connect(far as Transport);
		const answers: JSONRPCMessage[] = [];
		near.onmessage = (message) => void answers.push(message);
		await near.start();
		await near.send({ jsonrpc: "2.0", id: 7, method: "tools/call", params: { name: "ping" } });
		await expect.poll(() => answers).toHaveLength(1);
		expect(answers[0]).toMatchObject({
			result: { isError: true, content: [{ text: expect.stringMatching(/paid for/) }] },
		});
		expect(ran.get("ping")).toBe(before);
		await bare.close();
	});
});
