import { once } from "node:events";
import { connect } from "node:http2";
import { PassThrough, Readable } from "node:stream";
import Fastify from "fastify";
import { Hono } from "hono";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { contentDigest, PAYMENT_RECEIPT, parseChallenges } from "../../../src/protocol/index.ts";
import { type PaymentEngine, paid, sluice } from "../../../src/server/index.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import {
	createWorld,
	DEPOSIT,
	encode,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	type World,
} from "../../support/world.ts";

const config = { payment: { price: PRICE } };
const user = { "x-user": "ann" };

class Unauthorized extends Error {
	readonly statusCode = 401;
}

const requireUser = async (request: { headers: Record<string, unknown> }) => {
	if (request.headers["x-user"] === undefined) throw new Unauthorized("who are you?");
};

/** An API whose own checks stand in every place that Fastify has for them. */
const routes: Routes = async (app, { handler }) => {
	app.get("/open", { config }, handler("/open"));
	app.get("/own-hook", { config, onRequest: requireUser }, handler("/own-hook"));
	await app.register(
		async (area) => {
			area.addHook("onRequest", requireUser);
			area.addHook("onRequest", async (request, reply) => {
				if (request.headers["x-user"] === "eve") return reply.code(403).send({ error: "not you" });
				return undefined;
			});
			area.get("/quote", { config }, handler("/quote"));
			area.post("/quote", { config: { payment: { price: PRICE, intent: "charge" } } }, handler("/quote"));
			area.get("/free", handler("/free"));
			await area.register(
				async (inner) => {
					inner.addHook("onSend", async (_request, reply, payload) => {
						reply.header("x-inner", "1");
						return payload;
					});
					inner.get("/", { config }, handler("/inner"));
				},
				{ prefix: "/inner" },
			);
		},
		{ prefix: "/area" },
	);
	app.get(
		"/slow",
		{ config },
		handler("/slow", () => slow),
	);
};
let slow = new PassThrough();

let world: World;
let server: PaidServer;
let payer: Payer;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	// The connection that a client opens anew after it has left an answer is never idle.
	server = await world.serve({ routes, fastify: { forceCloseConnections: true } });
});
afterAll(() => world.stop());

const voucher = async (n = 1n) => {
	const channel = await server.open(payer, {}, "/open");
	return { channel, draft: await payer.voucher(await server.challenge("/open"), channel, n * PRICE) };
};

function expectOwn(answer: Awaited<ReturnType<PaidServer["send"]>>, status: number): void {
	expect(answer).toMatchObject({ status, problem: undefined, receipt: undefined, challenges: [] });
	expect(answer.header("www-authenticate")).toBeUndefined();
}

describe("an application's own answers", () => {
	it("an application's own 401 before the payment is looked at reaches the client as 401, without a challenge", async () => {
		const { draft, channel } = await voucher();
		for (const path of ["/own-hook", "/area/quote", "/area/inner"]) {
			expectOwn(await server.send(path), 401);
			expectOwn(await server.pay(path, draft), 401);
			expectOwn(await server.send(path, { authorization: "Payment x" }), 401);
		}
		expect(await server.amounts(channel)).toMatchObject({ acceptedCumulative: 0n, reserved: 0n });
	});

	it("an application's own 403 before the payment is looked at reaches the client as 403, without a challenge", async () => {
		const { draft } = await voucher();
		for (const method of ["GET", "POST"]) {
			expectOwn(await server.send("/area/quote", { method, headers: { "x-user": "eve" } }), 403);
			expectOwn(await server.pay("/area/quote", draft, { method, headers: { "x-user": "eve" } }), 403);
		}
	});

	it("a hook of the application that checks authentication runs before the payment is looked at", async () => {
		const before = server.calls();
		for (const path of ["/own-hook", "/area/quote", "/area/inner"]) {
			expectOwn(await server.send(path), 401);
			expectRefusal(await server.send(path, { headers: user }), "payment-required");
		}
		expect(server.calls()).toBe(before);
		const { draft, channel } = await voucher(3n);
		for (const path of ["/own-hook", "/area/quote", "/area/inner"])
			expectPaid(await server.pay(path, draft, { headers: user, key: path }));
		expect(await server.amounts(channel)).toMatchObject({ spent: 3n * PRICE });
	});

	it("a path without a route is 404 and not 402, also below a paid prefix", async () => {
		const { draft } = await voucher();
		for (const path of ["/nothing", "/area", "/area/nothing", "/area/inner/nothing", "/open/more", "/opener"]) {
			expectOwn(await server.send(path, { headers: user }), 404);
			expectOwn(await server.pay(path, draft, { headers: user }), 404);
		}
		expectOwn(await server.send("/open", { method: "DELETE" }), 404);
	});

	it("of the framework around the fetch face: 401, 403 and 404 stay what they are", async () => {
		const app = new Hono();
		app.use("/area/*", async (c, next) => {
			if (c.req.header("x-user") === undefined) return c.text("who are you?", 401);
			return c.req.header("x-user") === "eve" ? c.text("not you", 403) : next();
		});
		const quote = paid(server.engine, { price: PRICE }, () => Response.json({ quote: 42 }));
		app.get("/area/quote", (c) => quote(c.req.raw));
		const statusOf = async (path: string, headers: Record<string, string> = {}) => {
			const response = await app.request(`http://localhost${path}`, { headers });
			return [response.status, response.headers.has("www-authenticate")];
		};
		expect(await statusOf("/area/quote")).toEqual([401, false]);
		expect(await statusOf("/area/quote", { "x-user": "eve" })).toEqual([403, false]);
		expect(await statusOf("/area/nothing", user)).toEqual([404, false]);
		expect(await statusOf("/area/quote", user)).toEqual([402, true]);
		const { draft } = await voucher();
		expect(await statusOf("/area/quote", { ...user, authorization: encode(draft) })).toEqual([200, false]);
	});
});

describe("the plugin in an application", () => {
	it("guards prefixes within prefixes, and leaves their free routes free", async () => {
		const { draft } = await voucher();
		expect(await server.send("/area/free", { headers: user })).toMatchObject({ status: 200, receipt: undefined });
		expectRefusal(await server.send("/area/inner", { headers: user }), "payment-required");
		const answer = await server.pay("/area/inner", draft, { headers: user });
		expectPaid(answer);
		expect(answer.header("x-inner")).toBe("1");
	});

	it("guards what was declared before it, what is declared after it, and what other plugins declare", async () => {
		const split = await world.serve({
			before: async (app, { handler }) => {
				app.get("/before", { config }, handler("/before"));
			},
			routes: async (app, { handler }) => {
				await app.register(async (child) => void child.get("/child", { config }, handler("/child")));
				app.get("/after", { config }, handler("/after"));
			},
		});
		for (const path of ["/before", "/child", "/after"]) expectRefusal(await split.send(path), "payment-required");
		expect(split.calls()).toBe(0);
	});

	it("may be registered in parts of it, each with an engine of its own", async () => {
		const other = await world.serve({ engine: { realm: "other.example" } });
		const app = Fastify();
		for (const [prefix, { engine }] of [
			["/one", server],
			["/two", other],
		] as const)
			await app.register(
				async (part) => {
					await part.register(sluice, { engine });
					part.get("/quote", { config }, ({ payment }) => ({ channel: payment?.channelId }));
				},
				{ prefix },
			);
		app.get("/free", ({ payment }) => ({ payment: payment ?? null }));
		const challengeAt = async (url: string) => {
			const response = await app.inject({ url });
			expect(response.statusCode).toBe(402);
			return parseChallenges(String(response.headers["www-authenticate"]))[0]?.challenge;
		};
		expect((await challengeAt("/one/quote"))?.realm).toBe("test.sluice.local");
		expect((await challengeAt("/two/quote"))?.realm).toBe("other.example");
		expect((await app.inject({ url: "/free" })).json()).toEqual({ payment: null });
		const { draft, channel } = await voucher();
		const headers = { authorization: encode(draft) };
		expect((await app.inject({ url: "/two/quote", headers })).statusCode).toBe(402);
		expect((await app.inject({ url: "/one/quote", headers })).json()).toEqual({ channel: channel.channelId });
		await app.close();
	});

	it("is paid over HTTP/2 as well, and binds to bodies whose length nobody says", async () => {
		const app = Fastify({ http2: true });
		await app.register(sluice, { engine: server.engine });
		const payment = { price: PRICE, bindBody: true };
		app.post("/quote", { config: { payment } }, ({ body }) => ({ body }));
		const session = connect(await app.listen({ host: "127.0.0.1", port: 0 }));
		const ask = async (body: string, headers: Record<string, string> = {}) => {
			const stream = session.request({
				":method": "POST",
				":path": "/quote",
				"content-type": "application/json",
				...headers,
			});
			stream.end(body);
			const [head] = (await once(stream, "response")) as [Record<string, string>];
			let text = "";
			for await (const chunk of stream) text += String(chunk);
			const challenge = parseChallenges(head["www-authenticate"] ?? "")[0]?.challenge;
			return { status: Number(head[":status"]), receipt: head["payment-receipt"], text, challenge };
		};
		const channel = await server.open(payer, {}, "/open");
		const { status, challenge } = await ask('{"n":1}');
		expect(status).toBe(402);
		expect(challenge?.digest).toBe(contentDigest(Buffer.from('{"n":1}')));
		if (challenge === undefined) throw new Error("no challenge");
		const authorization = encode(await payer.voucher(challenge, channel, PRICE));
		expect(await ask('{"n":2}', { authorization })).toMatchObject({ status: 402, receipt: undefined });
		const paidFor = await ask('{"n":1}', { authorization, "idempotency-key": "k" });
		expect(paidFor).toMatchObject({ status: 200, text: '{"body":{"n":1}}', receipt: expect.any(String) });
		const close = encode(await payer.close(challenge, channel, PRICE));
		expect(await ask('{"n":2}', { authorization: close })).toMatchObject({ status: 402 });
		expect(await ask('{"n":1}', { authorization: close })).toMatchObject({ status: 200 });
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: PRICE });
		session.close();
		await app.close();
	});

	it("without an engine, or twice, is refused, saying what to change", async () => {
		const register = async (...options: readonly object[]) => {
			const app = Fastify();
			for (const one of options) await app.register(sluice, one as { engine: PaymentEngine });
			await app.ready();
		};
		await expect(register({})).rejects.toThrow(/needs an engine: app.register\(sluice, \{ engine/);
		await expect(register({ engine: {} })).rejects.toThrow(/needs an engine/);
		const { engine } = server;
		await expect(register({ engine }, { engine })).rejects.toThrow(/registered here already/);
	});

	it("is paid through inject as through a socket", async () => {
		const { channel, draft } = await voucher();
		const unpaid = await server.inject({ url: "/open" });
		expect(unpaid.statusCode).toBe(402);
		expect(unpaid.headers["www-authenticate"]).toBeDefined();
		const answer = await server.inject({ url: "/open", headers: { authorization: encode(draft) } });
		expect(answer.statusCode).toBe(200);
		expect(answer.headers[PAYMENT_RECEIPT.toLowerCase()]).toBeDefined();
		expect(await server.amounts(channel)).toMatchObject({ spent: PRICE, reserved: 0n });
	});

	it("lets a stream's first bytes go before the rest exists, and stops it when the client leaves", async () => {
		const { channel, draft } = await voucher();
		slow = new PassThrough();
		slow.write("first");
		const leaving = new AbortController();
		const response = await fetch(`${server.url}/slow`, {
			headers: { authorization: encode(draft) },
			signal: leaving.signal,
		});
		const reader = response.body?.getReader();
		expect(new TextDecoder().decode((await reader?.read())?.value)).toBe("first");
		expect(await server.amounts(channel)).toMatchObject({ spent: PRICE, reserved: 0n });
		leaving.abort();
		await expect.poll(() => slow.destroyed).toBe(true);
	});

	it("tells whoever feeds a stream that nobody is there to read, also before it was begun", async () => {
		const closed: string[] = [];
		const feeding = (name: string) =>
			new ReadableStream<Uint8Array>({
				cancel: () => void closed.push(name),
			});
		const own = await world.serve({
			routes: (app, { handler }) => {
				app.get(
					"/silent",
					{ config },
					handler("/silent", () => feeding("silent")),
				);
				app.get(
					"/held",
					{ config },
					handler("/held", () => feeding("held")),
				);
				app.get(
					"/events",
					{ config },
					handler("/events", (_, reply) =>
						reply
							.type("text/event-stream")
							.send(Readable.from(["data: 1\n\n"]).on("close", () => closed.push("events"))),
					),
				);
			},
		});
		const channel = await own.open(payer, {}, "/silent");
		const draft = await payer.voucher(await own.challenge("/silent"), channel, PRICE);
		const gate = own.hold("/held");
		for (const path of ["/silent", "/held"]) {
			const leaving = new AbortController();
			const cut = own.pay(path, draft, { signal: leaving.signal }).catch(() => "cut");
			await expect.poll(() => own.calls(path)).toBe(1);
			await expect.poll(() => own.amounts(channel)).toMatchObject({ reserved: PRICE });
			leaving.abort();
			expect(await cut).toBe("cut");
			await expect.poll(() => own.amounts(channel)).toMatchObject({ reserved: 0n, spent: 0n });
			gate.release();
			await expect.poll(() => closed).toContain(path.slice(1));
		}
		expectPaid(await own.pay("/events", draft));
		await expect.poll(() => closed).toContain("events");
	});

	it("has an onSend hook of the application's before it, which may change what is sent and is charged once", async () => {
		const own = await world.serve({
			routes: (app, { handler }) => {
				app.addHook("onSend", async (_request, reply, payload) => {
					if (typeof payload !== "string" || reply.statusCode !== 200) return payload;
					reply.header("x-shouted", "1");
					return payload.toUpperCase();
				});
				app.get(
					"/shout",
					{ config },
					handler("/shout", () => "hello"),
				);
			},
		});
		const channel = payer.channel(own.payee);
		const draft = await payer.open(await own.challenge("/shout"), channel, { deposit: DEPOSIT, amount: PRICE });
		const answer = await own.pay("/shout", draft, { key: "k" });
		expectPaid(answer);
		expect(answer.text).toBe("HELLO");
		expect(await own.amounts(channel)).toMatchObject({ spent: PRICE });
	});
});
