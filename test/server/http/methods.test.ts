import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Challenge, decodeBase64urlText, decodeRequest, PAYMENT_RECEIPT } from "../../../src/protocol/index.ts";
import type { PriceConfig } from "../../../src/server/index.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import { FACES, type Face, Site } from "../../support/faces.ts";
import { type Send, send } from "../../support/http.ts";
import { type InvoiceMethod, invoice } from "../../support/invoiceMethod.ts";
import { createWorld, encode, type PaidServer, type Payer, PRICE, type World } from "../../support/world.ts";

const price: readonly PriceConfig[] = [{ price: PRICE }, { method: "invoice", cents: 250n, description: "by invoice" }];
const site = new Site({
	"/both": { price, serve: (_, { payer, amount }) => ({ body: `${amount} from ${payer}` }) },
	"/fails": {
		price,
		serve: () => {
			throw new Error("no luck");
		},
	},
	"/events": {
		price: { method: "invoice", cents: 250n },
		serve: () => ({ headers: [["content-type", "text/event-stream"]], body: "data: 1\n\n" }),
	},
});

let world: World;
let server: PaidServer;
let payer: Payer;
let method: InvoiceMethod;
let origins: Record<Face, string>;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	method = invoice();
	server = await world.serve({ routes: site.routes, engine: { methods: [method] } });
	origins = { fastify: server.url, fetch: await site.listen(server.engine) };
});
afterAll(async () => {
	await site.stop();
	await world.stop();
});

describe.each(FACES)("a payment method of somebody else's, at the %s face", (face) => {
	const ask = (path: string, options: Send = {}) =>
		// Its receipts are not the drafts' of `evm`, which the test's answers read.
		send(origins[face], path, options);
	const challengeOf = async (path = "/both"): Promise<Challenge> => {
		const { challenges } = await ask(path, { headers: { "Accept-Payment": "invoice/*" } });
		const [challenge] = challenges;
		if (challenge === undefined) throw new Error("no challenge");
		return challenge;
	};
	const pay = async (challenge: Challenge, number: string, path = "/both") => {
		const response = await fetch(`${origins[face]}${path}`, {
			headers: { authorization: encode({ challenge, payload: { number } }) },
		});
		const receipt = response.headers.get(PAYMENT_RECEIPT);
		return {
			status: response.status,
			text: await response.text(),
			cache: response.headers.get("cache-control"),
			receipt: receipt === null ? undefined : (JSON.parse(decodeBase64urlText(receipt)) as Record<string, unknown>),
		};
	};
	let number: string;
	beforeEach(() => {
		number = method.invoice(250n);
	});

	it("stands beside evm in one 402, bound and described like any other", async () => {
		const { challenges } = await ask("/both");
		expect(challenges.map((one) => `${one.method}/${one.intent}`)).toEqual(["evm/session", "invoice/charge"]);
		const [, own] = challenges;
		if (own === undefined) throw new Error("two challenges");
		expect(own).toMatchObject({ realm: "test.sluice.local", description: "by invoice" });
		expect(decodeRequest(own)).toEqual({ amount: "250", currency: "eur" });
		expect(own.expires).toBeDefined();
	});

	it("is chosen by Accept-Payment", async () => {
		expect((await challengeOf()).method).toBe("invoice");
		const { challenges } = await ask("/both", { headers: { "Accept-Payment": "evm/*;q=0.1, invoice/charge" } });
		expect(challenges.map((one) => one.method)).toEqual(["invoice", "evm"]);
	});

	it("takes a payment once, tells the handler, and puts its own receipt on the answer", async () => {
		const answer = await pay(await challengeOf(), number);
		expect(answer).toMatchObject({ status: 200, text: "250 from the bearer", cache: "private" });
		expect(answer.receipt).toMatchObject({ method: "invoice", status: "success", cents: "250" });
		expect(method.stateOf(number)).toBe("paid");
		expect(await pay(await challengeOf(), number)).toMatchObject({ status: 402, receipt: undefined });
	});

	it("gets a payment back that delivered nothing (I7)", async () => {
		expect(await pay(await challengeOf("/fails"), number, "/fails")).toMatchObject({ status: 500, receipt: undefined });
		await expect.poll(() => method.stateOf(number)).toBe("unpaid");
		expect((await pay(await challengeOf(), number)).status).toBe(200);
	});

	it("ends a paid event stream with its own receipt", async () => {
		const { text } = await pay(await challengeOf("/events"), number, "/events");
		expect(text).toMatch(/^data: 1\n\n\n\nevent: payment-receipt\ndata: \{"method":"invoice",.*\}\n\n$/);
	});

	it("is asked about its own challenges alone: an altered, foreign or evm one never reaches it", async () => {
		const challenge = await challengeOf();
		const [evm] = (await ask("/both")).challenges;
		for (const forged of [
			{ ...challenge, request: challenge.request.slice(0, -2) },
			{ ...challenge, method: "evm" },
			{ ...challenge, id: "x" },
			{ ...challenge, realm: "elsewhere" },
		])
			expect((await pay(forged, number)).status).toBe(402);
		if (evm !== undefined) expect((await pay(evm, number)).status).toBeGreaterThanOrEqual(400);
		expect(method.stateOf(number)).toBe("unpaid");
		expectRefusal(
			await ask("/both", { authorization: encode({ challenge, payload: { number: "0" } }) }),
			"verification-failed",
		);
	});

	it("leaves evm as it was", async () => {
		const [challenge] = (await ask("/both", { headers: { "Accept-Payment": "evm/*" } })).challenges;
		if (challenge === undefined) throw new Error("no challenge");
		const draft = await payer.open(challenge, payer.channel(server.payee), { deposit: 1_000n, amount: PRICE });
		expectPaid(await ask("/both", { authorization: encode(draft) }));
	});
});

describe("payment methods", () => {
	it("take up what was left unfinished before the first request", () => {
		expect(method.calls.resumed).toBe(1);
	});

	it("that throw while they admit are a 503 without a word of why (I10)", async () => {
		const broken: InvoiceMethod = { ...invoice(), admit: () => Promise.reject(new Error("password hunter2")) };
		const own = await world.serve({ routes: site.routes, engine: { methods: [broken] } });
		const [, challenge] = (await own.send("/both")).challenges;
		const answer = await own.send("/both", { authorization: encode({ challenge, payload: {} }) });
		expectRefusal(answer, "service-unavailable");
		expect(answer.text).not.toContain("hunter2");
	});

	it.each([
		["evm", /option methods: "evm" is there twice/],
		["Invoice", /option methods: "Invoice" .*lowercase/],
		["in-voice", /option methods: "in-voice" .*lowercase/],
		["", /option methods: "" .*lowercase/],
	])("named %j are refused at the start, saying what to change", async (name, message) => {
		await expect(world.serve({ engine: { methods: [{ ...invoice(), name }] } })).rejects.toThrow(message);
	});

	it("refuse their own prices when a route is declared", async () => {
		const start = world.serve({
			engine: { methods: [invoice()] },
			routes: (app, { handler }) => {
				app.get("/bad", { config: { payment: { method: "invoice", cents: 0n } } }, handler("/bad"));
			},
		});
		await expect(start).rejects.toThrow(/GET \/bad: payment cents: must be a bigint above 0/);
	});
});
