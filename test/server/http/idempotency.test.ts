import { Readable } from "node:stream";
import { createGunzip, gzipSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import {
	type Answer,
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
const routes: Routes = async (app, kit) => {
	await standardRoutes(app, kit);
	const { handler } = kit;
	app.post(
		"/echo",
		paid,
		handler("/echo", ({ body }) => ({ body })),
	);
	app.get(
		"/long",
		paid,
		handler("/long", () => "x".repeat(1_001)),
	);
	app.get(
		"/stream",
		paid,
		handler("/stream", () => Readable.from(["streamed"])),
	);
	app.delete(
		"/nothing",
		paid,
		handler("/nothing", (_, reply) => reply.code(204).send()),
	);
	app.get(
		"/bytes",
		paid,
		handler("/bytes", (_, reply) =>
			reply
				.code(201)
				.type("image/x")
				.send(Buffer.from([0, 255, 1])),
		),
	);
	app.get(
		"/cookies",
		paid,
		handler("/cookies", (_, reply) =>
			reply.header("set-cookie", "a=1").header("set-cookie", "b=2; Expires=Sat, 01 Jan 2050 00:00:00 GMT").send("ok"),
		),
	);
	app.get(
		"/fails",
		paid,
		handler("/fails", () => {
			throw new Error("no luck");
		}),
	);
};

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	server = await world.serve({ routes, engine: { limits: { maxReplayBytes: 1_000 } } });
});
afterAll(() => world.stop());
beforeEach(async () => {
	channel = await server.open(payer);
	// Far ahead, so that it is never for want of funds that something is not charged.
	expectPaid(await server.pay("/session", await credential(50n * PRICE), { method: "HEAD" }));
});

const credential = async (amount = 50n * PRICE) => payer.voucher(await server.challenge("/session"), channel, amount);
const spent = async () => (await server.ledger(channel))?.spent;

function same(a: Answer, b: Answer): void {
	const without = ({ headers }: Answer) => {
		const { date, connection, "keep-alive": keepAlive, ...rest } = headers;
		return rest;
	};
	expect({ status: b.status, text: b.text, headers: without(b) }).toEqual({
		status: a.status,
		text: a.text,
		headers: without(a),
	});
}

describe("the same Idempotency-Key again", () => {
	it("is the same answer, receipt included, charged once (I6)", async () => {
		const draft = await credential();
		const first = await server.pay("/session", draft, { key: "k" });
		expectPaid(first);
		for (const again of [draft, await credential(), await credential(60n * PRICE)])
			same(first, await unchanged(server, [channel], () => server.pay("/session", again, { key: "k" })));
		expect(await spent()).toBe(PRICE);
	});

	it.each([
		["DELETE", "/nothing"],
		["GET", "/bytes"],
		["GET", "/cookies"],
	])("is the same status, headers and bytes: %s %s", async (method, path) => {
		const first = await server.pay(path, await credential(), { key: "k", method });
		expectPaid(first);
		const again = await unchanged(server, [channel], async () =>
			server.pay(path, await credential(), { key: "k", method }),
		);
		same(first, again);
	});

	it("is nobody's answer but the signer's (I3, I6)", async () => {
		expectPaid(await server.pay("/session", await credential(), { key: "k" }));
		const other = await world.payer();
		const forged = await payer.voucher(await server.challenge("/session"), channel, 50n * PRICE, {
			signer: other.account,
		});
		await unchanged(server, [channel], async () => {
			expectRefusal(await server.pay("/session", forged, { key: "k" }), "session/signer-mismatch");
			expectRefusal(await server.send("/session", { key: "k" }), "payment-required");
		});
	});

	it("on another channel, method, path or query is another request (I6)", async () => {
		const first = await server.pay("/session", await credential(), { key: "k" });
		for (const path of ["/session?a=1", "/session?a=2", "/bytes"])
			expectPaid(await server.pay(path, await credential(), { key: "k" }));
		expectPaid(await server.pay("/session", await credential(), { key: "k", method: "POST", body: "{}" }));
		expect(await spent()).toBe(5n * PRICE);
		const mine = channel;
		channel = await server.open(payer);
		const other = await server.pay("/session", await credential(), { key: "k" });
		expectPaid(other);
		expect(other.text).not.toBe(first.text);
		expect((await server.ledger(mine))?.spent).toBe(5n * PRICE);
	});

	it("with another body is 422, with the same one the same answer (I6)", async () => {
		const post = async (body: string) => server.pay("/echo", await credential(), { key: "k", method: "POST", body });
		const first = await post('{"n":1}');
		expectPaid(first);
		expect(first.json).toEqual({ body: { n: 1 } });
		await unchanged(server, [channel], async () => {
			same(first, await post('{"n":1}'));
			for (const body of ['{"n":2}', '{"n":1} ', "{}"]) expectRefusal(await post(body), "unprocessable-content");
			const none = await server.pay("/echo", await credential(), { key: "k", method: "POST" });
			expectRefusal(none, "unprocessable-content");
		});
	});

	it("while the first is running is 409 with Retry-After, and another body still 422", async () => {
		const gate = server.hold("/echo");
		const post = async (body: string) => server.pay("/echo", await credential(), { key: "k", method: "POST", body });
		const first = post("1");
		await gate.entered;
		await unchanged(server, [channel], async () => {
			const second = await post("1");
			expectRefusal(second, "conflict");
			expect(second.header("retry-after")).toMatch(/^[1-9]\d*$/);
			expectRefusal(await post("2"), "unprocessable-content");
		});
		gate.release();
		const answer = await first;
		expectPaid(answer);
		same(answer, await post("1"));
		expect(await spent()).toBe(PRICE);
	});

	it("twenty times at once runs the handler once (I6)", async () => {
		const before = server.calls("/session");
		const drafts = await Promise.all(Array.from({ length: 20 }, () => credential()));
		const answers = await Promise.all(drafts.map((draft) => server.pay("/session", draft, { key: "k" })));
		expect(server.calls("/session")).toBe(before + 1);
		expect(await spent()).toBe(PRICE);
		const [first] = answers.filter(({ status }) => status === 200);
		if (first === undefined) throw new Error("none was served");
		for (const answer of answers) {
			if (answer.status === 200) same(first, answer);
			else expectRefusal(answer, "conflict");
		}
	});

	it.each(["/long", "/stream"])(
		"cannot be answered when the answer of %s was not kept: 409, not charged",
		async (path) => {
			const first = await server.pay(path, await credential(), { key: "k" });
			expectPaid(first);
			const again = await unchanged(server, [channel], async () => server.pay(path, await credential(), { key: "k" }));
			expectRefusal(again, "conflict");
			expect(again.header("retry-after")).toBeUndefined();
		},
	);

	it("is free for a new attempt when the first one failed (I7)", async () => {
		const before = server.calls("/fails");
		for (let n = 1; n <= 3; n++) {
			expect((await server.pay("/fails", await credential(), { key: "k" })).status).toBe(500);
			expect(server.calls("/fails")).toBe(before + n);
		}
		expect(await server.amounts(channel)).toMatchObject({ spent: 0n, reserved: 0n });
	});

	it("is the same answer after a restart, after the challenge, and after the channel (I4, I5, I6)", async () => {
		const first = await server.pay("/session", await credential(), { key: "k" });
		await server.restart();
		same(
			first,
			await unchanged(server, [channel], async () => server.pay("/session", await credential(), { key: "k" })),
		);
		server.clock.advance(301_000);
		same(first, await server.pay("/session", await credential(), { key: "k" }));
		expectPaid(await server.pay("/session", await payer.close(await server.challenge("/session"), channel, PRICE)));
		same(
			first,
			await unchanged(server, [channel], async () => server.pay("/session", await credential(), { key: "k" })),
		);
	});

	it("is the same answer for as long as answers are kept, from when it was charged, however long its handler took (I6)", async () => {
		const keptMs = 6_000;
		const brief = await world.serve({ routes, engine: { limits: { idempotencyTtlMs: keptMs } } });
		const opened = await brief.open(payer);
		const draft = await payer.voucher(await brief.challenge("/session"), opened, 50n * PRICE);
		const pay = () => brief.pay("/session", draft, { key: "k" });
		const gate = brief.hold("/session");
		const running = pay();
		await gate.entered;
		brief.clock.advance(keptMs - 1_000);
		gate.release();
		const first = await running;
		expectPaid(first);
		brief.clock.advance(keptMs - 2_000);
		await brief.store.prune(brief.clock.now());
		same(first, await unchanged(brief, [opened], pay));
	});

	it("is free after a crash while the first was running: it was never charged (I5, I7)", async () => {
		const gate = server.hold("/session");
		const cut = server.pay("/session", await credential(), { key: "k" }).catch((error: unknown) => error);
		await gate.entered;
		await server.crash();
		expect(await cut).toBeInstanceOf(Error);
		gate.release();
		await server.restart();
		expectPaid(await server.pay("/session", await credential(), { key: "k" }));
		expect(await server.amounts(channel)).toMatchObject({ spent: PRICE, reserved: 0n });
	});
});

describe("an Idempotency-Key", () => {
	it("of 255 characters is taken, of 256 or none refused with 400", async () => {
		expectPaid(await server.pay("/session", await credential(), { key: "k".repeat(255) }));
		await unchanged(server, [channel], async () => {
			for (const key of ["k".repeat(256), "", "k".repeat(5_000)])
				expectRefusal(await server.pay("/session", await credential(), { key }), "bad-request");
		});
	});

	it("keeps a credential in use used while its request is running (I6)", async () => {
		const draft = await credential();
		const gate = server.hold("/session");
		const running = server.pay("/session", draft);
		await gate.entered;
		expect((await server.pay("/fails", draft, { key: "k" })).status).toBe(500);
		const answer = await server.pay("/bytes", draft);
		gate.release();
		expectPaid(await running);
		expectRefusal(answer, "session/insufficient-balance");
	});

	it("is no obstacle where another plugin decompresses the body first", async () => {
		const unzipping = await world.serve({
			routes,
			before: (app) => {
				app.addHook("preParsing", async (request, _reply, body) => {
					if (request.headers["content-encoding"] !== "gzip") return body;
					const gunzip = Object.assign(createGunzip(), { receivedEncodedLength: 0 });
					body.on("data", (chunk: Buffer) => {
						gunzip.receivedEncodedLength += chunk.length;
					});
					return body.pipe(gunzip);
				});
			},
		});
		channel = await unzipping.open(payer);
		const draft = await payer.voucher(await unzipping.challenge("/session"), channel, 5n * PRICE);
		const body = gzipSync(JSON.stringify({ n: "1".repeat(100) }));
		const headers = { "Content-Encoding": "gzip" };
		expectPaid(await unzipping.pay("/echo", draft, { method: "POST", body, headers }));
		expectPaid(await unzipping.pay("/echo", draft, { method: "POST", body, headers, key: "k" }));
	});
});
