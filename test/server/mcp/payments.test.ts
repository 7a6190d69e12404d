/** Paid MCP operations against clients that do wrong, or otherwise: each message as it goes on the wire. */

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { InMemoryTransport } from "@modelcontextprotocol/sdk/inMemory.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import {
	type Challenge,
	CREDENTIAL_META,
	challengeToRpc,
	createChallenge,
	decodeRequest,
	encodeJson,
	formatTimestamp,
	IDEMPOTENCY_META,
	type JsonObject,
	MANAGED_META,
	nonceOpaque,
	PAYMENT_MANAGE_METHOD,
	RECEIPT_META,
} from "../../../src/protocol/index.ts";
import { OfferError } from "../../../src/server/index.ts";
import { McpPayments, nestMeta, nestMetaLines, paidTool } from "../../../src/server/mcp/index.ts";
import { challengesOf, errorOf, paidBy, type Register, serverOf } from "../../support/mcpStage.ts";
import { topUpByAuthorization } from "../../support/sessionDrafts.ts";
import {
	createWorld,
	type Draft,
	type PaidServer,
	type Payer,
	PRICE,
	type TestChannel,
	type World,
	withChallenge,
	withPayload,
} from "../../support/world.ts";

const SECRET = "a secret of the test's own, of more than thirty-two bytes";
const session = { price: PRICE, suggestedDeposit: 10_000n } as const;
const charge = { price: PRICE, intent: "charge" } as const;

let world: World;
let server: PaidServer;
let payer: Payer;
let channel: TestChannel;
/** The highest amount signed. */
let signed = 0n;
const ran: string[] = [];
let gate: Promise<void> | undefined;

const text = (value: string) => ({ content: [{ type: "text" as const, text: value }] });
const register: Register = (mcp, payments) => {
	paidTool(
		mcp,
		payments,
		"work",
		{ inputSchema: { what: z.string().optional() } },
		session,
		async ({ what }, extra) => {
			ran.push(`work ${what} ${JSON.stringify(extra.payment.opaque)} ${JSON.stringify(extra._meta ?? {})}`);
			await gate;
			return what === "fail" ? { ...text("no"), isError: true } : text(`worked ${ran.length}`);
		},
	);
	paidTool(mcp, payments, "other", {}, session, () => text("other"));
	paidTool(mcp, payments, "dear", {}, charge, ({ payment }) => {
		ran.push("dear");
		return text(String(payment.txHash));
	});
	paidTool(mcp, payments, "either", {}, [session, { ...charge, opaque: { order: "7" } }], ({ payment }) =>
		text(`${payment.intent} ${JSON.stringify(payment.opaque)}`),
	);
	mcp.registerTool("free", {}, async () => {
		await gate;
		return { ...text("free"), isError: true };
	});
};

/** A connection within this process, of which a test sees and says every message. */
type Line = Readonly<{
	client: Client;
	/** Sends a message as it is. */
	say(message: object): Promise<void>;
	/** All that the server has said to `say`. */
	heard: JSONRPCMessage[];
}>;

const lines: { close(): Promise<void> }[] = [];

async function connect(
	experimental: object | undefined = undefined,
	payments = new McpPayments(server.engine),
): Promise<Line> {
	const [near, far] = InMemoryTransport.createLinkedPair();
	const mcp = serverOf(payments, register);
	await mcp.connect(payments.over(far as Transport));
	const client = new Client({ name: "test", version: "1.0.0" }, { capabilities: { experimental } as never });
	await client.connect(near as Transport);
	const heard: JSONRPCMessage[] = [];
	const { onmessage } = near;
	near.onmessage = (message, extra) => {
		if ("id" in message && typeof message.id === "string") heard.push(message);
		else onmessage?.(message, extra);
	};
	lines.push(client, mcp);
	return { client, heard, say: (message) => near.send({ jsonrpc: "2.0", ...message } as JSONRPCMessage) };
}

const call = ({ client }: Line, name: string, draft?: Draft, args: JsonObject = {}, meta: JsonObject = {}) =>
	client.callTool({ name, arguments: args, _meta: { ...meta, ...(draft && paidBy(draft)) } });

async function challenge(line: Line, name = "work", args: JsonObject = {}): Promise<Challenge> {
	const [first] = await challengesOf(call(line, name, undefined, args));
	if (first === undefined) throw new Error("no challenge came");
	return first;
}

/** A voucher that pays one more call. */
async function voucher(line: Line, name = "work", args: JsonObject = {}): Promise<Draft> {
	signed += PRICE;
	return payer.voucher(await challenge(line, name, args), channel, signed);
}

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve({ engine: { secrets: [SECRET] } });
	payer = await world.payer({ funds: 10_000_000n });
});
afterAll(() => world?.stop());
beforeEach(async () => {
	channel = await server.open(payer);
	signed = 0n;
	ran.length = 0;
	gate = undefined;
});
afterEach(async () => {
	await Promise.allSettled(lines.splice(0).map((line) => line.close()));
});

describe("a call without a credential", () => {
	it("is -32042 with one challenge for each price, each with the draft's members and a native request", async () => {
		const { code, message, data } = await errorOf(call(await connect(), "either"));
		expect({ code, message }).toMatchObject({ code: -32042, message: expect.stringContaining("Payment Required") });
		expect(data).toMatchObject({
			httpStatus: 402,
			problem: { type: "https://paymentauth.org/problems/payment-required", status: 402 },
		});
		const challenges = data.challenges as readonly JsonObject[];
		expect(challenges.map(({ method, intent }) => `${method}/${intent}`)).toEqual(["evm/session", "evm/charge"]);
		for (const one of challenges) {
			expect(one).toMatchObject({
				id: expect.stringMatching(/^[\w-]{43}$/),
				realm: server.engine.realm,
				request: { amount: "100", currency: expect.any(String), recipient: expect.any(String) },
				expires: expect.stringMatching(/^\d{4}-/),
			});
		}
		expect(ran).toEqual([]);
	});

	it("is never answered with the same challenge", async () => {
		const line = await connect();
		const ids = await Promise.all(Array.from({ length: 5 }, async () => (await challenge(line)).id));
		expect(new Set(ids).size).toBe(5);
	});
});

describe("a call with a good credential", () => {
	it("is carried out once, and its result has the receipt of draft and method", async () => {
		const line = await connect();
		const draft = await voucher(line, "work", { what: "a" });
		const result = await call(line, "work", draft, { what: "a" });
		expect(result.content).toEqual([{ type: "text", text: "worked 1" }]);
		expect(result._meta?.[RECEIPT_META]).toMatchObject({
			status: "success",
			method: "evm",
			intent: "session",
			timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
			challengeId: draft.challenge.id,
			reference: channel.channelId,
			acceptedCumulative: String(signed),
			spent: String(signed),
		});
		expect(result._meta).not.toHaveProperty([MANAGED_META]);
	});

	it("shows its handler neither the credential nor what binds the challenge, but what the price gave along", async () => {
		const line = await connect();
		await call(line, "work", await voucher(line), {}, { own: 1, [IDEMPOTENCY_META]: "k" });
		expect(ran).toEqual(['work undefined undefined {"own":1}']);
		const [, forCharge] = await challengesOf(call(line, "either"));
		if (forCharge === undefined) throw new Error("no challenge");
		const result = await call(line, "either", await payer.charge(forCharge, server.payee, PRICE));
		expect(result.content).toEqual([{ type: "text", text: 'charge {"order":"7"}' }]);
	});

	it("may have it at the root of the message as well", async () => {
		const line = await connect();
		const draft = await voucher(line);
		await line.say({
			id: "root",
			method: "tools/call",
			params: { name: "work", arguments: {} },
			_meta: { ...paidBy(draft) },
		});
		await expect.poll(() => line.heard).toHaveLength(1);
		expect(line.heard[0]).toMatchObject({ result: { _meta: { [RECEIPT_META]: { challengeId: draft.challenge.id } } } });
	});

	it("is -32602 where root and params have two different ones", async () => {
		const line = await connect();
		const [one, other] = [await voucher(line), await voucher(line)];
		await line.say({
			id: "two",
			method: "tools/call",
			params: { name: "work", arguments: {}, _meta: paidBy(one) },
			_meta: paidBy(other),
		});
		await expect.poll(() => line.heard).toHaveLength(1);
		expect(line.heard[0]).toMatchObject({ error: { code: -32602 } });
		expect(ran).toEqual([]);
	});
});

describe("a challenge", () => {
	it("is good for one credential: the same again, and a higher voucher for it, are -32043 with a fresh one (D9)", async () => {
		const line = await connect();
		const draft = await voucher(line);
		await call(line, "work", draft);
		for (const again of [draft, await payer.voucher(draft.challenge, channel, signed + PRICE)]) {
			const { code, data } = await errorOf(call(line, "work", again));
			expect(code).toBe(-32043);
			expect(data).toMatchObject({
				httpStatus: 402,
				challenges: [{ intent: "session" }],
				failure: { reason: "session/challenge-not-found", detail: expect.any(String) },
			});
			expect((data.challenges as { id: string }[])[0]?.id).not.toBe(draft.challenge.id);
		}
		expect(ran).toHaveLength(1);
		expect(await server.amounts(channel)).toMatchObject({ acceptedCumulative: signed, spent: signed, reserved: 0n });
	});

	it("raced for by ten calls at once is won by exactly one, by session and by charge (I4)", async () => {
		const line = await connect();
		const forSession = await voucher(line);
		const paid = await Promise.allSettled(Array.from({ length: 10 }, () => call(line, "work", forSession)));
		expect(paid.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
		expect(ran).toHaveLength(1);
		const forCharge = await payer.charge(await challenge(line, "dear"), server.payee, PRICE);
		const charged = await Promise.allSettled(Array.from({ length: 10 }, () => call(line, "dear", forCharge)));
		expect(charged.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
		expect(ran).toEqual([ran[0], "dear"]);
	});

	it("raced for by two different vouchers is won by one of them", async () => {
		const line = await connect();
		const draft = await voucher(line);
		signed += PRICE;
		const higher = await payer.voucher(draft.challenge, channel, signed);
		const paid = await Promise.allSettled([call(line, "work", draft), call(line, "work", higher)]);
		expect(paid.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
		expect(ran).toHaveLength(1);
	});

	it("that was used is remembered across a restart, until it expires", async () => {
		const before = await connect();
		const draft = await voucher(before);
		await call(before, "work", draft);
		await server.restart();
		const line = await connect();
		const higher = await payer.voucher(draft.challenge, channel, signed + PRICE);
		for (const again of [draft, higher])
			expect((await errorOf(call(line, "work", again))).data.failure).toMatchObject({
				reason: "session/challenge-not-found",
			});
		expect(ran).toHaveLength(1);
		server.clock.advance(server.engine.limits.challengeTtlSeconds * 1_000);
		await server.store.prune(server.clock.now());
		expect((await errorOf(call(line, "work", higher))).code).toBe(-32043);
	});

	it("that has expired is refused, by session and by charge", async () => {
		const line = await connect();
		const drafts = [
			["work", await voucher(line)],
			["dear", await payer.charge(await challenge(line, "dear"), server.payee, PRICE)],
		] as const;
		server.clock.advance(server.engine.limits.challengeTtlSeconds * 1_000 + 1_000);
		for (const [name, draft] of drafts) expect((await errorOf(call(line, name, draft))).code).toBe(-32043);
		expect(ran).toEqual([]);
	});

	it("is good for the call that it was asked with: not for another tool, nor for other arguments", async () => {
		const line = await connect();
		const draft = await voucher(line, "work", { what: "a" });
		expect((await errorOf(call(line, "other", draft))).code).toBe(-32043);
		expect((await errorOf(call(line, "work", draft, { what: "b" }))).code).toBe(-32043);
		expect((await call(line, "work", draft, { what: "a" })).isError).toBeUndefined();
	});

	it("of an HTTP route at the same price does not pay for a tool, nor one of a tool for a route", async () => {
		const line = await connect();
		signed += PRICE;
		const http = await payer.voucher(await server.challenge("/session"), channel, signed);
		expect((await errorOf(call(line, "work", http))).code).toBe(-32043);
		expect((await server.pay("/session", http)).status).toBe(200);
	});

	it.each<[string, (draft: Draft) => Draft]>([
		["realm", (draft) => withChallenge(draft, { realm: "elsewhere" })],
		["method", (draft) => withChallenge(draft, { method: "tempo" })],
		["intent", (draft) => withChallenge(draft, { intent: "charge" })],
		[
			"request",
			(draft) => withChallenge(draft, { request: encodeJson({ ...decodeRequest(draft.challenge), amount: "1" }) }),
		],
		["expires", (draft) => withChallenge(draft, { expires: "2099-01-01T00:00:00Z" })],
		["opaque", (draft) => withChallenge(draft, { opaque: nonceOpaque(new Uint8Array(16)) })],
		["id", (draft) => withChallenge(draft, { id: "A".repeat(43) })],
	])("with another %s is unknown", async (_member, change) => {
		const line = await connect();
		const draft = await voucher(line);
		const { code, data } = await errorOf(call(line, "work", change(draft)));
		expect(code).toBe(-32043);
		expect(data.challenges).toHaveLength(1);
		expect(ran).toEqual([]);
	});

	it("that was made with our secret, but for no call, is refused", async () => {
		const line = await connect();
		const good = await challenge(line);
		const forged = createChallenge(SECRET, {
			realm: good.realm,
			method: good.method,
			intent: good.intent,
			request: decodeRequest(good),
			expires: formatTimestamp(server.clock.now() + 60_000),
			opaque: nonceOpaque(new Uint8Array(16)),
		});
		expect((await errorOf(call(line, "work", await payer.voucher(forged, channel, signed + PRICE)))).code).toBe(-32043);
	});
});

describe("a payment that is not taken", () => {
	it("is -32043 with what is wrong: a bad signature, too little", async () => {
		const line = await connect();
		const stranger = await world.payer({ funds: 0n });
		const badly = await payer.voucher(await challenge(line), channel, signed + PRICE, { signer: stranger.account });
		expect(await errorOf(call(line, "work", badly))).toMatchObject({
			code: -32043,
			data: { httpStatus: 402, challenges: [{}], failure: { reason: "session/signer-mismatch" } },
		});
		const little = await payer.voucher(await challenge(line), channel, signed);
		expect(await errorOf(call(line, "work", little))).toMatchObject({
			code: -32043,
			data: {
				failure: { reason: "session/insufficient-balance" },
				problem: { requiredCumulative: String(signed + PRICE) },
			},
		});
		const unpaid = await payer.charge(await challenge(line, "dear"), server.payee, PRICE, { value: 1n });
		expect((await errorOf(call(line, "dear", unpaid))).code).toBe(-32043);
		expect(ran).toEqual([]);
	});

	it("leaves its challenge good", async () => {
		const line = await connect();
		const one = await challenge(line);
		const little = await payer.voucher(one, channel, signed);
		expect((await errorOf(call(line, "work", little))).code).toBe(-32043);
		signed += PRICE;
		expect((await call(line, "work", await payer.voucher(one, channel, signed))).isError).toBeUndefined();
	});

	it.each<[string, (native: JsonObject) => unknown]>([
		["no object", () => "Payment abc"],
		["no challenge", ({ challenge: _, ...rest }) => rest],
		["no payload", ({ payload: _, ...rest }) => rest],
		[
			"a challenge without an id",
			({ challenge: native, ...rest }) => ({ ...rest, challenge: { ...(native as object), id: undefined } }),
		],
		[
			"a request in base64url",
			({ challenge: native, ...rest }) => ({ ...rest, challenge: { ...(native as object), request: "e30" } }),
		],
		["a payload of no action", (native) => ({ ...native, payload: { action: "steal" } })],
		["more than is read", (native) => ({ ...native, payload: { text: "x".repeat(20_000) } })],
	])("is -32602 where it can't be read: %s", async (_what, change) => {
		const line = await connect();
		const native = { challenge: challengeToRpc(await challenge(line)), payload: {} };
		const _meta = { [CREDENTIAL_META]: change(native) };
		const { code, data } = await errorOf(line.client.callTool({ name: "work", arguments: {}, _meta }));
		expect(code).toBe(-32602);
		expect(data).toMatchObject({ detail: expect.any(String) });
		expect(data).not.toHaveProperty("challenges");
		expect(ran).toEqual([]);
	});

	it("is -32603 where it can't be checked now, and says when to come back (I10)", async () => {
		const line = await connect();
		const other = payer.channel(server.payee);
		const draft = await payer.open(await challenge(line), other, { deposit: 1_000n, amount: PRICE });
		server.rpc.down();
		try {
			const { code, data } = await errorOf(call(line, "work", draft));
			expect(code).toBe(-32603);
			expect(data).toMatchObject({ httpStatus: 503, retryAfterSeconds: expect.any(Number) });
		} finally {
			server.rpc.up();
		}
		expect(ran).toEqual([]);
	});
});

describe("a call that fails", () => {
	it("costs nothing and gives its challenge back: the very same credential pays for the next one (I7)", async () => {
		const line = await connect();
		const draft = await voucher(line, "work", { what: "fail" });
		const failed = await call(line, "work", draft, { what: "fail" });
		expect(failed).toMatchObject({ isError: true });
		expect(failed._meta).toBeUndefined();
		expect(await server.amounts(channel)).toMatchObject({ spent: signed - PRICE, reserved: 0n });
		expect(await call(line, "work", draft, { what: "fail" })).toMatchObject({ isError: true });
		expect(ran).toHaveLength(2);
		// What was signed for it is there for another call.
		const next = await payer.voucher(await challenge(line), channel, signed);
		expect((await call(line, "work", next))._meta?.[RECEIPT_META]).toMatchObject({ spent: String(signed) });
	});
});

describe("a call once more", () => {
	it("with its idempotency key and a fresh challenge gets the same answer, and is charged once (I6)", async () => {
		const line = await connect();
		const key = { [IDEMPOTENCY_META]: "one-and-the-same" };
		const first = await call(line, "work", await voucher(line), {}, key);
		const spent = signed;
		const again = await call(line, "work", await payer.voucher(await challenge(line), channel, signed), {}, key);
		expect(again.content).toEqual(first.content);
		expect(again._meta?.[RECEIPT_META]).toEqual(first._meta?.[RECEIPT_META]);
		expect(ran).toHaveLength(1);
		expect(await server.amounts(channel)).toMatchObject({ spent });
		const other = await errorOf(call(line, "work", await voucher(line, "work", { what: "b" }), { what: "b" }, key));
		expect(other).toMatchObject({ code: -32602, data: { httpStatus: 422 } });
	});

	it("that was paid by a charge gets the same answer for the same key, and moves no money again", async () => {
		const line = await connect();
		const key = { [IDEMPOTENCY_META]: "dear-one" };
		const draft = await payer.charge(await challenge(line, "dear"), server.payee, PRICE);
		const first = await call(line, "dear", draft, {}, key);
		const balance = await world.balance(payer.address);
		const again = await call(line, "dear", draft, {}, key);
		expect(again.content).toEqual(first.content);
		expect(again._meta?.[RECEIPT_META]).toEqual(first._meta?.[RECEIPT_META]);
		expect(again._meta?.[RECEIPT_META]).toMatchObject({ status: "success" });
		expect(await world.balance(payer.address)).toBe(balance);
		expect(ran).toEqual(["dear"]);
	});
});

describe("a notification", () => {
	it("that invokes a paid tool is dropped in silence, paid for or not", async () => {
		const line = await connect();
		const draft = await voucher(line);
		await line.say({ method: "tools/call", params: { name: "work", arguments: {} } });
		await line.say({ method: "tools/call", params: { name: "work", arguments: {}, _meta: paidBy(draft) } });
		expect((await line.client.ping()) as object).toEqual({});
		expect({ ran, heard: line.heard }).toEqual({ ran: [], heard: [] });
		expect((await server.amounts(channel))?.spent).toBe(signed - PRICE);
	});
});

describe("ids of requests", () => {
	it("don't let the failure of a free request release what a paid one of the same id delivers", async () => {
		const line = await connect();
		const held = Promise.withResolvers<void>();
		gate = held.promise;
		const draft = await voucher(line);
		await line.say({ id: "same", method: "tools/call", params: { name: "work", arguments: {}, _meta: paidBy(draft) } });
		await expect.poll(() => ran).toHaveLength(1);
		await line.say({ id: "same", method: "no/such/method", params: {} });
		await line.say({ id: "same", method: "tools/call", params: { name: "free" } });
		await expect.poll(() => line.heard).toHaveLength(1);
		held.resolve();
		await expect.poll(() => line.heard).toHaveLength(3);
		const paid = line.heard.filter((message) => JSON.stringify(message).includes("worked"));
		expect(paid).toEqual([expect.objectContaining({ id: "same" })]);
		expect(paid[0]).toMatchObject({ result: { _meta: { [RECEIPT_META]: { spent: String(signed) } } } });
	});

	it("are the client's own again when a call is cancelled: it costs nothing, and nothing of it is sent", async () => {
		const line = await connect();
		const held = Promise.withResolvers<void>();
		gate = held.promise;
		const draft = await voucher(line);
		await line.say({ id: "gone", method: "tools/call", params: { name: "work", arguments: {}, _meta: paidBy(draft) } });
		await expect.poll(() => ran).toHaveLength(1);
		await line.say({ method: "notifications/cancelled", params: { requestId: "gone" } });
		await expect.poll(() => server.amounts(channel)).toMatchObject({ reserved: 0n, spent: signed - PRICE });
		held.resolve();
		await line.client.ping();
		expect(line.heard).toEqual([]);
		gate = undefined;
		const next = await payer.voucher(await challenge(line), channel, signed);
		expect((await call(line, "work", next))._meta?.[RECEIPT_META]).toMatchObject({ spent: String(signed) });
	});

	it("of a connection that closes leave nothing promised", async () => {
		const line = await connect();
		const held = Promise.withResolvers<void>();
		gate = held.promise;
		const paid = call(line, "work", await voucher(line)).catch(() => undefined);
		await expect.poll(() => ran).toHaveLength(1);
		await line.client.close();
		await paid;
		await expect.poll(() => server.amounts(channel)).toMatchObject({ reserved: 0n, spent: signed - PRICE });
		held.resolve();
	});
});

describe("how many run at a time", () => {
	/** A server of one tool whose handler goes on until it is let go, whoever has given it up. */
	async function stubborn(options: object, payments: McpPayments) {
		const released = Promise.withResolvers<void>();
		const mcp = new McpServer({ name: "stubborn", version: "1.0.0" });
		let begun = 0;
		paidTool(mcp, payments, "work", {}, session, async () => {
			begun++;
			await released.promise;
			return text("done");
		});
		const [near, far] = InMemoryTransport.createLinkedPair();
		await mcp.connect(payments.over(far as Transport, options));
		const client = new Client({ name: "test", version: "1.0.0" });
		await client.connect(near as Transport);
		lines.push(client, mcp);
		const line: Line = { client, heard: [], say: (message) => near.send(message as JSONRPCMessage) };
		return { line, begun: () => begun, release: () => released.resolve() };
	}

	it("counts a call that was given up until its handler has ended", async () => {
		const { line, begun, release } = await stubborn({ maxRunning: 1 }, new McpPayments(server.engine));
		const stop = new AbortController();
		const _meta = paidBy(await voucher(line));
		const given = line.client.callTool({ name: "work", arguments: {}, _meta }, undefined, { signal: stop.signal });
		await expect.poll(begun).toBe(1);
		stop.abort();
		await given.catch(() => undefined);
		await expect.poll(() => server.amounts(channel)).toMatchObject({ reserved: 0n });
		const full = await errorOf(call(line, "work"));
		expect(full).toMatchObject({ code: -32603, data: { detail: expect.stringContaining("too many paid calls") } });
		release();
		await expect.poll(async () => (await errorOf(call(line, "work"))).code).toBe(-32042);
	});

	it("is bounded over all connections, where each request has one of its own", async () => {
		const payments = new McpPayments(server.engine, { maxRunning: 1 });
		const { line, begun, release } = await stubborn({}, payments);
		const paid = call(line, "work", await voucher(line));
		await expect.poll(begun).toBe(1);
		const another = await connect(undefined, payments);
		expect((await errorOf(call(another, "other"))).code).toBe(-32603);
		release();
		expect((await paid).content).toEqual([{ type: "text", text: "done" }]);
		expect((await errorOf(call(another, "other"))).code).toBe(-32042);
	});
});

describe("tasks", () => {
	it("are not what a paid tool runs as: its result would be had without a payment", async () => {
		const line = await connect();
		const draft = await voucher(line);
		const params = { name: "work", arguments: {}, task: { ttl: 1_000 }, _meta: paidBy(draft) };
		await line.say({ id: "task", method: "tools/call", params });
		await expect.poll(() => line.heard).toHaveLength(1);
		expect(line.heard[0]).toMatchObject({ error: { code: -32602 } });
		expect(ran).toEqual([]);
	});
});

describe("what is about a channel alone", () => {
	const about = { method: "tools/call", params: { name: "work" } };
	const manage = ({ client }: Line, draft?: Draft, params: JsonObject = about) =>
		client.request(
			{ method: PAYMENT_MANAGE_METHOD, params: { ...params, ...(draft && { _meta: paidBy(draft) }) } } as never,
			z.looseObject({}) as never,
		) as Promise<{ _meta?: JsonObject }>;

	it("goes by payment.manage: a voucher is taken, nothing is run and nothing charged (D11)", async () => {
		const line = await connect();
		const [fresh] = await challengesOf(manage(line));
		if (fresh === undefined) throw new Error("no challenge");
		const before = await server.amounts(channel);
		signed += PRICE;
		const draft = await payer.voucher(fresh, channel, signed);
		const result = await manage(line, draft);
		expect(result._meta).toMatchObject({
			[MANAGED_META]: true,
			[RECEIPT_META]: { acceptedCumulative: String(signed), spent: String(before?.spent) },
		});
		expect(ran).toEqual([]);
		expect(await errorOf(manage(line, draft))).toMatchObject({ code: -32043 });
		const next = await payer.voucher(await challenge(line), channel, signed);
		expect((await call(line, "work", next))._meta?.[RECEIPT_META]).toMatchObject({ spent: String(signed) });
	});

	it("is -32602 where it names no paid operation", async () => {
		const line = await connect();
		expect(await errorOf(manage(line, undefined, {}))).toMatchObject({ code: -32602 });
		const free = { method: "tools/call", params: { name: "free" } };
		expect(await errorOf(manage(line, undefined, free))).toMatchObject({ code: -32602 });
	});

	it("is a top-up or a close on the tool itself as well: answered with the receipt, and nothing is run", async () => {
		const line = await connect();
		const own = await world.payer();
		const its = await server.open(own, { deposit: 500n });
		const topUp = await topUpByAuthorization(own, await challenge(line), its, 300n);
		const toppedUp = await call(line, "work", topUp);
		expect(toppedUp._meta).toMatchObject({ [MANAGED_META]: true, [RECEIPT_META]: { channelId: its.channelId } });
		expect((await server.ledger(its))?.deposit).toBe(800n);
		const closing = await own.close(await challenge(line), its, 0n);
		const closed = await call(line, "work", closing);
		expect(closed._meta).toMatchObject({ [MANAGED_META]: true });
		expect((await world.onChain(its))?.finalized).toBe(true);
		expect(ran).toEqual([]);
	});

	it("is an opening that does not cover the price: a receipt, and nothing is run", async () => {
		const line = await connect();
		const own = await world.payer();
		const its = own.channel(server.payee);
		const opened = await call(line, "work", await own.open(await challenge(line), its, { deposit: 500n }));
		expect(opened._meta).toMatchObject({ [MANAGED_META]: true, [RECEIPT_META]: { spent: "0" } });
		expect(ran).toEqual([]);
	});
});

describe("capabilities", () => {
	it("are in the answer to initialize, with the server's own beside them", async () => {
		const { client } = await connect();
		const capabilities = client.getServerCapabilities();
		expect(capabilities?.tools).toBeDefined();
		expect(capabilities?.experimental?.payment).toEqual({ methods: { evm: { intents: ["session", "charge"] } } });
	});

	it("of the client say which of several prices it is offered", async () => {
		const only = { payment: { methods: { evm: { intents: ["charge"] } } } };
		const offered = await challengesOf(call(await connect(only), "either"));
		expect(offered.map(({ intent }) => intent)).toEqual(["charge"]);
	});

	it.each([
		["of another method alone", { payment: { methods: { stripe: { intents: ["charge"] } } } }],
		["that are none", { payment: { methods: "all" } }],
	])("%s change nothing: what is asked for is said all the same", async (_which, experimental) => {
		const offered = await challengesOf(call(await connect(experimental), "either"));
		expect(offered.map(({ intent }) => intent)).toEqual(["session", "charge"]);
	});
});

describe("prices", () => {
	it("that JSON-RPC can't take are refused at once", () => {
		const payments = new McpPayments(server.engine);
		const mcp = new McpServer({ name: "x", version: "1" });
		const add = (price: never) => () => paidTool(mcp, payments, "x", {}, price, () => text("x"));
		expect(add({ price: 100n, unitType: "token", metered: true } as never)).toThrow(OfferError);
		expect(add({ price: 100n, opaque: { call: "mine" } } as never)).toThrow(/call/);
		expect(add({ price: "much" } as never)).toThrow(OfferError);
	});

	it("may be made of the call, and are made anew when it is paid", async () => {
		const payments = new McpPayments(server.engine);
		payments.price("tools/call", "work", ({ params }) => {
			const { what = "" } = (params.arguments ?? {}) as { what?: string };
			return { price: PRICE * BigInt(what.length), intent: "charge" };
		});
		const priced: Register = (mcp) => {
			mcp.registerTool("work", { inputSchema: { what: z.string() } }, (_args, extra) =>
				text(String(payments.paymentFor(extra).amount)),
			);
		};
		const [near, far] = InMemoryTransport.createLinkedPair();
		await serverOf(payments, priced).connect(payments.over(far as Transport));
		const client = new Client({ name: "test", version: "1.0.0" });
		await client.connect(near as Transport);
		lines.push(client);
		const line = { client, heard: [], say: async () => undefined };
		const one = await challenge(line, "work", { what: "abc" });
		expect(decodeRequest(one).amount).toBe("300");
		const paid = await call(line, "work", await payer.charge(one, server.payee, 300n), { what: "abc" });
		expect(paid.content).toEqual([{ type: "text", text: "300" }]);
	});
});

describe("messages over plain HTTP from elsewhere", () => {
	it("are refused without a challenge; over TLS, and on this machine, they are not", async () => {
		const codes = [];
		for (const from of [
			{ isSecure: false, isLoopback: false },
			{ isSecure: true, isLoopback: false },
			{ isSecure: false, isLoopback: true },
		]) {
			const payments = new McpPayments(server.engine);
			const [near, far] = InMemoryTransport.createLinkedPair();
			await serverOf(payments, register).connect(payments.over(far as Transport, { transport: () => from }));
			const client = new Client({ name: "test", version: "1.0.0" });
			await client.connect(near as Transport);
			lines.push(client);
			const { code, data } = await errorOf(client.callTool({ name: "work", arguments: {} }));
			codes.push([code, data.httpStatus]);
		}
		expect(codes).toEqual([
			[-32603, 403],
			[-32042, 402],
			[-32042, 402],
		]);
	});
});

describe("what the engine logs of calls", () => {
	it("has no credential in it", async () => {
		const line = await connect();
		const draft = await voucher(line);
		await call(line, "work", draft);
		await errorOf(call(line, "work", withPayload(draft, { signature: `0x${"12".repeat(65)}` })));
		const logged = JSON.stringify(server.logs, (_, value) => (typeof value === "bigint" ? String(value) : value));
		expect(logged).not.toContain(String(draft.payload.signature));
		expect(logged).not.toContain("12".repeat(65));
	});
});

describe("_meta at the root, for the SDK", () => {
	it("is moved into params, in messages and in the lines of a pipe", async () => {
		const message = {
			jsonrpc: "2.0",
			id: 1,
			method: "tools/call",
			params: { name: "x", _meta: { a: 1 } },
			_meta: { b: 2 },
		};
		const nested = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "x", _meta: { a: 1, b: 2 } } };
		expect(nestMeta(message)).toEqual(nested);
		expect(nestMeta([message])).toEqual([nested]);
		expect(nestMeta({ jsonrpc: "2.0", id: 1, method: "ping", _meta: { b: 2 } })).toEqual({
			...{ jsonrpc: "2.0", id: 1, method: "ping" },
			params: { _meta: { b: 2 } },
		});
		const lines = nestMetaLines();
		const text = `${JSON.stringify(message)}\n{"not json "_meta"\n${JSON.stringify({ id: 2, result: "é" })}\n`;
		const bytes = Buffer.from(text);
		for (const byte of bytes) lines.write(Buffer.of(byte));
		lines.end();
		let read = "";
		for await (const chunk of lines) read += String(chunk);
		const [first, second, third] = read.split("\n");
		expect(JSON.parse(first ?? "")).toEqual(nested);
		expect([second, third]).toEqual(['{"not json "_meta"', '{"id":2,"result":"é"}']);
	});
});
