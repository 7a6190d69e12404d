import { Readable, Stream } from "node:stream";
import type { FastifyReply } from "fastify";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import {
	createWorld,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	standardRoutes,
	type TestChannel,
	type World,
} from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;
let channel: TestChannel;

const paid = { config: { payment: { price: PRICE } } };
const bodySchema = { body: { type: "object", required: ["n"], properties: { n: { type: "integer" } } } };
const answerSchema = { response: { 200: { type: "object", required: ["n"], properties: { n: { type: "integer" } } } } };

class FailingStream extends Readable {
	readonly #first: string | null;
	constructor(first: string | null) {
		super();
		this.#first = first;
	}
	#begun = false;
	override _read(): void {
		if (this.#first === null) return void this.destroy(new Error("the source broke"));
		if (this.#begun) return;
		this.#begun = true;
		this.push(this.#first);
		// Long after its first part has left, also where the disk takes its time.
		setTimeout(() => this.destroy(new Error("the source broke")), 1_500);
	}
}

/** A Response of another realm or package: Fastify sends it all the same, and so must it be paid. */
const foreignResponse = (status: number) => ({
	[Symbol.toStringTag]: "Response",
	status,
	headers: new Headers({ "x-from": "elsewhere" }),
	body: new Blob(["foreign"]).stream(),
	bodyUsed: false,
});

/** A stream of the oldest kind: it pipes, and that is all. */
function oldStream(text: string): Stream {
	const stream = new Stream();
	setTimeout(() => {
		stream.emit("data", Buffer.from(text));
		stream.emit("end");
	}, 10);
	return stream;
}

const hijacked = (_: unknown, reply: FastifyReply) => {
	reply.hijack();
	reply.raw.end("by hand");
};

const routes: Routes = async (app, kit) => {
	await standardRoutes(app, kit);
	const { handler } = kit;
	const get = (path: string, answer: Parameters<typeof handler>[1], options = {}) =>
		app.get(path, { ...paid, ...options }, handler(path, answer));

	// What fails.
	get("/throws", () => {
		throw new Error("no luck");
	});
	get("/teapot", (_, reply) => reply.code(418).send({ teapot: true }));
	get("/404", (_, reply) => reply.code(404).send());
	get("/503", (_, reply) => reply.code(503).header("retry-after", "7").send("later"));
	get("/not-found", (_, reply) => reply.callNotFound());
	get("/unserializable", () => ({ n: "no integer" }), { schema: answerSchema });
	get("/bad-payload", (_, reply) => reply.type("image/png").send({ no: "image" }));
	get("/hook-fails", () => "never", {
		preHandler: async () => {
			throw new Error("hook");
		},
	});
	get("/hook-answers", () => "never", {
		preHandler: async (_: unknown, reply: FastifyReply) => reply.code(403).send("no"),
	});
	get("/on-send-fails", () => "almost", {
		onSend: async () => {
			throw new Error("onSend");
		},
	});
	get("/response-500", () => new Response("broken", { status: 500 }));
	get("/response-404", () => new Response(null, { status: 404 }));
	get("/stream-fails-first", () => new FailingStream(null));
	// Nothing could be captured before its first byte.
	get("/hijack", hijacked);
	get("/stream-closed", () => new Readable({ read: () => undefined }).destroy());
	get("/stream-closes", () => {
		const stream = new Readable({ read: () => undefined });
		setTimeout(() => stream.destroy(), 20);
		return stream;
	});
	get("/bad-header", (_, reply) => reply.header("x-name", "caf\u4e16").send("never"));
	get("/foreign-response-500", () => foreignResponse(500));
	app.post("/validated", { ...paid, schema: bodySchema }, handler("/validated"));
	app.setErrorHandler((error, _request, reply) => {
		const { statusCode = 500, message } = error as { statusCode?: number; message: string };
		return reply.code(statusCode).send({ message });
	});

	// What succeeds.
	get("/stream", () => Readable.from(["in ", "parts"]));
	get("/web-stream", () => new Blob(["web"]).stream());
	get("/response", () => new Response("fetched", { headers: { "cache-control": "public, max-age=60" } }));
	get("/204", (_, reply) => reply.code(204).send());
	get("/empty", () => undefined);
	get("/foreign-response", () => foreignResponse(200));
	get("/foreign-reader", () => ({ getReader: () => new Blob(["foreign"]).stream().getReader() }));
	get("/old-stream", () => oldStream("foreign"));
	get("/redirect", (_, reply) => reply.redirect("/elsewhere"));
	get("/stream-fails-late", () => new FailingStream("half"));
	for (const [name, value] of Object.entries(CACHING))
		get(`/cache/${name}`, (_, reply) => reply.header("cache-control", value).send("cached?"));
};

const CACHING = {
	public: "public, max-age=600, s-maxage=600",
	"no-store": "no-store",
	private: "private, max-age=5",
	"private-field": 'private="set-cookie", max-age=600',
	"x-private": "public, x-private",
};

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	server = await world.serve({ routes });
});
afterAll(() => world.stop());
beforeEach(async () => {
	channel = await server.open(payer);
});

const credential = async (amount = PRICE) => payer.voucher(await server.challenge("/session"), channel, amount);

/** The channel has paid for nothing, and the same voucher still buys something. */
async function expectFree(): Promise<void> {
	await expect.poll(() => server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: 0n, reserved: 0n });
	expectPaid(await server.pay("/session", await credential()));
}

describe("an answer that fails costs nothing and has no receipt (I7)", () => {
	it.each([
		["/throws", 500],
		["/teapot", 418],
		["/404", 404],
		["/503", 503],
		["/not-found", 404],
		["/unserializable", 500],
		["/bad-payload", 500],
		["/hook-fails", 500],
		["/hook-answers", 403],
		["/on-send-fails", 500],
		["/response-500", 500],
		["/response-404", 404],
		["/stream-fails-first", 500],
		["/hijack", 500],
		["/stream-closed", 500],
		["/stream-closes", 500],
		["/bad-header", 500],
		["/foreign-response-500", 500],
	])("%s: %i", async (path, status) => {
		const answer = await server.pay(path, await credential());
		expect(answer.status).toBe(status);
		expect(answer.receipt).toBeUndefined();
		await expectFree();
	});

	it("a body that does not validate: 400, the handler is not asked", async () => {
		for (const body of ['{"n":"x"}', "{}", "{", ""]) {
			const answer = await server.pay("/validated", await credential(), { method: "POST", body });
			expect(answer.status).toBe(400);
			expect(answer.receipt).toBeUndefined();
		}
		expect(server.calls("/validated")).toBe(0);
		expect(await server.amounts(channel)).toMatchObject({ spent: 0n, reserved: 0n });
	});

	it("leaves the credential free for another attempt, byte for byte", async () => {
		const draft = await credential();
		for (const path of ["/throws", "/404", "/throws"])
			expect((await server.pay(path, draft)).status).toBeGreaterThan(403);
		expectPaid(await server.pay("/session", draft));
		expectRefusal(await server.pay("/session", draft), "session/insufficient-balance");
	});
});

describe("a client that leaves", () => {
	it("while the handler runs pays nothing (I7)", async () => {
		const gate = server.hold("/session");
		const leaving = new AbortController();
		const cut = server.pay("/session", await credential(), { signal: leaving.signal }).catch(() => "cut");
		await gate.entered;
		expect(await server.amounts(channel)).toMatchObject({ reserved: PRICE });
		leaving.abort();
		expect(await cut).toBe("cut");
		await expect.poll(() => server.amounts(channel)).toMatchObject({ spent: 0n, reserved: 0n });
		gate.release();
		await expectFree();
	});

	it("in the middle of its body pays nothing", async () => {
		const leaving = new AbortController();
		const headers = { "Content-Length": "1000" };
		const options = { method: "POST", body: "{", headers, key: "k", signal: leaving.signal };
		const cut = server.pay("/session", await credential(), options).catch(() => "cut");
		setTimeout(() => leaving.abort(), 30);
		expect(await cut).toBe("cut");
		expectPaid(await server.pay("/session", await credential()));
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: PRICE, reserved: 0n });
	});
});

describe("an answer that succeeds is charged before it leaves, and private", () => {
	it.each([
		["/stream", 200, "in parts"],
		["/web-stream", 200, "web"],
		["/response", 200, "fetched"],
		["/204", 204, ""],
		["/empty", 200, ""],
	])("%s: %i %j", async (path, status, text) => {
		const answer = await server.pay(path, await credential());
		expectPaid(answer);
		expect(answer).toMatchObject({ status, text });
		expect(answer.receipt).toMatchObject({ spent: PRICE });
		expect(await server.amounts(channel)).toMatchObject({ spent: PRICE, reserved: 0n });
	});

	it.each(["/foreign-response", "/foreign-reader", "/old-stream"])("%s is charged, whosever it is", async (path) => {
		const answer = await server.pay(path, await credential());
		expect(answer).toMatchObject({ status: 200, text: "foreign", receipt: { spent: PRICE } });
	});

	it("a redirect is charged: where it leads is what was paid for", async () => {
		const answer = await server.pay("/redirect", await credential());
		expect(answer).toMatchObject({ status: 302, receipt: { spent: PRICE } });
	});

	it("a stream that breaks after its first byte is charged: it was delivered in part", async () => {
		await expect(server.pay("/stream-fails-late", await credential())).rejects.toThrow();
		expect(await server.amounts(channel)).toMatchObject({ spent: PRICE, reserved: 0n });
	});

	it.each(Object.entries(CACHING))("with Cache-Control of its own, %s: %s", async (name) => {
		const answer = await server.pay(`/cache/${name}`, await credential());
		expectPaid(answer);
		const directives = (answer.header("cache-control") ?? "").split(/\s*,\s*/);
		expect(directives).toContain("private");
		expect(directives).not.toContain("public");
		if (name === "no-store") expect(directives).toContain("no-store");
	});

	it("tells the handler who paid what", async () => {
		const telling = await world.serve({
			routes: (app, { handler }) => {
				app.get(
					"/who",
					paid,
					handler("/who", ({ payment }) => ({ ...payment, amount: String(payment?.amount) })),
				);
			},
		});
		const mine = payer.channel(telling.payee);
		const draft = await payer.open(await telling.challenge("/who"), mine, { deposit: 1_000n, amount: PRICE });
		expect((await telling.pay("/who", draft)).json).toEqual({
			intent: "session",
			amount: String(PRICE),
			payer: payer.address,
			channelId: mine.channelId,
		});
	});
});
