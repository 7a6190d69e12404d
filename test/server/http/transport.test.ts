import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { parseChallenges, parseProblem, WWW_AUTHENTICATE } from "../../../src/protocol/index.ts";
import { type FetchOptions, paid } from "../../../src/server/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { answerOf } from "../../support/faces.ts";
import {
	type Answer,
	createWorld,
	encode,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	type TestChannel,
	type World,
} from "../../support/world.ts";

const ELSEWHERE = "203.0.113.5";
const price = { price: PRICE };

const routes: Routes = (app, { handler }) => {
	app.get("/session", { config: { payment: price } }, handler("/session"));
	app.get("/computed", { config: { payment: () => price } }, handler("/computed"));
	app.get("/free", handler("/free"));
};
/** Answers from a cache before anybody has looked at the payment. */
const caching: Routes = (app) => {
	app.addHook("onRequest", async (request, reply) => (request.headers["x-cached"] ? reply.send("cached") : undefined));
};

let world: World;
let server: PaidServer;
let proxied: PaidServer;
let open: PaidServer;
let payer: Payer;
let channel: TestChannel;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	server = await world.serve({ routes, before: caching });
	proxied = await world.serve({ routes, fastify: { trustProxy: true } });
	open = await world.serve({ routes, engine: { allowPlainHttp: true } });
});
afterAll(() => world.stop());
beforeEach(async () => {
	channel = await server.open(payer);
});

type Headers = Readonly<Record<string, string>>;

/** A request as it comes from an address; without a socket, which can't come from everywhere. */
async function from(at: PaidServer, remoteAddress: string, path: string, headers: Headers = {}, method = "GET") {
	const response = await at.inject({ method: method as "GET", url: path, headers, remoteAddress });
	const isProblem = response.headers["content-type"]?.toString().startsWith("application/problem+json") ?? false;
	const json = isProblem && response.body !== "" ? parseProblem(response.json()) : undefined;
	const header = (name: string) => response.headers[name.toLowerCase()]?.toString();
	return {
		status: response.statusCode,
		headers: response.headers as Answer["headers"],
		header,
		text: response.body,
		json,
		problem: json,
		receipt: undefined,
		challenges: parseChallenges(header(WWW_AUTHENTICATE) ?? "").map(({ challenge }) => challenge),
	};
}

const voucherFor = async (at: PaidServer, own: TestChannel) =>
	encode(await payer.voucher(await at.challenge("/session"), own, PRICE));

describe("the Fastify face", () => {
	it("plain HTTP from another machine is refused without a challenge, unless the server is told otherwise", async () => {
		for (const address of [ELSEWHERE, "10.0.0.1", "::ffff:203.0.113.5", "2001:db8::1", "128.0.0.1"])
			for (const path of ["/session", "/computed"]) {
				const answer = await from(server, address, path);
				expectRefusal(answer, "forbidden");
				expect(answer.problem?.detail).toMatch(/HTTPS/);
				expect(answer.header(WWW_AUTHENTICATE)).toBeUndefined();
			}
		expect((await from(open, ELSEWHERE, "/session")).status).toBe(402);
		expect((await from(server, ELSEWHERE, "/free")).status).toBe(200);
		for (const address of ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
			expect((await from(server, address, "/session")).status, address).toBe(402);
	});

	it("a credential that came over plain HTTP from another machine is refused and charges nothing", async () => {
		const authorization = await voucherFor(server, channel);
		await unchanged(server, [channel], async () => {
			for (const method of ["GET", "HEAD"]) {
				const answer = await from(server, ELSEWHERE, "/session", { authorization }, method);
				expect(answer.status).toBe(403);
				expect(answer.header("payment-receipt")).toBeUndefined();
			}
		});
		expectPaid(await server.send("/session", { authorization }));
	});

	it("behind a proxy that it trusts goes by what the proxy says: https is taken, http is not, and the client's address counts", async () => {
		const via = (headers: Headers) =>
			from(proxied, "127.0.0.1", "/session", { "x-forwarded-for": ELSEWHERE, ...headers });
		expect((await via({ "x-forwarded-proto": "https" })).status).toBe(402);
		expectRefusal(await via({ "x-forwarded-proto": "http" }), "forbidden");
		expectRefusal(await via({}), "forbidden");
		// Nobody is believed whom the server was not told to trust.
		const forged = { "x-forwarded-proto": "https", "x-forwarded-for": "127.0.0.1" };
		expectRefusal(await from(server, ELSEWHERE, "/session", forged), "forbidden");
	});

	it("an answer from a cache in front of the payment becomes no challenge over plain HTTP either", async () => {
		const cached = { "x-cached": "1" };
		expectRefusal(await from(server, ELSEWHERE, "/session", cached), "forbidden");
		expectRefusal(await from(server, "127.0.0.1", "/session", cached), "payment-required");
		expect((await from(server, ELSEWHERE, "/free", cached)).text).toBe("cached");
	});
});

describe("the fetch face", () => {
	let calls = 0;
	const ask = async (at: PaidServer, url: string, headers: Headers = {}, options: FetchOptions = {}) => {
		const handle = paid(at.engine, price, () => new Response(String(++calls)), options);
		return answerOf(await handle(new Request(url, { headers })));
	};

	it("plain HTTP from another machine is refused without a challenge, unless the server is told otherwise", async () => {
		for (const url of [
			"http://api.example.com/session",
			"http://203.0.113.5:8080/session",
			"http://127.0.0.1.example.com/",
		])
			expectRefusal(await ask(server, url), "forbidden");
		expect((await ask(open, "http://api.example.com/session")).status).toBe(402);
		for (const url of [
			"https://api.example.com/session",
			"http://localhost:3000/",
			"http://[::1]/",
			"http://127.0.0.1/",
		])
			expect((await ask(server, url)).status, url).toBe(402);
	});

	it("a credential that came over plain HTTP from another machine is refused and charges nothing", async () => {
		const authorization = await voucherFor(server, channel);
		const before = calls;
		await unchanged(server, [channel], async () => {
			expectRefusal(await ask(server, "http://api.example.com/session", { authorization }), "forbidden");
		});
		expect(calls).toBe(before);
		expectPaid(await ask(server, "https://api.example.com/session", { authorization }));
	});

	it("behind a proxy goes by what option transport makes of the request", async () => {
		const options: FetchOptions = {
			transport: ({ headers }) => ({ isSecure: headers.get("x-forwarded-proto") === "https", isLoopback: false }),
		};
		const via = (headers: Headers, url = "http://10.0.0.1/") => ask(server, url, headers, options);
		expect((await via({ "x-forwarded-proto": "https" })).status).toBe(402);
		expectRefusal(await via({ "x-forwarded-proto": "http" }), "forbidden");
		expectRefusal(await via({}, "https://api.example.com/"), "forbidden");
	});
});
