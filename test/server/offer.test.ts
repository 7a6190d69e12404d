import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseChargeRequest, parseSessionRequest } from "../../src/protocol/index.ts";
import {
	matchOffer,
	type Offer,
	OfferError,
	type PriceConfig,
	parseOffers,
	type Terms,
	wireRequest,
} from "../../src/server/offer.ts";

const terms: Terms = {
	realm: "api.example.com",
	chainId: 8_453,
	escrow: `0x${"dd".repeat(20)}`,
	currency: `0x${"cc".repeat(20)}`,
	recipient: `0x${"bb".repeat(20)}`,
	feePayer: true,
	minVoucherDelta: 0n,
};
const elsewhere = `0x${"99".repeat(20)}` as const;
const session: Offer = { intent: "session", amount: 100n };
const charge: Offer = { intent: "charge", amount: 100n };

/** The message of the OfferError that a configuration of `GET /quote` must bring. */
function refusalOf(config: unknown): string {
	try {
		parseOffers("GET /quote", config as PriceConfig);
	} catch (error) {
		if (error instanceof OfferError) return error.message;
		throw error;
	}
	throw new TypeError("the configuration was taken");
}

describe("a price", () => {
	test("as a string or bigint of base units becomes an offer, a session unless it says otherwise", () => {
		expect(parseOffers("GET /quote", { price: "100", unitType: "request" })).toEqual([
			{ intent: "session", amount: 100n, unitType: "request" },
		]);
		expect(parseOffers("GET /quote", { price: 100n, intent: "charge" })).toEqual([charge]);
		expect(parseOffers("GET /quote", { price: 2n ** 128n - 1n })).toEqual([
			{ intent: "session", amount: 2n ** 128n - 1n },
		]);
	});

	test("may come with another one to choose from, in the configured order", () => {
		const both: PriceConfig[] = [{ price: "5", intent: "charge" }, { price: "1" }];
		expect(parseOffers("GET /quote", both).map(({ intent }) => intent)).toEqual(["charge", "session"]);
	});

	test.each(["0", "-1", "1.5", "0x10", "01", "", " 1", "1e3", "100 USDC", 0n, -1n, 100, null, undefined, 2n ** 128n])(
		"of %s is refused at start-up, naming route and setting",
		(price) => {
			expect(refusalOf({ price })).toMatch(/^GET \/quote: payment price: ./);
		},
	);

	test("as a string too large for the escrow is refused like a bigint", () => {
		expect(refusalOf({ price: String(2n ** 128n) })).toBe(
			"GET /quote: payment price: must be base units as a bigint or a decimal string, from 1 to 2^128 - 1",
		);
	});

	test("with an unknown setting is refused and the setting named", () => {
		expect(refusalOf({ price: "1", pricee: "2" })).toMatch(/^GET \/quote: .*pricee/);
	});

	test("with an unknown intent is refused and the setting named", () => {
		expect(refusalOf({ price: "1", intent: "subscription" })).toContain("payment intent");
	});

	test.each(["0", "-5", "1.5", 0n, -5n, 2n ** 128n, String(2n ** 128n)])(
		"with a suggestedDeposit of %s, which no channel could hold, is refused",
		(suggestedDeposit) => {
			expect(refusalOf({ price: "1", suggestedDeposit })).toMatch(/^GET \/quote: payment suggestedDeposit: ./);
		},
	);

	test("that is wrong is refused also where it is the second choice", () => {
		expect(refusalOf([{ price: "1" }, { price: "0" }])).toMatch(/^GET \/quote: payment price: ./);
	});

	test("is not optional: a route without any is refused", () => {
		expect(refusalOf([])).toMatch(/^GET \/quote: ./);
		expect(refusalOf({})).toMatch(/^GET \/quote: payment price: ./);
	});

	test("that was taken can always be read back from its challenge's request", () => {
		const prices = fc.bigInt({ min: 1n, max: 2n ** 128n - 1n });
		const text = fc.option(fc.string(), { nil: undefined });
		fc.assert(
			fc.property(prices, prices, text, fc.boolean(), prices, (price, deposit, note, feePayer, minVoucherDelta) => {
				const settings = { ...(note !== undefined && { description: note, unitType: note, externalId: note }) };
				const [offer] = parseOffers("GET /quote", { price: String(price), suggestedDeposit: deposit, ...settings });
				if (offer === undefined) throw new TypeError("no offer");
				const request = parseSessionRequest(wireRequest(offer, { ...terms, feePayer, minVoucherDelta }));
				expect(request).toMatchObject({ amount: price, suggestedDeposit: deposit, ...settings });
				expect(request.methodDetails).toMatchObject({ chainId: terms.chainId, escrowContract: terms.escrow });
			}),
		);
	});
});

describe("the request of an offer", () => {
	test("offers to pay the gas of an open only where the server does", () => {
		const sponsored = parseSessionRequest(wireRequest(session, terms)).methodDetails;
		expect(sponsored).toMatchObject({ feePayer: true, credentialTypes: ["authorization", "hash"] });
		const own = parseSessionRequest(wireRequest(session, { ...terms, feePayer: false })).methodDetails;
		expect(own.feePayer).toBeUndefined();
		expect(own.credentialTypes).toEqual(["hash"]);
	});

	test("states minVoucherDelta only where there is one", () => {
		expect(wireRequest(session, terms).methodDetails).not.toHaveProperty("minVoucherDelta");
		expect(wireRequest(session, { ...terms, minVoucherDelta: 5n }).methodDetails).toMatchObject({
			minVoucherDelta: "5",
		});
	});

	test("of a charge names no escrow and takes authorizations", () => {
		expect(wireRequest(charge, terms).methodDetails).toEqual({
			chainId: terms.chainId,
			credentialTypes: ["authorization"],
		});
	});
});

describe("a challenge is good for a route's offer only where its terms are the route's (D9)", () => {
	const sessionRequest = parseSessionRequest(wireRequest(session, terms));
	const chargeRequest = parseChargeRequest(wireRequest(charge, terms));
	const { realm } = terms;

	test("as issued", () => {
		expect(matchOffer([session], terms, { realm, intent: "session" }, sessionRequest)).toBe(session);
		expect(matchOffer([session, charge], terms, { realm, intent: "charge" }, chargeRequest)).toBe(charge);
	});

	test("not with another realm", () => {
		const challenge = { realm: "api.example.org", intent: "session" };
		expect(matchOffer([session], terms, challenge, sessionRequest)).toBeUndefined();
	});

	test("not for an intent that the route does not offer", () => {
		expect(matchOffer([charge], terms, { realm, intent: "session" }, sessionRequest)).toBeUndefined();
		expect(matchOffer([session], terms, { realm, intent: "charge" }, chargeRequest)).toBeUndefined();
		expect(matchOffer([session, charge], terms, { realm, intent: "subscription" }, chargeRequest)).toBeUndefined();
	});

	test.each(["currency", "recipient", "chainId", "escrow"] as const)("not with another %s", (name) => {
		const other = { ...terms, [name]: name === "chainId" ? 1 : elsewhere };
		const foreign = parseSessionRequest(wireRequest(session, other));
		expect(matchOffer([session], terms, { realm, intent: "session" }, foreign)).toBeUndefined();
		if (name === "escrow") return;
		const foreignCharge = parseChargeRequest(wireRequest(charge, other));
		expect(matchOffer([charge], terms, { realm, intent: "charge" }, foreignCharge)).toBeUndefined();
	});

	test("a charge only at the price of this request, a session at any price", () => {
		const dearer = { ...charge, amount: 101n };
		expect(matchOffer([dearer], terms, { realm, intent: "charge" }, chargeRequest)).toBeUndefined();
		expect(matchOffer([dearer, charge], terms, { realm, intent: "charge" }, chargeRequest)).toBe(charge);
		const cheaper = { ...session, amount: 99n };
		expect(matchOffer([cheaper], terms, { realm, intent: "session" }, sessionRequest)).toBe(cheaper);
	});
});
