/** A JSON-RPC server of paid methods over a real WebSocket, and the payer that calls it (draft-payment-transport-mcp-00). */

import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { type PaidRpcClient, payRpc, RpcCallError } from "../../../src/client/jsonrpc/payRpc.ts";
import {
	type Challenge,
	CREDENTIAL_META,
	capabilitiesNotification,
	challengeFromRpc,
	credentialToRpc,
	type JsonObject,
	PAYMENT_MANAGE_METHOD,
	RECEIPT_META,
	type RpcChallenge,
	type RpcCredential,
} from "../../../src/protocol/index.ts";
import { OfferError } from "../../../src/server/index.ts";
import { type PaidRpc, paidRpc, RpcMethodError } from "../../../src/server/jsonrpc/paidRpc.ts";
import { clientFor, spyOn } from "../../client/support.ts";
import {
	createWorld,
	type Draft,
	type PaidServer,
	type Payer,
	type TestChannel,
	type World,
} from "../../support/world.ts";

const PRICE = 100n;
const LOOPBACK = { isSecure: false, isLoopback: true };

let world: World;
let server: PaidServer;
let rpc: PaidRpc;
let wss: WebSocketServer;
let url: string;
let payer: Payer;
let channel: TestChannel;
let signed = 0n;
const ran: unknown[] = [];
const failures: unknown[] = [];

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve();
	payer = await world.payer();
	rpc = paidRpc(
		server.engine,
		{
			block: {
				price: { price: PRICE, suggestedDeposit: 1_000n },
				handler: ({ params }) => {
					ran.push(params);
					return `block ${params}`;
				},
			},
			object: { price: { price: PRICE }, handler: () => ({ number: "0x1" }) },
			dear: { price: { price: PRICE, intent: "charge" }, handler: ({ payment }) => payment?.txHash },
			refuses: {
				price: { price: PRICE },
				handler: () => {
					throw new RpcMethodError(-32001, "no such block", { number: 7 });
				},
			},
			breaks: {
				price: { price: PRICE },
				handler: () => {
					throw new Error("a secret of the server");
				},
			},
			free: {
				handler: ({ params, payment }) => {
					ran.push(params);
					return { free: true, isPaid: payment !== undefined };
				},
			},
		},
		{ onError: (error) => failures.push(error) },
	);
	wss = new WebSocketServer({ host: "127.0.0.1", port: 0 });
	await once(wss, "listening");
	url = `ws://127.0.0.1:${(wss.address() as AddressInfo).port}`;
	wss.on("connection", (socket) => {
		socket.send(JSON.stringify(capabilitiesNotification(rpc.capability)));
		const left = new AbortController();
		socket.on("close", () => left.abort());
		socket.on("message", async (data) => {
			const answer = await rpc.answer(JSON.parse(String(data)), { transport: LOOPBACK, signal: left.signal });
			if (answer !== undefined) socket.send(JSON.stringify(answer));
		});
	});
});
afterAll(async () => {
	for (const socket of wss?.clients ?? []) socket.terminate();
	wss?.close();
	await world?.stop();
});
beforeEach(async () => {
	ran.length = 0;
	failures.length = 0;
	channel = await server.open(payer);
	signed = 0n;
});

const ask = async (message: JsonObject) =>
	(await rpc.answer({ jsonrpc: "2.0", id: 1, ...message }, LOOPBACK)) as JsonObject &
		Readonly<{ error?: { code: number; data: JsonObject }; result?: unknown; _meta?: JsonObject }>;

async function challenge(message: JsonObject): Promise<Challenge> {
	const { error } = await ask(message);
	const [first] = (error?.data.challenges ?? []) as readonly RpcChallenge[];
	return challengeFromRpc(first);
}

async function paying(message: JsonObject): Promise<JsonObject> {
	signed += PRICE;
	return { ...message, _meta: metaOf(await payer.voucher(await challenge(message), channel, signed)) };
}

const metaOf = (draft: Draft) => ({ [CREDENTIAL_META]: credentialToRpc(draft as never) });

function credentialOf(message: JsonObject | undefined) {
	const meta = message?._meta as Record<string, RpcCredential> | undefined;
	return meta?.[CREDENTIAL_META];
}

describe("a paid method", () => {
	const block = { method: "block", params: ["latest", false] };

	it("asks for its price, and then answers with the receipt at the root, where params and result are no objects", async () => {
		expect((await ask(block)).error).toMatchObject({ code: -32042, data: { httpStatus: 402 } });
		const answer = await ask(await paying(block));
		expect(answer.result).toBe("block latest,false");
		expect(answer._meta?.[RECEIPT_META]).toMatchObject({ status: "success", method: "evm", spent: String(PRICE) });
		expect(ran).toEqual([["latest", false]]);
	});

	it("takes a credential in params as well", async () => {
		const object = { method: "object", params: { full: true } };
		const { _meta, ...rest } = await paying(object);
		const answer = await ask({ ...rest, params: { full: true, _meta } });
		expect(answer).toMatchObject({ result: { number: "0x1" }, _meta: { [RECEIPT_META]: { spent: String(PRICE) } } });
		expect(answer.result).not.toHaveProperty("_meta");
	});

	it("answers with its own errors, which cost nothing, and says nothing of others (I7)", async () => {
		expect((await ask(await paying({ method: "refuses" }))).error).toEqual({
			code: -32001,
			message: "no such block",
			data: { number: 7 },
		});
		const broken = await ask(await paying({ method: "breaks" }));
		expect(broken.error).toEqual({ code: -32603, message: "Internal error" });
		expect(broken._meta).toBeUndefined();
		expect(failures).toHaveLength(2);
		expect(await server.amounts(channel)).toMatchObject({ spent: 0n, reserved: 0n });
	});

	it("is not carried out as a notification, paid for or not; a free one is", async () => {
		const { id: _, ...message } = { id: 0, jsonrpc: "2.0", ...(await paying(block)) } as JsonObject;
		expect(await rpc.answer({ ...message, jsonrpc: "2.0" }, LOOPBACK)).toBeUndefined();
		expect(ran).toEqual([]);
		expect(await rpc.answer({ jsonrpc: "2.0", method: "free", params: [1] }, LOOPBACK)).toBeUndefined();
		expect(ran).toEqual([[1]]);
	});

	it("is managed by payment.manage, whose receipt is its result", async () => {
		const about = { method: PAYMENT_MANAGE_METHOD, params: { method: "block" } };
		const answer = await ask(await paying(about));
		expect(answer.result).toMatchObject({ acceptedCumulative: String(PRICE), spent: "0" });
		expect(answer.result).toEqual(answer._meta?.[RECEIPT_META]);
		expect(ran).toEqual([]);
		expect((await ask({ method: PAYMENT_MANAGE_METHOD, params: { method: "free" } })).error?.code).toBe(-32602);
		expect((await ask({ method: PAYMENT_MANAGE_METHOD })).error?.code).toBe(-32602);
	});

	it("costs nothing where its client has left before it answers", async () => {
		const left = new AbortController();
		left.abort();
		const message = { jsonrpc: "2.0", id: 1, ...(await paying(block)) };
		await rpc.answer(message, { transport: LOOPBACK, signal: left.signal });
		expect(ran).toEqual([]);
		expect(await server.amounts(channel)).toMatchObject({ spent: 0n, reserved: 0n });
	});
});

describe("a free method", () => {
	it("heeds no credential, and has no receipt", async () => {
		const answer = await ask({ method: "free", _meta: { [CREDENTIAL_META]: "nonsense" } });
		expect(answer).toEqual({ jsonrpc: "2.0", id: 1, result: { free: true, isPaid: false } });
	});
});

describe("a message", () => {
	it.each([
		["that is none", 7, -32600, null],
		["of another version", { jsonrpc: "1.0", id: 1, method: "block" }, -32600, null],
		["with an id that is no id", { jsonrpc: "2.0", id: {}, method: "block" }, -32600, null],
		["of a method that is not there", { jsonrpc: "2.0", id: "x", method: "constructor" }, -32601, "x"],
	])("%s has an error of JSON-RPC's own", async (_what, message, code, id) => {
		expect(await rpc.answer(message, LOOPBACK)).toMatchObject({ jsonrpc: "2.0", id, error: { code } });
	});

	it("from elsewhere in plain text is refused without a challenge", async () => {
		const from = { isSecure: false, isLoopback: false };
		const answer = await rpc.answer({ jsonrpc: "2.0", id: 1, method: "block" }, from);
		expect(answer).toMatchObject({ error: { code: -32603, data: { httpStatus: 403 } } });
	});
});

describe("prices", () => {
	it("are checked at once, and said as a capability", () => {
		expect(rpc.capability).toEqual({ methods: { evm: { intents: ["session", "charge"] } } });
		const metered = { price: 1n, metered: true } as const;
		expect(() => paidRpc(server.engine, { x: { price: metered, handler: () => 1 } })).toThrow(OfferError);
	});
});

describe("a payer of calls", () => {
	let socket: WebSocket;
	let client: PaidRpcClient;
	const notified: unknown[] = [];
	const waiting = new Map<string, (response: unknown) => void>();
	const sent: JsonObject[] = [];

	async function agent(name = false) {
		const host = new URL(url).host;
		const its = await world.payer();
		const spy = spyOn(its.account);
		const paying = clientFor(world, spy.account, [name ? "blocks.localhost" : host]);
		client = payRpc(paying, name ? { name: "blocks" } : { url }, (message) => {
			sent.push(message as never);
			const { promise, resolve } = Promise.withResolvers<unknown>();
			waiting.set(message.id, resolve);
			socket.send(JSON.stringify(message));
			return promise;
		});
		return { agent: paying, spy, its };
	}

	beforeEach(async () => {
		sent.length = 0;
		socket = new WebSocket(url);
		socket.on("message", (data) => {
			const message = JSON.parse(String(data));
			if (message.id === undefined) notified.push(message);
			else waiting.get(message.id)?.(message);
		});
		await once(socket, "open");
	});
	afterEach(() => socket.terminate());

	it("pays over one channel, each call under a challenge of its own, and closes over the same connection", async () => {
		const { agent: its, spy, its: own } = await agent();
		for (let i = 1; i <= 3; i++) {
			const { result, receipt } = await client.call("block", ["latest", i]);
			expect(result).toBe(`block latest,${i}`);
			expect(receipt).toMatchObject({ spent: String(PRICE * BigInt(i)) });
		}
		expect(spy.vouchers()).toEqual([100n, 200n, 300n]);
		const challenges = sent.flatMap((message) => credentialOf(message)?.challenge.id ?? []);
		expect(challenges).toHaveLength(3);
		expect(new Set(challenges).size).toBe(3);
		expect(sent.every(({ id }) => typeof id === "string")).toBe(true);
		await its.close();
		expect(await world.balance(own.address)).toBe(1_000_000n - 300n);
		expect(notified).toContainEqual(capabilitiesNotification(rpc.capability));
	});

	it("pays by charge, knows a server by a name, and has its errors as they are", async () => {
		await agent(true);
		const { result, receipt } = await client.call("dear");
		expect(result).toBe(receipt?.reference);
		await expect(client.call("refuses")).rejects.toMatchObject({ code: -32001, data: { number: 7 } });
		await expect(client.call("nothing")).rejects.toBeInstanceOf(RpcCallError);
		expect(await client.call("free")).toEqual({ result: { free: true, isPaid: false }, receipt: undefined });
	});

	it("echoes a challenge as it came, and sends one credential for one of those that are offered", async () => {
		await agent();
		await client.call("block", ["x"]);
		const [asked, paid] = sent;
		expect(asked?._meta).toBeUndefined();
		const credential = credentialOf(paid);
		if (credential === undefined) throw new Error("nothing was paid");
		expect(Object.keys(credential.challenge)).toEqual(expect.arrayContaining(["id", "realm", "request", "opaque"]));
		expect(typeof credential.challenge.request).toBe("object");
		expect(credential.payload).toMatchObject({ action: "open" });
	});
});
