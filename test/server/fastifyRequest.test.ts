import { once } from "node:events";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import Fastify, { type FastifyInstance } from "fastify";
import { afterEach, expect, test } from "vitest";
import { headersOf } from "../../src/server/fastifyRequest.ts";

const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
	for (const stop of stops.splice(0).reverse()) await stop();
});

/** Listens, and answers with what the plugin reads of a request's head. */
async function reader(http2: boolean): Promise<number> {
	const app = http2 ? (Fastify({ http2: true }) as unknown as FastifyInstance) : Fastify();
	app.get("/", async (request) => headersOf(request));
	stops.push(() => app.close());
	return Number(new URL(await app.listen({ host: "127.0.0.1", port: 0 })).port);
}

async function read(fields: readonly string[]) {
	const socket = connect(await reader(false), "127.0.0.1");
	socket.write(["GET / HTTP/1.1", "host: test", "connection: close", ...fields, "", ""].join("\r\n"));
	const answer = await text(socket);
	return JSON.parse(answer.slice(answer.indexOf("\r\n\r\n")));
}

test("of several Authorization fields all count, however they are written, in their order", async () => {
	expect(await read(["Authorization: Payment a", "X-Authorized: b", "aUTHORIZATION: Payment c"])).toEqual({
		authorization: ["Payment a", "Payment c"],
	});
});

test("a field of another name with as many letters is none, and nor is one that another holds", async () => {
	expect(await read(["Authorizatiom: Payment a", "X-Other: Authorization", "Idempotency-Key: k"])).toEqual({
		authorization: [""],
		idempotencyKey: "k",
	});
});

test("the same over HTTP/2", async () => {
	const session: ClientHttp2Session = connectHttp2(`http://127.0.0.1:${await reader(true)}`);
	stops.push(async () => session.close());
	const stream = session.request({ ":path": "/", authorization: "Payment a" });
	await once(stream, "response");
	expect(JSON.parse(await text(stream))).toEqual({ authorization: ["Payment a"] });
});

test("and where Fastify is asked without a socket", async () => {
	const app = Fastify();
	app.get("/", async (request) => headersOf(request));
	const answer = await app.inject({ url: "/", headers: { Authorization: "Payment a" } });
	expect(answer.json()).toEqual({ authorization: ["Payment a"] });
});
