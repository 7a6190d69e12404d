/** undici's faces with the server of this project: what goes through a paying dispatcher is what undici would have sent, and is paid for. */

import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { brotliCompressSync } from "node:zlib";
import {
	Agent,
	Client,
	type Dispatcher,
	getGlobalDispatcher,
	interceptors,
	request,
	setGlobalDispatcher,
	stream,
	FormData as UndiciForm,
	fetch as undiciFetch,
	upgrade,
} from "undici";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { PaymentClientOptions, PaymentPolicy } from "../../src/client/index.ts";
import { paymentDispatcher, paymentInterceptor } from "../../src/client/node/undici.ts";
import { meterOf } from "../../src/server/index.ts";
import { useWorld } from "../support/useWorld.ts";
import { type PaidServer, PRICE, type Routes } from "../support/world.ts";
import { until } from "./streamStage.ts";
import { clientFor, codeOf } from "./support.ts";

const CHUNK = Buffer.alloc(65_536, 7);
const CHUNKS = 1_500;
/** So much that undici's own buffer for what nobody reads, 64 KiB, holds a few tokens. */
const LONG = ` ${"x".repeat(16_384)}`;

/** What the handlers have seen. */
const seen: { headers: IncomingMessage["rawHeaders"]; keys: string[]; body: Buffer }[] = [];
let chunksSent = 0;
/** What `/hangs` waits for. */
const hanging = Promise.withResolvers<void>();
/** How many requests have waited for it. */
let hangs = 0;
let unitsCharged = 0;

const routes: Routes = (app) => {
	app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
	app.removeContentTypeParser(["application/json", "text/plain"]);
	const payment = { price: PRICE, suggestedDeposit: 10_000n };
	const config = { payment };
	app.post("/echo", { config }, async (asked, reply) => {
		const body = (asked.body as Buffer | undefined) ?? Buffer.alloc(0);
		seen.push({ headers: asked.raw.rawHeaders, keys: [String(asked.headers["idempotency-key"])], body });
		reply.type("application/octet-stream");
		return body;
	});
	app.get("/quote", { config }, async (asked) => {
		seen.push({
			headers: asked.raw.rawHeaders,
			keys: [String(asked.headers["idempotency-key"])],
			body: Buffer.alloc(0),
		});
		return { quote: 42 };
	});
	app.get("/fails", { config }, async (_asked, reply) => reply.status(500).send({ failed: true }));
	app.get("/nothing", { config }, async (_asked, reply) => reply.status(204).send());
	app.get("/packed", { config }, async (_asked, reply) => {
		reply.header("content-encoding", "br").header("set-cookie", ["a=1", "b=2"]).type("text/plain");
		return brotliCompressSync("packed");
	});
	app.get("/moved", { config }, async (_asked, reply) => reply.redirect("/quote", 302));
	app.get("/away", async (asked, reply) =>
		reply.redirect(`http://localhost:${new URL(`http://${asked.headers.host}`).port}/quote`, 302),
	);
	app.get("/report", { config: { payment: { price: PRICE, intent: "charge" as const } } }, async () => ({ pages: 7 }));
	app.get("/large", { config }, (_asked, reply) => {
		reply.type("application/octet-stream");
		return Readable.from(
			(async function* () {
				for (chunksSent = 0; chunksSent < CHUNKS; chunksSent++) yield CHUNK;
			})(),
		);
	});
	app.get("/hangs", { config }, async () => {
		hangs++;
		await hanging.promise;
		return "at last";
	});
	const metered = { price: PRICE, unitType: "token", suggestedDeposit: 10_000n, metered: { blockUnits: 8 } };
	app.get("/tokens", { config: { payment: metered } }, (asked) => {
		const meter = meterOf(asked.payment);
		const filler = (asked.query as { long?: string }).long === undefined ? "" : LONG;
		return (async function* () {
			for (unitsCharged = 0; unitsCharged < 60; ) {
				await meter.charge(1);
				unitsCharged++;
				yield { data: `token ${unitsCharged}${filler}` };
			}
		})();
	});
	app.get("/free", async (asked) => ({ free: true, key: asked.headers["idempotency-key"] ?? null }));
};

const world = useWorld();
let server: PaidServer;
let global: Dispatcher;
const agents: Dispatcher[] = [];

beforeAll(async () => {
	server = await world.serve({ routes });
	global = getGlobalDispatcher();
});
beforeEach(() => {
	seen.length = 0;
	hangs = 0;
});
afterEach(() => setGlobalDispatcher(global));
afterAll(async () => {
	hanging.resolve();
	await Promise.all(agents.map((agent) => agent.destroy()));
});

async function payerFor(policy: Partial<PaymentPolicy> = {}, options: Partial<PaymentClientOptions> = {}) {
	const { account, address } = await world.payer();
	const payer = clientFor(world, account, [new URL(server.url).host], policy, options);
	const inner = new Agent();
	agents.push(inner);
	const dispatcher = inner.compose(paymentInterceptor(payer));
	const get = (path: string, more: object = {}) => request(`${server.url}${path}`, { dispatcher, ...more });
	return { payer, address, inner, dispatcher, get, consumed: () => payer.channels[0]?.consumed ?? 0n };
}

describe("a request through a paying dispatcher", () => {
	it("is paid for: by channel, by charge, or not at all where nobody asks", async () => {
		const { get, payer, address, consumed } = await payerFor();
		for (let i = 0; i < 3; i++) expect(await (await get("/quote")).body.json()).toEqual({ quote: 42 });
		expect(await (await get("/report")).body.json()).toEqual({ pages: 7 });
		expect(await (await get("/free")).body.json()).toMatchObject({ free: true });
		expect(payer.channels).toHaveLength(1);
		expect(consumed()).toBe(3n * PRICE);
		await payer.close();
		expect(await world.balance(address)).toBe(1_000_000n - 4n * PRICE);
	});

	it("asks once for what it knows the price of, with one Idempotency-Key for all its tries", async () => {
		const { get } = await payerFor();
		await (await get("/quote")).body.dump();
		await (await get("/quote", { headers: { "idempotency-key": "mine" } })).body.dump();
		expect(seen.map(({ keys }) => keys[0])).toEqual([expect.stringMatching(/^[0-9a-f-]{36}$/), "mine"]);
	});

	it.each<readonly [string, () => unknown]>([
		["a string", () => "grüße"],
		["a Buffer", () => Buffer.from([0, 255, 1, 254])],
		["a view of a part of a buffer", () => new Uint16Array(Uint16Array.of(1, 2, 3, 4).buffer, 2, 2)],
		["a stream", () => Readable.from([Buffer.from("one "), Buffer.from("two")])],
		["a generator", () => [Buffer.from("a"), Buffer.from("b")].values()],
		["a Blob", () => new Blob(["blob"], { type: "text/x-blob" })],
		["nothing", () => undefined],
	])("brings its body as it is: %s", async (_name, make) => {
		const { dispatcher } = await payerFor();
		const post = async (through: Dispatcher | undefined) => {
			const options = { method: "POST", body: make() as Buffer, ...(through && { dispatcher: through }) };
			return request(`${server.url}/echo`, options);
		};
		const { statusCode, body } = await post(dispatcher);
		expect(statusCode).toBe(200);
		const bytes = Buffer.from(await body.arrayBuffer());
		// What undici sends of it by itself.
		const plain = await undiciBytes(make());
		expect(bytes).toEqual(plain.body);
		expect(typeOf(seen[0]?.headers ?? [])).toBe(plain.type);
	});

	it.each([
		["undici's", () => new UndiciForm()],
		["the platform's", () => new FormData()],
	])("brings a form: %s", async (_name, make) => {
		const { dispatcher } = await payerFor();
		const form = make();
		form.append("name", "value");
		form.append("file", new Blob(["content"]), "a.txt");
		const { statusCode, body } = await request(`${server.url}/echo`, {
			method: "POST",
			body: form as UndiciForm,
			dispatcher,
		});
		expect(statusCode).toBe(200);
		const sent = new Response(await body.arrayBuffer(), {
			headers: { "content-type": typeOf(seen[0]?.headers ?? []) ?? "" },
		});
		const got = await sent.formData();
		expect(got.get("name")).toBe("value");
		expect(await (got.get("file") as File).text()).toBe("content");
	});

	it("keeps its header fields as they were written, and adds only those of the payment", async () => {
		const { get } = await payerFor();
		await (await get("/quote", { headers: ["X-Twice", "1", "X-Twice", "2", "aCcEpT", "text/x"] })).body.dump();
		const headers = seen[0]?.headers ?? [];
		const names = headers.filter((_, at) => at % 2 === 0);
		expect(names.slice(names.indexOf("X-Twice"))).toEqual([
			...["X-Twice", "X-Twice", "aCcEpT", "authorization", "idempotency-key"],
		]);
	});

	it("gets its answer as it came: not decoded, cookies apart, no redirect followed", async () => {
		const { get } = await payerFor();
		const packed = await get("/packed");
		expect(packed.headers["content-encoding"]).toBe("br");
		expect(packed.headers["set-cookie"]).toEqual(["a=1", "b=2"]);
		expect(Buffer.from(await packed.body.arrayBuffer())).toEqual(brotliCompressSync("packed"));
		const moved = await get("/moved");
		expect(moved).toMatchObject({ statusCode: 302, headers: { location: "/quote" } });
		await moved.body.dump();
		expect((await get("/nothing")).statusCode).toBe(204);
		const failed = await get("/fails");
		expect(failed.statusCode).toBe(500);
		expect(await failed.body.json()).toEqual({ failed: true });
	});

	it("works with the other interceptors, before and behind it", async () => {
		const { payer, inner } = await payerFor();
		const dispatcher = inner.compose(paymentInterceptor(payer), interceptors.redirect({ maxRedirections: 2 }));
		const { statusCode, body } = await request(`${server.url}/moved`, { dispatcher });
		expect(statusCode).toBe(200);
		expect(await body.json()).toEqual({ quote: 42 });
	});

	it("is paid for by undici's fetch, stream and request alike", async () => {
		const { dispatcher, consumed } = await payerFor();
		const answer = await undiciFetch(`${server.url}/packed`, { dispatcher });
		expect(await answer.text()).toBe("packed");
		const chunks: Buffer[] = [];
		await stream(
			`${server.url}/quote`,
			{ method: "GET", dispatcher },
			() =>
				new Writable({
					write(chunk, _encoding, done) {
						chunks.push(chunk);
						done();
					},
				}),
		);
		expect(JSON.parse(Buffer.concat(chunks).toString())).toEqual({ quote: 42 });
		const posted = await undiciFetch(`${server.url}/echo`, { method: "POST", body: "text", dispatcher });
		expect(await posted.text()).toBe("text");
		expect(consumed()).toBe(3n * PRICE);
	});

	it("goes to the one origin of a Client, once that is said", async () => {
		const { payer } = await payerFor();
		const client = new Client(server.url);
		agents.push(client);
		const dispatcher = client.compose(paymentInterceptor(payer, { origin: server.url }));
		const { body } = await dispatcher.request({ method: "GET", path: "/quote", query: { of: "a b" } });
		expect(await body.json()).toEqual({ quote: 42 });
		const blind = client.compose(paymentInterceptor(payer));
		expect(await codeOf(blind.request({ method: "GET", path: "/quote" }))).toBe("UNKNOWN_ORIGIN");
	});

	it("is not paid for where its path only looks like another host", async () => {
		const { payer, inner } = await payerFor();
		const dispatcher = inner.compose(paymentInterceptor(payer));
		const { statusCode } = await dispatcher.request({
			origin: server.url,
			method: "GET",
			path: "//other.example/quote",
		});
		expect(statusCode).toBe(404);
	});
});

describe("what goes wrong", () => {
	it("is told as it is: a refusal by the policy, before anything is signed", async () => {
		const { get, payer } = await payerFor({ maxPrice: PRICE - 1n });
		expect(await codeOf(get("/quote"))).toBe("POLICY_REFUSED");
		expect(payer.channels).toEqual([]);
	});

	it("is told as it is: no server, wrong arguments, an answer that takes too long", async () => {
		const { get, dispatcher } = await payerFor({}, { retry: { retries: 1, minDelayMs: 1, maxDelayMs: 1 } });
		expect(await codeOf(request("http://127.0.0.1:1/", { dispatcher }))).toBe("ECONNREFUSED");
		expect(await codeOf(get("/quote", { headers: { "transfer-encoding": "chunked" } }))).toBe("UND_ERR_INVALID_ARG");
		expect(await codeOf(get("/hangs", { headersTimeout: 50 }))).toBe("UND_ERR_HEADERS_TIMEOUT");
	});

	it("is an error of the body that was to be sent", async () => {
		const { dispatcher } = await payerFor();
		const body = Readable.from(
			(async function* () {
				yield "some";
				throw Object.assign(new Error("gone"), { code: "GONE" });
			})(),
		);
		expect(await codeOf(request(`${server.url}/echo`, { method: "POST", body, dispatcher }))).toBe("GONE");
		expect(seen).toEqual([]);
	});

	it("is an answer that was lost on its way: it is fetched again, at no second price (I6)", async () => {
		const { payer, inner, consumed } = await payerFor();
		let lost = 0;
		/** Loses the first two answers that were paid for. */
		const losing: Dispatcher.DispatcherComposeInterceptor = (dispatch) => (options, handler) =>
			dispatch(
				options,
				new Proxy(handler, {
					get(target, name) {
						const method = Reflect.get(target, name);
						if (name !== "onResponseStart") return typeof method === "function" ? method.bind(target) : method;
						return (controller: Dispatcher.DispatchController, status: number, ...rest: [never, never]) => {
							if (status === 200 && lost++ < 2) controller.abort(new Error("cut"));
							else method.call(target, controller, status, ...rest);
						};
					},
				}),
			);
		const dispatcher = inner.compose(losing, paymentInterceptor(payer));
		const { statusCode, body } = await request(`${server.url}/quote`, { dispatcher });
		expect(statusCode).toBe(200);
		expect(await body.json()).toEqual({ quote: 42 });
		expect(lost).toBe(3);
		expect(seen).toHaveLength(1);
		expect(consumed()).toBe(PRICE);
		const [channel] = payer.channels;
		expect(await server.amounts({ channelId: channel?.channelId ?? "0x" })).toMatchObject({ spent: PRICE });
	});
});

describe("who lets go", () => {
	it("before the answer ends the request with its own reason", async () => {
		const { get } = await payerFor();
		const leaving = new AbortController();
		const asked = get("/hangs", { signal: leaving.signal });
		const failed = expect(asked).rejects.toThrow("enough");
		await sleep(20);
		leaving.abort(new Error("enough"));
		await failed;
		expect(
			await codeOf(get("/quote", { signal: AbortSignal.abort(Object.assign(new Error(), { code: "LEFT" })) })),
		).toBe("LEFT");
	});

	it("while a metered answer is read stops paying for it", async () => {
		const { get, consumed } = await payerFor({ maxStream: 6_000n }, { stream: { aheadUnits: 4 } });
		const { body } = await get("/tokens?long");
		let text = "";
		for await (const chunk of body) {
			text += chunk;
			if (text.includes("token 9 ")) break;
		}
		await until(() => body.destroyed);
		const left = unitsCharged;
		expect(left).toBeLessThan(30);
		await sleep(50);
		expect(unitsCharged).toBeLessThanOrEqual(left + 8);
		expect(consumed()).toBeLessThan(3_000n);
	});
});

describe("an answer", () => {
	it("that is metered pays as it is read, and not before", async () => {
		const { get, payer, address } = await payerFor({ maxStream: 6_000n }, { stream: { aheadUnits: 4 } });
		const { body, headers } = await get("/tokens?long");
		expect(headers["content-type"]).toContain("text/event-stream");
		// Until it has stopped by itself: it is read into undici's buffer, and paid for a few tokens ahead of that.
		for (let before = -1; before !== unitsCharged; await sleep(100)) before = unitsCharged;
		expect(unitsCharged).toBeLessThan(30);
		const text = await body.text();
		expect(text.match(/data: token/g)).toHaveLength(60);
		expect(text).not.toContain("payment-");
		await payer.close();
		expect(await world.balance(address)).toBe(1_000_000n - 60n * PRICE);
	});

	it("comes as slowly as it is read", async () => {
		const { get } = await payerFor();
		const { body } = await get("/large");
		let before = -1;
		// Until nothing more fits into the sockets.
		await until(async () => {
			const last = before;
			before = chunksSent;
			await sleep(100);
			return last === chunksSent && chunksSent > 0;
		});
		expect(chunksSent).toBeLessThan(CHUNKS / 2);
		let bytes = 0;
		for await (const chunk of body) bytes += chunk.byteLength;
		expect(bytes).toBe(CHUNKS * CHUNK.byteLength);
	});
});

describe("as the global dispatcher", () => {
	it("pays for Node's own fetch", async () => {
		const { payer, inner, consumed } = await payerFor();
		setGlobalDispatcher(paymentDispatcher(payer, inner));
		expect(await (await fetch(`${server.url}/quote`)).json()).toEqual({ quote: 42 });
		const form = new FormData();
		form.append("a", "b");
		const posted = await fetch(`${server.url}/echo`, { method: "POST", body: form });
		expect(await posted.text()).toContain('name="a"');
		expect(consumed()).toBe(2n * PRICE);
	});

	it("does not pay for what the payer itself sends, so that neither waits for the other", async () => {
		const { payer, inner, address } = await payerFor();
		setGlobalDispatcher(paymentDispatcher(payer, inner));
		// The payer's own fetch is Node's, which is on the global dispatcher.
		expect(await (await payer.fetch(`${server.url}/quote`)).json()).toEqual({ quote: 42 });
		expect(await (await request(`${server.url}/quote`)).body.json()).toEqual({ quote: 42 });
		const [channel] = payer.channels;
		expect(channel?.consumed).toBe(2n * PRICE);
		// It has to ask for a fresh challenge, without a credential, while the channel is its own.
		if (channel !== undefined) channel.challenge = undefined;
		expect(await payer.close()).toHaveLength(1);
		expect(await world.balance(address)).toBe(1_000_000n - 2n * PRICE);
	});

	it("pays for what has the Idempotency-Key of a request that the payer has on its way", async () => {
		const { payer, inner } = await payerFor();
		setGlobalDispatcher(paymentDispatcher(payer, inner));
		await (await payer.fetch(`${server.url}/quote`)).text();
		const headers = { "idempotency-key": "both" };
		const isOwn = () => {
			return payer.ownRequest({ idempotencyKey: "both", method: "GET", url: `${server.url}/hangs` }) !== undefined;
		};
		const leaving = new AbortController();
		const left = codeOf(payer.fetch(`${server.url}/hangs`, { headers, signal: leaving.signal }));
		await until(() => hangs > 0 && isOwn());
		const other = await request(`${server.url}/quote?of=b`, { headers });
		expect(other.statusCode).toBe(200);
		expect(await other.body.json()).toEqual({ quote: 42 });
		leaving.abort(Object.assign(new Error(), { code: "LEFT" }));
		expect(await left).toBe("LEFT");
		expect(isOwn()).toBe(false);
	});

	it("does not pay either where the payer itself is redirected to: what it may pay there is for it to say", async () => {
		const { payer, inner } = await payerFor();
		setGlobalDispatcher(paymentDispatcher(payer, inner));
		const response = await payer.fetch(`${server.url}/away`);
		expect(new URL(response.url).hostname).toBe("localhost");
		expect(response.status).toBe(402);
		expect(payer.channels).toEqual([]);
	});
});

describe("left as they are", () => {
	it("are upgrades, CONNECT, and requests with a payment credential of their own", async () => {
		const { dispatcher, payer } = await payerFor();
		const asked: string[] = [];
		const other = createServer((_request, response) => response.end());
		other.on("upgrade", (incoming, socket) => {
			asked.push(`upgrade ${incoming.headers["idempotency-key"] ?? "without a key"}`);
			socket.end("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: thing\r\n\r\n");
		});
		other.on("connect", (incoming, socket) => {
			asked.push(`CONNECT ${incoming.headers["idempotency-key"] ?? "without a key"}`);
			socket.end("HTTP/1.1 200 Connection Established\r\n\r\n");
		});
		other.listen(0, "127.0.0.1");
		await until(() => other.listening);
		const origin = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
		const upgraded = await upgrade(`${origin}/`, { protocol: "thing", dispatcher });
		upgraded.socket.destroy();
		const connected = await dispatcher.connect({ origin, path: "example.test:443" });
		connected.socket.destroy();
		other.close();
		expect(asked).toEqual(["upgrade without a key", "CONNECT without a key"]);
		const { statusCode, body } = await request(`${server.url}/quote`, {
			dispatcher,
			headers: { authorization: "Payment eyJub3QiOiJvdXJzIn0" },
		});
		await body.dump();
		expect(statusCode).toBeGreaterThanOrEqual(400);
		expect(payer.channels).toEqual([]);
	});
});

function typeOf(rawHeaders: readonly string[]): string | undefined {
	const at = rawHeaders.findIndex((name, index) => index % 2 === 0 && name.toLowerCase() === "content-type");
	return at < 0 ? undefined : rawHeaders[at + 1];
}

/** What undici sends of a body without a payer. */
async function undiciBytes(body: unknown): Promise<{ body: Buffer; type: string | undefined }> {
	const got = Promise.withResolvers<{ body: Buffer; type: string | undefined }>();
	const server = createServer(async (incoming, response) => {
		const chunks: Buffer[] = [];
		for await (const chunk of incoming) chunks.push(chunk as Buffer);
		got.resolve({ body: Buffer.concat(chunks), type: incoming.headers["content-type"] });
		response.end();
	});
	server.listen(0, "127.0.0.1");
	await until(() => server.listening);
	const agent = new Agent();
	await (
		await request(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, {
			method: "POST",
			body: body as Buffer,
			dispatcher: agent,
		})
	).body.dump();
	await agent.destroy();
	server.close();
	return got.promise;
}
