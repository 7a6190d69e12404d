import { connect } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import { FACES, type Face, payAt, type Served, Site } from "../../support/faces.ts";
import { send } from "../../support/http.ts";
import {
	type Answer,
	createWorld,
	DEPOSIT,
	encode,
	type PaidServer,
	type Payer,
	PRICE,
	type Send,
	type TestChannel,
	type World,
} from "../../support/world.ts";

const session = { price: PRICE };
const charge = { price: PRICE, intent: "charge" } as const;
const EVENTS = "event: tick\ndata: 1\n\nevent: tick\ndata: 2\n\n";

async function* pieces(...texts: string[]): AsyncGenerator<string> {
	for (const text of texts) {
		await new Promise((resolve) => setTimeout(resolve, 5));
		yield text;
	}
}

async function* failing(...texts: string[]): AsyncGenerator<string> {
	yield* pieces(...texts);
	await new Promise((resolve) => setTimeout(resolve, 50));
	throw new Error("the source broke");
}

/** Holds the second half of a stream back. */
let half = Promise.withResolvers<void>();
async function* halves(): AsyncGenerator<string> {
	yield "first";
	await half.promise;
	yield ", then the rest";
}

const answering = (served: Served | (() => Served)) => ({
	price: session,
	serve: () => (typeof served === "function" ? served() : served),
});
const events = [["content-type", "text/event-stream; charset=utf-8"]] as const;

const site = new Site({
	"/session": { price: session, serve: ({ body, method }) => ({ body: `${method} ${body}` }) },
	"/charge": { price: charge, serve: ({ body, method }) => ({ body: `${method} ${body}` }) },
	"/who": {
		price: session,
		serve: (_, { amount, ...payment }) => ({ body: JSON.stringify({ ...payment, amount: String(amount) }) }),
	},
	"/throws": answering(() => {
		throw new Error("no luck");
	}),
	"/403": answering({ status: 403, body: "not for you" }),
	"/404": answering({ status: 404 }),
	"/500": answering({ status: 500, body: "broken" }),
	"/503": answering({ status: 503, headers: [["retry-after", "7"]] }),
	"/204": answering({ status: 204 }),
	"/empty": answering({ body: "" }),
	"/bytes": answering({ status: 201, headers: [["content-type", "image/x"]], body: new Uint8Array([0, 255, 1]) }),
	"/cookies": answering({
		headers: [
			["set-cookie", "a=1"],
			["set-cookie", "b=2; Expires=Sat, 01 Jan 2050 00:00:00 GMT"],
		],
		body: "ok",
	}),
	"/cached": answering({ headers: [["cache-control", "public, max-age=600"]], body: "cached?" }),
	"/redirect": answering({ status: 302, headers: [["location", "/elsewhere"]] }),
	"/stream": answering(() => ({ body: pieces("in ", "parts") })),
	"/halves": answering(() => ({ body: halves() })),
	"/fails-first": answering(() => ({ body: failing() })),
	"/fails-late": answering(() => ({ body: failing("half") })),
	"/events": answering({ headers: events, body: EVENTS }),
	"/event-stream": answering(() => ({ headers: events, body: pieces(...EVENTS.split(/(?<=\n\n)/)) })),
	"/event-charge": { price: charge, serve: () => ({ headers: events, body: pieces(EVENTS) }) },
	"/packed-events": answering({ headers: [...events, ["content-encoding", "gzip"]], body: new Uint8Array([31, 139]) }),
});

let world: World;
let server: PaidServer;
let payer: Payer;
let channel: TestChannel;
let origins: Record<Face, string>;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	server = await world.serve({ routes: site.routes });
	origins = { fastify: server.url, fetch: await site.listen(server.engine) };
});
afterAll(async () => {
	await site.stop();
	await world.stop();
});
beforeEach(async () => {
	half = Promise.withResolvers();
	channel = await server.open(payer);
});

/** Everything that a server says to these lines before it closes. */
async function raw(origin: string, head: readonly string[], body = ""): Promise<string> {
	const { hostname, port } = new URL(origin);
	const socket = connect({ host: hostname, port: Number(port) });
	socket.write(`${head.join("\r\n")}\r\n\r\n${body}`);
	let text = "";
	for await (const chunk of socket) text += String(chunk);
	return text;
}

const spent = async () => (await server.amounts(channel))?.spent;
const held = async () => (await server.amounts(channel))?.reserved;

describe.each(FACES)("the %s face", (face) => {
	const ask = (path: string, options: Send = {}) => send(origins[face], path, options);
	const challengeOf = ({ challenges: [challenge], status }: Answer) => {
		if (challenge === undefined) throw new Error(`${status} without a challenge`);
		return challenge;
	};
	const voucher = async (amount = PRICE) => payer.voucher(challengeOf(await ask("/session")), channel, amount);
	const pay = async (path: string, options: Omit<Send, "authorization"> = {}, amount = PRICE) =>
		payAt(origins[face], path, await voucher(amount), options);
	const charged = async (path: string, options: Send = {}) =>
		payer.charge(challengeOf(await ask(path, options)), server.payee, PRICE);
	const costsNothing = async () => {
		await expect.poll(() => server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: 0n, reserved: 0n });
		expectPaid(await pay("/session"));
	};

	it("refuses what is not paid for with a challenge, and does not ask the handler", async () => {
		const before = site.calls("/session");
		for (const method of ["GET", "POST", "PUT", "DELETE"])
			expectRefusal(await ask("/session", { method }), "payment-required");
		expect(site.calls("/session")).toBe(before);
		expect((await ask("/nothing")).status).toBe(404);
	});

	it("opens a channel, serves what its voucher covers, and charges for it", async () => {
		const own = payer.channel(server.payee);
		const challenge = challengeOf(await ask("/session"));
		const opened = await payAt(
			origins[face],
			"/session",
			await payer.open(challenge, own, { deposit: DEPOSIT, amount: PRICE }),
		);
		expectPaid(opened);
		expect(opened.text).toBe("GET ");
		expect(await server.amounts(own)).toEqual({ acceptedCumulative: PRICE, spent: PRICE, reserved: 0n });
	});

	it("serves a voucher once, and tells the handler who paid what", async () => {
		const answer = await pay("/who");
		expectPaid(answer);
		expect(answer.json).toEqual({
			intent: "session",
			amount: String(PRICE),
			payer: payer.address,
			channelId: channel.channelId,
		});
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: PRICE, reserved: 0n });
	});

	it("takes a voucher by HEAD without asking the handler, and charges nothing (D11)", async () => {
		const before = site.calls("/session");
		const answer = await pay("/session", { method: "HEAD" });
		expectPaid(answer);
		expect(answer.text).toBe("");
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: 0n, reserved: 0n });
		expect(site.calls("/session")).toBe(before);
	});

	it("closes a channel, and answers with the receipt (D11)", async () => {
		expectPaid(await pay("/session"));
		const draft = await payer.close(challengeOf(await ask("/session")), channel, PRICE);
		const closed = await payAt(origins[face], "/session", draft, { method: "POST", body: '{"n":1}' });
		expectPaid(closed);
		expect(closed.json).toMatchObject({ channelId: channel.channelId, spent: String(PRICE) });
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: PRICE });
	});

	it("takes a charge, once", async () => {
		const draft = await charged("/charge");
		const answer = await payAt(origins[face], "/charge", draft);
		expectPaid(answer);
		expect(answer.text).toBe("GET ");
		expectRefusal(await payAt(origins[face], "/charge", draft), "invalid-challenge");
	});

	it.each([
		["without a key", {}],
		["with an Idempotency-Key", { key: "k" }],
	])("hands a body on as it came, %s", async (_, options) => {
		const body = JSON.stringify({ text: "x".repeat(10_000) });
		const answer = await pay("/session", { method: "POST", body, ...options });
		expect(answer.text).toBe(`POST ${body}`);
	});

	it("gives the same answer again for an Idempotency-Key, charged and served once; 422 with another body (I6)", async () => {
		const options = { method: "POST", body: '{"n":1}', key: "the same" };
		const before = site.calls("/session");
		const first = await pay("/session", options);
		const again = await pay("/session", options, 2n * PRICE);
		expectPaid(first);
		expect(again).toMatchObject({ status: 200, text: first.text, receipt: first.receipt });
		const other = await pay("/session", { ...options, body: '{"n":2}' }, 2n * PRICE);
		expectRefusal(other, "unprocessable-content");
		expectRefusal(await pay("/session", { method: "POST", key: "the same" }, 2n * PRICE), "unprocessable-content");
		expect(await spent()).toBe(PRICE);
		expect(site.calls("/session")).toBe(before + 1);
	});

	it.each(["/cookies", "/bytes", "/204", "/cached", "/events"])(
		"repeats status, fields and bytes: %s",
		async (path) => {
			const [first, again] = [await pay(path, { key: "k" }), await pay(path, { key: "k" })];
			expectPaid(first);
			for (const name of ["set-cookie", "content-type", "cache-control", "payment-receipt"])
				expect(again.headers[name], name).toEqual(first.headers[name]);
			expect(again).toMatchObject({ status: first.status, text: first.text });
			expect(await spent()).toBe(PRICE);
		},
	);

	it("answers HTTP/1.0, and clients that ask before they send their body", async () => {
		const authorization = `Authorization: ${encode(await voucher(2n * PRICE))}`;
		const old = ["GET /session HTTP/1.0", "Host: 127.0.0.1"];
		const careful = ["POST /session HTTP/1.1", "Host: 127.0.0.1", "Expect: 100-continue", "Connection: close"];
		const json = ["Content-Type: application/json", "Content-Length: 2"];
		expect(await raw(origins[face], old)).toMatch(/^HTTP\/1\.[01] 402 [\s\S]*\r\nwww-authenticate: Payment /i);
		expect(await raw(origins[face], [...careful, ...json], "{}")).toMatch(/^HTTP\/1\.1 100 [\s\S]*HTTP\/1\.1 402 /);
		expect(await spent()).toBe(0n);
		expect(await raw(origins[face], [...old, authorization])).toMatch(/ 200 [\s\S]*\r\npayment-receipt: [\s\S]*GET $/i);
		const again = [...careful, ...json, authorization, "Idempotency-Key: k"];
		expect(await raw(origins[face], again, "{}")).toMatch(/ 200 [\s\S]*\r\npayment-receipt: [\s\S]*POST \{\}/i);
		expect(await spent()).toBe(2n * PRICE);
	});

	it("refuses two Payment credentials in one request", async () => {
		const [one, two] = [encode(await voucher()), encode(await voucher())];
		for (const authorization of [[one, two], `${one}, ${two}`])
			expectRefusal(await ask("/session", { authorization }), "bad-request");
		expect(await spent()).toBe(0n);
	});

	it.each([
		["/throws", 500],
		["/403", 403],
		["/404", 404],
		["/500", 500],
		["/503", 503],
		["/fails-first", 500],
	])("hands %s on as %i, without a receipt, and it costs nothing (I7)", async (path, status) => {
		const answer = await pay(path);
		expect(answer).toMatchObject({ status, receipt: undefined, challenges: [] });
		if (path === "/503") expect(answer.header("retry-after")).toBe("7");
		await costsNothing();
	});

	it("a handler that answers 403 after a good payment is handed on as 403 without a challenge or receipt, and costs nothing", async () => {
		const answer = await pay("/403");
		expect(answer).toMatchObject({ status: 403, text: "not for you", receipt: undefined, challenges: [] });
		expect(answer.header("www-authenticate")).toBeUndefined();
		await costsNothing();
	});

	it.each([
		["/204", 204, ""],
		["/empty", 200, ""],
		["/stream", 200, "in parts"],
		["/redirect", 302, ""],
	])("charges %s: %i %j", async (path, status, text) => {
		const answer = await pay(path);
		expect(answer).toMatchObject({ status, text, receipt: { spent: PRICE } });
		expect(answer.header("cache-control")).toBe("private");
		expect(await server.amounts(channel)).toMatchObject({ spent: PRICE, reserved: 0n });
	});

	it("keeps every cookie, and what is paid for out of shared caches", async () => {
		expect((await pay("/cookies")).headers["set-cookie"]).toEqual([
			"a=1",
			"b=2; Expires=Sat, 01 Jan 2050 00:00:00 GMT",
		]);
		expect((await pay("/cached", {}, 2n * PRICE)).header("cache-control")).toBe("private");
	});

	it("sends a stream's first piece before the rest exists, and has captured it by then (I5)", async () => {
		const response = await fetch(`${origins[face]}/halves`, { headers: { authorization: encode(await voucher()) } });
		const reader = response.body?.getReader();
		expect(new TextDecoder().decode((await reader?.read())?.value)).toBe("first");
		expect(response.headers.get("payment-receipt")).not.toBeNull();
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: PRICE, spent: PRICE, reserved: 0n });
		half.resolve();
		expect(new TextDecoder().decode((await reader?.read())?.value)).toBe(", then the rest");
		expect((await reader?.read())?.done).toBe(true);
	});

	it("charges a stream that breaks after its first byte: it was delivered in part", async () => {
		await expect(pay("/fails-late")).rejects.toThrow();
		expect(await server.amounts(channel)).toMatchObject({ spent: PRICE, reserved: 0n });
	});

	it("gives back what a client was promised that leaves while the handler runs, at once (I7)", async () => {
		const gate = site.hold("/session");
		const leaving = new AbortController();
		const cut = pay("/session", { signal: leaving.signal }).catch(() => "cut");
		await gate.entered;
		expect(await held()).toBe(PRICE);
		leaving.abort();
		expect(await cut).toBe("cut");
		await expect.poll(held).toBe(0n);
		gate.release();
		await costsNothing();
	});

	it.each(["/events", "/event-stream"])(
		"a paid event stream has its receipt in the headers and once more as its last event, payment-receipt: %s",
		async (path) => {
			const answer = await pay(path);
			expectPaid(answer);
			expect(answer.text.startsWith(EVENTS)).toBe(true);
			const last = answer.text.trimEnd().split("\n\n").at(-1)?.trim().split("\n");
			expect(last?.[0]).toBe("event: payment-receipt");
			expect(JSON.parse(last?.[1]?.replace(/^data: /, "") ?? "")).toMatchObject({
				channelId: channel.channelId,
				spent: String(PRICE),
				challengeId: answer.receipt?.challengeId,
			});
			expect(answer.text.match(/event: payment-receipt/g)).toHaveLength(1);
		},
	);

	it("also ends an event stream that a charge paid for with its receipt", async () => {
		const answer = await payAt(origins[face], "/event-charge", await charged("/event-charge"));
		expectPaid(answer);
		const [, data = ""] = answer.text.match(/\n\nevent: payment-receipt\ndata: (.*)\n\n$/) ?? [];
		expect(JSON.parse(data)).toMatchObject({ status: "success", reference: answer.receipt?.reference });
	});

	it("adds no event to a stream that the application has packed already", async () => {
		const answer = await pay("/packed-events");
		expectPaid(answer);
		expect(answer.text).not.toContain("event");
	});
});

describe("one engine behind both faces", () => {
	it("takes at one what was opened, or challenged, at the other, and counts it once", async () => {
		const [challenge] = (await send(origins.fetch, "/session")).challenges;
		if (challenge === undefined) throw new Error("no challenge");
		const draft = await payer.voucher(challenge, channel, PRICE);
		expectPaid(await payAt(origins.fastify, "/session", draft));
		expectRefusal(await payAt(origins.fetch, "/session", draft), "session/insufficient-balance");
		const next = await payer.voucher(challenge, channel, 2n * PRICE);
		const [one, two] = await Promise.all([
			payAt(origins.fetch, "/session", next),
			payAt(origins.fastify, "/session", next),
		]);
		expect([one.status, two.status].sort()).toEqual([200, 402]);
		expect(await server.amounts(channel)).toEqual({ acceptedCumulative: 2n * PRICE, spent: 2n * PRICE, reserved: 0n });
	});

	it("gives the same answer again for an Idempotency-Key at whichever face it is sent to (I6)", async () => {
		const [challenge] = (await send(origins.fetch, "/session")).challenges;
		if (challenge === undefined) throw new Error("no challenge");
		const draft = await payer.voucher(challenge, channel, PRICE);
		const options = { method: "POST", body: '{"n":1}', key: "k" };
		const first = await payAt(origins.fastify, "/session", draft, options);
		const again = await payAt(origins.fetch, "/session", draft, options);
		expectPaid(first);
		expect(again).toMatchObject({ status: 200, text: first.text, receipt: first.receipt });
		expect(await spent()).toBe(PRICE);
	});
});
