import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodeRequest, isOurChallenge, parseSessionRequest } from "../../../src/protocol/index.ts";
import { CANONICAL_PERMIT2 } from "../../../src/voucher/index.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import {
	createWorld,
	DEPOSIT,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	type ServerOptions,
	type World,
} from "../../support/world.ts";

let world: World;
let payer: Payer;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
});
afterAll(() => world.stop());

const paid = { config: { payment: { price: PRICE } } };

/** One handler under many routes, all of them paid. */
const routes: Routes = async (app, { handler }) => {
	const serve = handler("paid");
	app.get("/paid", paid, serve);
	app.post("/paid", paid, serve);
	app.options("/paid", paid, serve);
	app.get("/item/:id", paid, serve);
	app.get("/all/*", paid, serve);
	app.all("/any", paid, serve);
	app.get("/two/:a-:b", paid, serve);
	app.get("/optional/:x?", paid, serve);
	await app.register(async (child) => void child.get("/paid", paid, serve), { prefix: "/v1" });
	await app.register(
		async (child) => {
			await child.register(async (inner) => void inner.get("/paid", paid, serve), { prefix: "/inner" });
		},
		{ prefix: "/v2" },
	);
};

async function expectNeverServed(server: PaidServer, requests: readonly (readonly [method: string, path: string])[]) {
	const before = server.calls();
	for (const [method, path] of requests) {
		const answer = await server.send(path, { method, ...(method === "POST" && { body: "{}" }) });
		expect([402, 404], `${method} ${path} answered ${answer.status}`).toContain(answer.status);
		expect(answer.receipt).toBeUndefined();
		if (answer.status !== 402) continue;
		expect(answer.challenges.length, `${method} ${path}`).toBe(1);
		expect(answer.header("cache-control")).toBe("no-store");
		if (method !== "HEAD") expectRefusal(answer, "payment-required");
	}
	expect(server.calls()).toBe(before);
}

const spellings = [
	"/paid",
	"/paid/",
	"//paid",
	"/paid//",
	"///paid",
	"/%70aid",
	"/p%61id",
	"/paid%2F",
	"/paid%20",
	"/PAID",
	"/Paid",
	"/paid?",
	"/paid?free=1",
	"/paid?x=/free",
	"/paid#x",
	"/paid;x=1",
	"/./paid",
	"/free/../paid",
	"/item/1",
	"/item/1%2F2",
	"/item/%31",
	"/item/",
	"/all/",
	"/all/a/b/c",
	"/all/%2e%2e/paid",
	"/two/1-2",
	"/optional",
	"/optional/",
	"/optional/1",
	"/v1/paid",
	"/v1//paid",
	"/V1/paid/",
	"/v2/inner/paid",
];

describe("an unpaid request never reaches the handler", () => {
	const routerOptions = [
		{},
		{ ignoreTrailingSlash: true },
		{ ignoreDuplicateSlashes: true },
		{ caseSensitive: false },
		{ ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, caseSensitive: false, useSemicolonDelimiter: true },
	];

	it.each(routerOptions)("however its path is spelled, with router options %o", async (options) => {
		const server = await world.serve({ routes, fastify: { routerOptions: options } });
		const methods = ["GET", "HEAD", "POST", "OPTIONS", "DELETE"];
		await expectNeverServed(
			server,
			spellings.flatMap((path) => methods.map((method) => [method, path] as const)),
		);
		// All of it would have been served: the routes are there.
		const channel = await server.open(payer, {}, "/paid");
		const draft = await payer.voucher(await server.challenge("/paid"), channel, 9n * PRICE);
		for (const path of ["/paid", "/item/1", "/all/x", "/v1/paid", "/v2/inner/paid"])
			expectPaid(await server.pay(path, draft, { key: path }));
		expect(server.calls()).toBe(5);
	});

	it("whatever its method, where the route takes all", async () => {
		const server = await world.serve({ routes });
		const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
		await expectNeverServed(
			server,
			methods.map((method) => [method, "/any"] as const),
		);
	});

	it("with credentials of other schemes", async () => {
		const server = await world.serve({ routes });
		const before = server.calls();
		for (const authorization of ["Basic dTpw", "Bearer abc", "", "Paymen abc", "PaymentX abc", 'Digest a="Payment b"'])
			expectRefusal(await server.send("/paid", { authorization }), "payment-required");
		expect(server.calls()).toBe(before);
	});

	it("where the route was declared before the plugin", async () => {
		const server = await world.serve({ before: (app, kit) => routes(app, kit), routes: () => undefined });
		await expectNeverServed(server, [
			["GET", "/paid"],
			["POST", "/paid"],
			["HEAD", "/item/1"],
		]);
	});

	it("where the route is in a plugin that was registered before: it is guarded, or the start is refused", async () => {
		const before: Routes = async (app, { handler }) => {
			await app.register(async (child) => void child.get("/early", paid, handler("early")));
		};
		const outcome = await world.serve({ before }).catch((error: unknown) => error);
		if (outcome instanceof Error) return expect(outcome.message).toMatch(/sluice|register/i);
		const server = outcome as PaidServer;
		expect((await server.send("/early")).status).toBe(402);
		expect(server.calls("early")).toBe(0);
	});
});

describe("a free route", () => {
	it("is free, payment or none, and `request.payment` is null", async () => {
		const server = await world.serve({
			routes: (app, { handler }) => {
				app.get(
					"/free",
					handler("free", (request) => ({ payment: request.payment })),
				);
			},
		});
		for (const authorization of [undefined, "Payment x", "Basic dTpw"]) {
			const answer = await server.send("/free", authorization === undefined ? {} : { authorization });
			expect(answer.json).toEqual({ payment: null });
			expect(answer.receipt).toBeUndefined();
		}
		expect((await server.send("/nothing")).status).toBe(404);
	});
});

describe("a challenge", () => {
	it("states the route's terms, is ours, and is unlike any other (D9)", async () => {
		const secret = randomBytes(32).toString("base64url");
		const server = await world.serve({ engine: { secrets: [secret], realm: "api.example" } });
		const seen = new Set<string>();
		for (let n = 0; n < 20; n++) {
			const challenge = await server.challenge("/session");
			expect(challenge).toMatchObject({ realm: "api.example", method: "evm", intent: "session" });
			expect(isOurChallenge([secret], challenge)).toBe(true);
			expect(Date.parse(challenge.expires ?? "")).toBeGreaterThan(server.clock.now());
			seen.add(challenge.id);
		}
		expect(seen.size).toBe(20);
		expect(parseSessionRequest(decodeRequest(await server.challenge("/session")))).toEqual({
			amount: PRICE,
			unitType: "request",
			suggestedDeposit: DEPOSIT,
			currency: world.token,
			recipient: server.payee,
			methodDetails: {
				chainId: world.chain.chainId,
				escrowContract: world.escrow,
				feePayer: true,
				credentialTypes: ["authorization", "permit2", "hash"],
				permit2Contract: CANONICAL_PERMIT2,
			},
		});
	});

	it("comes once for each offer of a route, in the route's order, and each can be answered", async () => {
		const server = await world.serve({
			routes: (app, { handler }) => {
				const payment = [{ price: 70n, intent: "charge" as const }, { price: PRICE }];
				app.get(
					"/both",
					{ config: { payment } },
					handler("both", (request) => ({ payment: request.payment?.intent })),
				);
			},
		});
		const { challenges } = await server.send("/both");
		expect(challenges.map(({ intent }) => intent)).toEqual(["charge", "session"]);
		const [charge, session] = challenges;
		if (charge === undefined || session === undefined) throw new Error("two challenges");
		const charged = await server.pay("/both", await payer.charge(charge, server.payee, 70n));
		expect(charged.json).toEqual({ payment: "charge" });
		const opened = await server.pay(
			"/both",
			await payer.open(session, payer.channel(server.payee), { deposit: DEPOSIT, amount: PRICE }),
		);
		expect(opened.json).toEqual({ payment: "session" });
	});

	it("of the secret before the last is still good after a rotation, of a forgotten one is not (D9)", async () => {
		const [old, fresh] = [randomBytes(32).toString("base64url"), randomBytes(32).toString("base64url")];
		const server = await world.serve({ engine: { secrets: [old] } });
		const channel = await server.open(payer);
		const [one, two] = [await server.challenge("/session"), await server.challenge("/session")];
		await server.restart({ engine: { secrets: [fresh, old] } });
		expectPaid(await server.pay("/session", await payer.voucher(one, channel, PRICE)));
		expect(isOurChallenge([fresh], await server.challenge("/session"))).toBe(true);
		await server.restart({ engine: { secrets: [fresh] } });
		const refused = await server.pay("/session", await payer.voucher(two, channel, 2n * PRICE));
		expectRefusal(refused, "session/challenge-not-found");
	});
});

describe("a price that is no price", () => {
	const started = (options: Partial<ServerOptions>) => world.serve(options).then(() => "it started", String);

	const bad: readonly object[] = [
		{ price: 0n },
		{ price: -1n },
		{ price: "1.5" },
		{ price: 2n ** 128n },
		{},
		{ price: PRICE, intent: "subscription" },
		{ price: PRICE, prize: 1 },
		{ price: PRICE, suggestedDeposit: -1n },
		{ price: PRICE, suggestedDeposit: 2n ** 128n },
		{ price: PRICE, description: "two\nlines" },
		{ price: PRICE, externalId: "\ud800" },
	];

	it.each(bad)("%o is refused when its route is declared, not when somebody asks for it", async (payment) => {
		const declared = started({
			routes: (app, { handler }) => {
				app.get("/bad", { config: { payment: payment as { price: bigint } } }, handler("bad"));
			},
		});
		expect(await declared).toMatch(/GET \/bad: payment/);
	});

	it("serves nothing where its route was declared before the plugin, which Fastify does not show to it", async () => {
		const server = await world.serve({
			before: (app, { handler }) => {
				app.get("/bad", { config: { payment: { price: 0n } } }, handler("bad"));
			},
		});
		expect(await server.send("/bad")).toMatchObject({ status: 500 });
		expect(server.calls("bad")).toBe(0);
	});
});
