import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAcceptPayment, preferred } from "../../../src/protocol/index.ts";
import { FACES, type Face, Site } from "../../support/faces.ts";
import { send } from "../../support/http.ts";
import { type InvoicePrice, invoice } from "../../support/invoiceMethod.ts";
import { createWorld, type PaidServer, PRICE, type World } from "../../support/world.ts";

const session = { price: PRICE };
const charge = { price: PRICE, intent: "charge" } as const;
const byInvoice: InvoicePrice = { method: "invoice", cents: 100n };

const site = new Site({
	"/three": { price: [session, charge, byInvoice], serve: () => ({ body: "paid" }) },
	"/charges": { price: () => [charge, byInvoice], serve: () => ({ body: "paid" }) },
});

let world: World;
let server: PaidServer;
let origins: Record<Face, string>;

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve({ routes: site.routes, engine: { methods: [invoice()] } });
	origins = { fastify: server.url, fetch: await site.listen(server.engine) };
});
afterAll(async () => {
	await site.stop();
	await world.stop();
});

describe.each(FACES)("the %s face", (face) => {
	const offered = async (accept: string | readonly string[] | undefined, path = "/three") => {
		const answer = await send(
			origins[face],
			path,
			accept === undefined ? {} : { headers: { "Accept-Payment": accept } },
		);
		expect(answer.status).toBe(402);
		return answer.challenges.map(({ method, intent }) => `${method}/${intent}`);
	};
	const all = ["evm/session", "evm/charge", "invoice/charge"];

	it.each([
		["invoice/charge, evm/charge;q=0.5, evm/session;q=0.3", ["invoice/charge", "evm/charge", "evm/session"]],
		["evm/charge;q=0.001, invoice/charge;q=0.002", ["invoice/charge", "evm/charge"]],
		[
			["evm/charge;q=0.2", "invoice/*;q=0.4"],
			["invoice/charge", "evm/charge"],
		],
	])("the challenges of a 402 are those that Accept-Payment prefers, in its order: %s", async (accept, order) => {
		expect(await offered(accept)).toEqual(order);
	});

	it.each([
		["evm/session", ["evm/session"]],
		["evm/*;q=0, */charge", ["invoice/charge"]],
		["evm/charge;q=0, evm/*", ["evm/session"]],
		["*/session", ["evm/session"]],
	])("offers that no range of Accept-Payment takes, or takes with q=0, are left out: %s", async (accept, rest) => {
		expect(await offered(accept)).toEqual(rest);
	});

	it.each(["*/*", "evm/*, invoice/*", "invoice/charge, evm/charge, evm/session", "*/charge;q=0.7, evm/session;q=0.7"])(
		"offers of equal weight stay in the route's order: %s",
		async (accept) => {
			expect(await offered(accept)).toEqual(all);
		},
	);

	it.each([
		["*/*;q=0.1, */charge;q=0.2, evm/*;q=0.3, evm/charge;q=0.9", ["evm/charge", "evm/session", "invoice/charge"]],
		["evm/*;q=0.1, */charge", ["invoice/charge", "evm/session", "evm/charge"]],
		["evm/charge;q=0, */*", ["evm/session", "invoice/charge"]],
	])(
		"the most specific range decides over an offer: exact before method/*, before */intent, before */*: %s",
		async (accept, order) => {
			expect(await offered(accept)).toEqual(order);
		},
	);

	it.each([
		undefined,
		"",
		",",
		"evm",
		"evm/session;q=2",
		"EVM/session",
		"evm/session;x=1",
		"tempo/*",
		"evm/*;q=0",
		"x".repeat(5_000),
	])(
		"without Accept-Payment, with a malformed one, or with one that takes nothing, the 402 has the route's offers as they are: %s",
		async (accept) => {
			expect(await offered(accept)).toEqual(all);
		},
	);

	it("ranks the offers of a price that is a function, too, and those of every refusal", async () => {
		expect(await offered("invoice/*, evm/*;q=0.5", "/charges")).toEqual(["invoice/charge", "evm/charge"]);
		const refused = await send(origins[face], "/three", {
			authorization: "Payment x",
			headers: { "Accept-Payment": "invoice/charge" },
		});
		expect(refused.challenges.map(({ method }) => method)).toEqual(["invoice"]);
	});
});

describe("the order of offers", () => {
	it("the four examples of the core draft give the orders it shows", () => {
		const ordered = (accept: string, ...offers: string[]) =>
			preferred(
				offers.map((offer) => {
					const [method = "", intent = ""] = offer.split("/");
					return { method, intent };
				}),
				parseAcceptPayment(accept),
			).map(({ method, intent }) => `${method}/${intent}`);

		expect(
			ordered(
				"tempo/charge, tempo/session, stripe/charge;q=0.5, solana/charge;q=0.3",
				...["solana/charge", "tempo/charge", "stripe/charge", "tempo/session"],
			),
		).toEqual(["tempo/charge", "tempo/session", "stripe/charge", "solana/charge"]);
		expect(ordered("tempo/charge, solana/charge", "solana/charge", "tempo/charge")).toEqual([
			"solana/charge",
			"tempo/charge",
		]);
		expect(
			ordered(
				"tempo/*, solana/*;q=0.6, stripe/charge;q=0.2",
				...["tempo/session", "tempo/charge", "stripe/charge", "solana/charge"],
			),
		).toEqual(["tempo/session", "tempo/charge", "solana/charge", "stripe/charge"]);
		expect(
			ordered(
				"tempo/charge, tempo/session;q=0, solana/charge;q=0.8, stripe/charge;q=0.4",
				...["stripe/charge", "tempo/session", "solana/charge", "tempo/charge"],
			),
		).toEqual(["tempo/charge", "solana/charge", "stripe/charge"]);
	});
});
