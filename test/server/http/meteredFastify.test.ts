/** Metered answers as Fastify makes them: of every kind, through other hooks, with trailers, and over HTTP/2. */
import { once } from "node:events";
import { connect, constants } from "node:http2";
import { Readable, Transform } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import Fastify, { type FastifyInstance, type FastifyRequest } from "fastify";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { decodeReceipt } from "../../../src/protocol/index.ts";
import { meterOf, type Piece, sluice } from "../../../src/server/index.ts";
import { MeteredPayer } from "../../support/meteredStage.ts";
import { encode } from "../../support/payer.ts";
import { readEvents } from "../../support/streamReader.ts";
import { useWorld } from "../../support/useWorld.ts";
import { type PaidServer, type Routes, standardRoutes } from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: MeteredPayer;
let ended = 0;

const byPiece = { config: { payment: { price: 1n, metered: { per: "piece", stallMs: 100 } } } } as const;
/** Where a voucher is sent while the answer waits for it. */
const patient = { config: { payment: { price: 1n, metered: { per: "piece", stallMs: 20_000 } } } } as const;
const counted = { config: { payment: { price: 1n, metered: true } } } as const;

async function* events(...pieces: string[]): AsyncGenerator<Piece> {
	try {
		for (const data of pieces) yield { data };
	} finally {
		ended++;
	}
}

async function* lines(): AsyncGenerator<string> {
	for (const line of ["one\n", "two\n", "three\n"]) {
		yield line;
		await sleep(5);
	}
}

async function* countedLines({ payment }: Pick<FastifyRequest, "payment">): AsyncGenerator<string> {
	for (let n = 1; n <= 100; n++) {
		await meterOf(payment).charge();
		yield `${n}\n`;
	}
}

/** Never begins, but when it is let. */
let gate = Promise.withResolvers<void>();
let entered = Promise.withResolvers<void>();
async function* late(): AsyncGenerator<Piece> {
	try {
		entered.resolve();
		await gate.promise;
		yield { data: "late" };
	} finally {
		ended++;
	}
}

const routes: Routes = async (app: FastifyInstance, kit) => {
	await standardRoutes(app, kit);
	app.get("/generator", counted, async function* ({ payment }) {
		await meterOf(payment).charge(2);
		yield { data: "two units" };
	});
	app.get("/returned", byPiece, async () => events("a", "b"));
	app.get("/sent", byPiece, (_, reply) => void reply.send(events("a", "b")));
	app.get("/sent-async", byPiece, async (_, reply) => reply.header("x-own", "kept").send(events("a", "b")));
	app.get("/text", byPiece, async (_, reply) => reply.type("text/plain").send(lines()));
	app.get("/json-lines", byPiece, async (_, reply) => reply.type("application/x-ndjson").send(lines()));
	app.get("/node", byPiece, async (_, reply) => reply.type("text/plain").send(Readable.from(lines())));
	app.get("/web", byPiece, async (_, reply) => {
		return reply.type("text/plain").send(Readable.toWeb(Readable.from(encoded(lines()))));
	});
	app.get(
		"/node-counted",
		{ config: { payment: { price: 1n, metered: { stallMs: 100 } } } },
		async (request, reply) => {
			return reply.type("text/plain").send(Readable.from(countedLines(request)));
		},
	);
	app.get("/object", byPiece, async () => ({ whole: true }));
	app.get("/late", byPiece, async () => late());
	app.get("/held", byPiece, async () => {
		entered.resolve();
		await gate.promise;
		return events("never asked for");
	});
	app.get("/bad-head", byPiece, async (_, reply) => reply.header("x-name", "caf\u4e16").send(events("never")));
	app.get("/shouted", {
		...byPiece,
		onSend: async (_request, _reply, payload) => (payload as Readable).pipe(shouting()),
		preSerialization: async () => ({ wrapped: "what is no stream" }),
		handler: async (_, reply) => reply.type("text/plain").send(lines()),
	});
	app.get("/length", byPiece, async (_, reply) => reply.type("text/plain").header("content-length", 14).send(lines()));
};

async function* endless(): AsyncGenerator<Piece> {
	try {
		for (let data = 0; ; data++) {
			yield { data };
			await sleep(5);
		}
	} finally {
		ended++;
	}
}

async function* encoded(texts: AsyncIterable<string>) {
	for await (const text of texts) yield new TextEncoder().encode(text);
}

function shouting(): Transform {
	return new Transform({ transform: (chunk, _, done) => done(null, String(chunk).toUpperCase()) });
}

beforeAll(async () => {
	server = await world.serve({ routes });
});
beforeEach(async () => {
	ended = 0;
	gate = Promise.withResolvers();
	entered = Promise.withResolvers();
	payer = await MeteredPayer.open(await world.payer(), server, server.url, 10_000n);
});
afterAll(() => world.stop());

describe("an async iterable", () => {
	it.each(["/returned", "/sent", "/sent-async"])("%s is a stream of events, charged by the piece", async (path) => {
		const reader = await payer.read(path, 10n);
		expect(reader.header("content-type")).toBe("text/event-stream");
		const { pieces, receipt } = await readEvents(reader);
		expect(pieces).toEqual(["a", "b"]);
		expect(receipt).toMatchObject({ spent: 2n, units: 2 });
		await payer.expectLedger(2n);
	});

	it("may be the handler itself, an async generator function", async () => {
		const { pieces, receipt } = await readEvents(await payer.read("/generator", 10n));
		expect([pieces, receipt]).toMatchObject([["two units"], { spent: 2n, units: 2 }]);
	});

	it("keeps the head that its handler has made", async () => {
		expect((await payer.read("/sent-async", 10n)).header("x-own")).toBe("kept");
		const { text, headers } = await payer.get("/text", 11n);
		expect(text).toBe("one\ntwo\nthree\n");
		expect(headers).toMatchObject({ "content-type": expect.stringMatching(/^text\/plain/) });
	});

	it("passes the application's own onSend hooks as a stream, and is charged by what they make of it", async () => {
		const answer = await payer.get("/shouted", 10n);
		expect(answer).toMatchObject({ status: 200, text: "ONE\nTWO\nTHREE\n" });
		await payer.expectLedger(3n);
	});

	it("with a head that can't be sent is never asked, and costs nothing (I7)", async () => {
		expect((await payer.get("/bad-head", 10n)).status).toBe(500);
		await payer.expectLedger(0n);
	});
});

describe("other answers of a metered route", () => {
	it.each(["/node", "/web", "/json-lines"])("%s, a stream, is charged chunk by chunk", async (path) => {
		expect(await payer.get(path, 10n)).toMatchObject({ status: 200, text: "one\ntwo\nthree\n" });
		await payer.expectLedger(3n);
	});

	it("a Node stream that makes its chunks ahead delivers those that are paid for while the next one is not (I1)", async () => {
		const reader = await payer.read("/node-counted", 10n);
		let text = "";
		await expect(
			(async () => {
				for (let chunk = await reader.read(); chunk !== undefined; chunk = await reader.read()) text += chunk;
			})(),
		).rejects.toThrow();
		expect(text.trim().split("\n")).toHaveLength(10);
		await payer.expectLedger(10n, 10n);
	});

	it("an object is one piece, charged in its head's receipt", async () => {
		expect(await payer.get("/object", 10n)).toMatchObject({ json: { whole: true }, receipt: { spent: 1n, units: 1 } });
	});
});

describe("the receipt of a chunked answer", () => {
	it("comes as a trailer to a client that takes trailers", async () => {
		const reader = await payer.read("/text", 10n, { headers: { TE: "deflate, trailers;q=0.5" } });
		expect(reader.header("trailer")).toBe("payment-receipt");
		expect(reader.receipt).toMatchObject({ spent: 0n });
		expect(await reader.text()).toBe("one\ntwo\nthree\n");
		expect(reader.trailer).toMatchObject({ spent: 3n, units: 3, acceptedCumulative: 10n });
		await payer.expectLedger(3n);
	});

	it("does so also where the handler has said the length", async () => {
		const reader = await payer.read("/length", 10n, { headers: { TE: "trailers" } });
		expect(reader.header("content-length")).toBeUndefined();
		expect(await reader.text()).toBe("one\ntwo\nthree\n");
		expect(reader.trailer).toMatchObject({ spent: 3n });
	});

	it.each([
		["/text", {}],
		["/length", {}],
		["/text", { TE: "gzip, trailersome" }],
		// Event streams end with it anyway.
		["/returned", { TE: "trailers" }],
		["/object", { TE: "trailers" }],
	])("does not for %s with %j", async (path, headers) => {
		const reader = await payer.read(path, 10n, { headers });
		expect(reader.header("trailer")).toBeUndefined();
		await reader.text();
		expect(reader.trailer).toBeUndefined();
	});

	it("does not come where the answer breaks off: it is cut, and a client sees it", async () => {
		const reader = await payer.read("/text", 2n, { headers: { TE: "trailers" } });
		await expect(reader.text()).rejects.toThrow();
		expect(reader.trailer).toBeUndefined();
		await payer.expectLedger(2n, 2n);
	});
});

describe("a client that leaves before there is anything to send", () => {
	it("while the first piece is made pays nothing, and ends the iterator (I7)", async () => {
		const leaving = new AbortController();
		const cut = payer.get("/late", 10n, { signal: leaving.signal }).catch(() => "cut");
		await entered.promise;
		leaving.abort();
		expect(await cut).toBe("cut");
		await payer.expectLedger(0n, 10n);
		gate.resolve();
		await expect.poll(() => ended).toBe(1);
		expect(await payer.get("/returned", 10n)).toMatchObject({ status: 200 });
	});

	it("while the handler works pays nothing (I7)", async () => {
		const leaving = new AbortController();
		const cut = payer.get("/held", 10n, { signal: leaving.signal }).catch(() => "cut");
		await entered.promise;
		leaving.abort();
		expect(await cut).toBe("cut");
		await payer.expectLedger(0n, 10n);
		gate.resolve();
		expect(await payer.get("/returned", 10n)).toMatchObject({ status: 200 });
		await payer.expectLedger(2n);
	});
});

describe("over HTTP/2", () => {
	it("leaves piece by piece as well, takes vouchers on the same connection, and has trailers", async () => {
		const app = Fastify({ http2: true });
		await app.register(sluice, { engine: server.engine });
		app.get("/events", patient, async () => events("a", "b", "c"));
		app.get("/text", patient, async (_, reply) => reply.type("text/plain").send(lines()));
		app.get("/endless", patient, async () => endless());
		const session = connect(await app.listen({ host: "127.0.0.1", port: 0 }));
		const ask = async (path: string, amount: bigint, headers: Record<string, string> = {}) => {
			const authorization = encode(await payer.voucher(amount));
			const stream = session.request({ ":path": path, authorization, ...headers });
			stream.setEncoding("utf8");
			const [head] = (await once(stream, "response")) as [Record<string, string>];
			return { stream, head };
		};
		const { stream, head } = await ask("/events", 1n);
		expect(head).toMatchObject({ ":status": 200, "payment-receipt": expect.any(String) });
		let text = "";
		for await (const chunk of stream) {
			text += chunk;
			if (String(chunk).includes("payment-need-voucher"))
				(await ask("/events", 5n, { ":method": "HEAD" })).stream.resume();
		}
		expect(text).toMatch(
			/data: a\n\nevent: payment-need-voucher[\s\S]*data: b\n\ndata: c\n\n[\s\S]*event: payment-receipt/,
		);
		await payer.expectLedger(3n, 5n);

		const plain = await ask("/text", 10n, { te: "trailers" });
		const trailed = once(plain.stream, "trailers");
		for await (const _ of plain.stream);
		const [trailers] = (await trailed) as [Record<string, string>];
		expect(decodeReceipt(trailers["payment-receipt"] ?? "")).toMatchObject({ spent: 6n, units: 3 });
		await payer.expectLedger(6n, 10n);

		// A stream that its client resets.
		const reset = await ask("/endless", 1_000n);
		ended = 0;
		reset.stream.close(constants.NGHTTP2_CANCEL);
		await expect.poll(() => ended).toBe(1);
		const spent = await spentSoFar();
		expect(spent).toBeGreaterThan(6n);
		await payer.expectLedger(spent, 1_000n);
		session.close();
		await app.close();
	});
});

async function spentSoFar(): Promise<bigint> {
	await expect.poll(() => server.amounts(payer.channel)).toMatchObject({ reserved: 0n });
	return (await server.amounts(payer.channel))?.spent ?? 0n;
}
