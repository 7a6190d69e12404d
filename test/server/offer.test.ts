import fc from "fast-check";
import { getAddress } from "viem";
import { describe, expect, test } from "vitest";
import { formatChallenge, parseChargeRequest, parseSessionRequest } from "../../src/protocol/index.ts";
import { ChallengeBook } from "../../src/server/challenges.ts";
import { type EvmOffer, evmRequest, matchesOffer } from "../../src/server/evm/offer.ts";
import { chargeTypes, sessionTypes } from "../../src/server/evm/terms.ts";
import type { PriceConfig } from "../../src/server/method.ts";
import { OfferError, parseOffers as parse } from "../../src/server/offer.ts";
import { CANONICAL_PERMIT2 } from "../../src/voucher/index.ts";
import { chargeOffer, sessionOffer, testMethod, testTerms } from "./evmMethod.ts";

const terms = testTerms();
const elsewhere = `0x${"99".repeat(20)}` as const;
const session = sessionOffer(terms);
const charge = chargeOffer(terms);

const book = new ChallengeBook({
	secrets: ["a".repeat(32)],
	realm: terms.realm,
	methods: [testMethod(terms)],
	ttlSeconds: 300,
	random: () => new Uint8Array(16),
});

function parseOffers(
	route: string,
	config: PriceConfig | readonly PriceConfig[],
	...also: (typeof terms)[]
): EvmOffer[] {
	return parse({ methods: [testMethod(terms, ...also)], realm: terms.realm }, route, config) as EvmOffer[];
}

/** The request of an offer's challenge, as its method reads it back. */
function requestOf(offer: EvmOffer) {
	return offer.intent === "session"
		? ({ intent: "session", request: parseSessionRequest(evmRequest(offer)) } as const)
		: ({ intent: "charge", request: parseChargeRequest(evmRequest(offer)) } as const);
}

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
			{ ...session, unitType: "request" },
		]);
		expect(parseOffers("GET /quote", { price: 100n, intent: "charge" })).toEqual([charge]);
		expect(parseOffers("GET /quote", { price: 2n ** 128n - 1n })).toEqual([{ ...session, amount: 2n ** 128n - 1n }]);
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
				const request = parseSessionRequest(evmRequest({ ...offer, terms: { ...terms, feePayer, minVoucherDelta } }));
				expect(request).toMatchObject({ amount: price, suggestedDeposit: deposit, ...settings });
				expect(request.methodDetails).toMatchObject({ chainId: terms.chainId, escrowContract: terms.escrow });
			}),
		);
	});
});

describe("a price names its token and how it may be paid", () => {
	const second = testTerms({ currency: `0x${"ee".repeat(20)}` });
	const onAnotherChain = testTerms({ chainId: 10 });

	test("the first token by default, another one by its address, or chain, in any case of its digits", () => {
		const offers = parseOffers(
			"GET /quote",
			[
				{ price: "1" },
				{ price: "2", currency: second.currency.toUpperCase().replace("0X", "0x") },
				{ price: "3", chainId: 10 },
			],
			second,
			onAnotherChain,
		);
		expect(offers.map((offer) => offer.terms)).toEqual([terms, second, onAnotherChain]);
	});

	test("a token or chain that the server does not take is refused at start-up, and the option named", () => {
		expect(refusalOf({ price: "1", currency: elsewhere })).toMatch(/^GET \/quote: payment currency: .*option also/);
		expect(refusalOf({ price: "1", chainId: 1 })).toMatch(/payment currency: /);
	});

	test("credential types in the order given, as far as token and chain can do them", () => {
		const [offer] = parseOffers("GET /quote", { price: "1", credentialTypes: ["hash", "permit2"] });
		expect(offer?.credentialTypes).toEqual(["hash", "permit2"]);
		expect(refusalOf({ price: "1", credentialTypes: ["transaction"] })).toMatch(/credentialTypes: "transaction" can't/);
		const plain = testTerms({ sessionTypes: ["hash"], chargeTypes: ["transaction", "hash"] });
		const parsePlain = () =>
			parse({ methods: [testMethod(plain)], realm: terms.realm }, "GET /quote", {
				price: "1",
				intent: "charge",
				credentialTypes: ["authorization"],
			});
		expect(parsePlain).toThrow(/credentialTypes: "authorization" can't/);
	});

	test("a charge takes a transfer that anyone can see on chain only where the route asks for it", () => {
		const [offer] = parseOffers("GET /quote", { price: "1", intent: "charge" });
		expect(offer?.credentialTypes).toEqual(["permit2", "authorization", "transaction"]);
		const [weak] = parseOffers("GET /quote", { price: "1", intent: "charge", credentialTypes: ["hash"] });
		expect(weak?.credentialTypes).toEqual(["hash"]);
	});

	test("two prices that a payment could not be told apart by are refused", () => {
		expect(refusalOf([{ price: "1" }, { price: "2" }])).toMatch(/can't be told apart/);
		expect(
			refusalOf([
				{ price: "1", intent: "charge" },
				{ price: "1", intent: "charge" },
			]),
		).toMatch(/told apart/);
		expect(
			parseOffers("GET /quote", [
				{ price: "1", intent: "charge" },
				{ price: "2", intent: "charge" },
			]),
		).toHaveLength(2);
	});

	test("a challenge that would not fit into 8 KB is refused at start-up", () => {
		const memo = "ä".repeat(256);
		const splits = Array.from({ length: 10 }, () => ({ recipient: elsewhere, amount: "1", memo }));
		expect(refusalOf({ price: "100", intent: "charge", description: "ü".repeat(512), splits })).toMatch(
			/GET \/quote: payment .*the challenge would have \d+ bytes; shorten/,
		);
	});

	test("challenges that would not fit into one answer that clients read are refused at start-up", () => {
		const charges = (count: number) =>
			Array.from({ length: count }, (_, n) => ({
				price: String(n + 1),
				intent: "charge" as const,
				description: "d".repeat(300),
			}));
		expect(refusalOf(charges(16))).toMatch(
			/^GET \/quote: payment: the challenges would have \d+ bytes together, .*fewer/,
		);
		const most = Array.from({ length: 16 }, (_, n) => n + 1).findLast((count) => {
			try {
				return parseOffers("GET /quote", charges(count)).length === count;
			} catch {
				return false;
			}
		});
		const offers = parseOffers("GET /quote", charges(most ?? 0));
		const issued = offers.map((offer) =>
			formatChallenge(book.issue(offer, 1_800_000_000_000, `sha-256=:${"A".repeat(43)}=:`)),
		);
		const head = issued.reduce((sum, challenge) => sum + "WWW-Authenticate: ".length + challenge.length + 2, 0);
		expect(head).toBeLessThan(16_000);
		expect(head).toBeGreaterThan(12_000);
	});

	test.each([
		["with the nonce's own name", { nonce: "x" }],
		["with a name that is no name", { "a b": "x" }],
		["that is not text", { order: 5 }],
		["too long for a challenge", Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`k${n}`, "x".repeat(500)]))],
	])("opaque %s is refused at start-up", (_, opaque) => {
		expect(refusalOf({ price: "1", opaque })).toMatch(/^GET \/quote: payment .*opaque/);
	});

	test("a method that nobody takes is refused", () => {
		expect(refusalOf({ method: "invoice", price: "1" })).toMatch(/method: "invoice" is not known; there are evm/);
	});
});

describe("what can be funded and paid how", () => {
	const all = { hasErc3009: true, hasPermit2: true, relayed: { authorization: true, permit2: true }, feePayer: true };

	test("a fee payer's list has authorization and permit2 as token, chain and escrow have them, hash last", () => {
		expect(sessionTypes(all)).toEqual(["authorization", "permit2", "hash"]);
		expect(sessionTypes({ ...all, hasErc3009: false })).toEqual(["permit2", "hash"]);
		expect(sessionTypes({ ...all, hasPermit2: false })).toEqual(["authorization", "hash"]);
		expect(sessionTypes({ ...all, feePayer: false })).toEqual(["hash"]);
	});

	test("nothing is listed that the escrow has no function for", () => {
		expect(sessionTypes({ ...all, relayed: { authorization: true, permit2: false } })).toEqual([
			"authorization",
			"hash",
		]);
		expect(sessionTypes({ ...all, relayed: { authorization: false, permit2: true } })).toEqual(["permit2", "hash"]);
		expect(sessionTypes({ ...all, relayed: { authorization: false, permit2: false } })).toEqual(["hash"]);
	});

	test("a charge needs no escrow: token and chain decide, permit2 first", () => {
		expect(chargeTypes(all)).toEqual(["permit2", "authorization", "transaction", "hash"]);
		expect(chargeTypes({ ...all, hasErc3009: false, hasPermit2: false })).toEqual(["transaction", "hash"]);
	});
});

describe("splits of a charge", () => {
	const splits = [{ recipient: elsewhere, amount: "5", memo: "platform fee" }];

	test("are paid by Permit2 alone, all of them or none", () => {
		const [offer] = parseOffers("GET /quote", { price: "100", intent: "charge", splits });
		expect(offer).toMatchObject({ credentialTypes: ["permit2"], splits: [{ recipient: elsewhere, amount: 5n }] });
		if (offer === undefined) throw new TypeError("no offer");
		expect(evmRequest(offer).methodDetails).toMatchObject({
			credentialTypes: ["permit2"],
			permit2Address: getAddress(CANONICAL_PERMIT2),
			splits: [{ recipient: elsewhere, amount: "5", memo: "platform fee" }],
		});
	});

	test.each([
		["that leave nothing for the recipient", { splits: [{ recipient: elsewhere, amount: "100" }] }],
		["that are none", { splits: [] }],
		["more than ten", { splits: Array.from({ length: 11 }, () => ({ recipient: elsewhere, amount: "1" })) }],
		["with a memo of 257 characters", { splits: [{ recipient: elsewhere, amount: "1", memo: "x".repeat(257) }] }],
		["of a session", { splits, intent: "session" }],
		["where permit2 is not taken", { splits, credentialTypes: ["authorization"] }],
	])("%s are refused at start-up", (_, its) => {
		expect(refusalOf({ price: "100", intent: "charge", ...its })).toMatch(/^GET \/quote: payment splits/);
	});
});

describe("the request of an offer", () => {
	test("offers to pay the gas of an open only where the server does", () => {
		const sponsored = parseSessionRequest(evmRequest(session)).methodDetails;
		expect(sponsored).toMatchObject({
			feePayer: true,
			credentialTypes: ["authorization", "permit2", "hash"],
			permit2Contract: terms.permit2,
		});
		const unpaid = sessionOffer(testTerms({ feePayer: false, sessionTypes: ["hash"] }));
		const own = parseSessionRequest(evmRequest(unpaid)).methodDetails;
		expect(own.feePayer).toBeUndefined();
		expect(own.credentialTypes).toEqual(["hash"]);
	});

	test("states minVoucherDelta only where there is one", () => {
		expect(evmRequest(session).methodDetails).not.toHaveProperty("minVoucherDelta");
		expect(evmRequest(sessionOffer(testTerms({ minVoucherDelta: 5n }))).methodDetails).toMatchObject({
			minVoucherDelta: "5",
		});
	});

	test("of a charge names no escrow and says how it can be paid", () => {
		expect(evmRequest(charge).methodDetails).toEqual({
			chainId: terms.chainId,
			permit2Address: getAddress(CANONICAL_PERMIT2),
			credentialTypes: ["permit2", "authorization", "transaction"],
		});
		const { permit2: _, ...withoutPermit2 } = terms;
		const plain = chargeOffer({ ...withoutPermit2, chargeTypes: ["authorization", "transaction", "hash"] });
		expect(evmRequest(plain).methodDetails).toHaveProperty("permit2Address", getAddress(CANONICAL_PERMIT2));
	});

	test("has its addresses in EIP-55, and is read back in lowercase", () => {
		const mixed = testTerms({
			currency: "0xabcdefabcdefabcdefabcdefabcdefabcdefabcd",
			recipient: "0xfb6916095ca1df60bb79ce92ce3ea74c37c5d359",
			escrow: "0x52908400098527886e0f7030069857d2e4169ee7",
			permit2: "0xde709f2102306220921060314715629080e2fb77",
		});
		const split = { recipient: "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", amount: 5n } as const;
		const written = evmRequest(chargeOffer(mixed, { splits: [split] }));
		expect(written).toMatchObject({
			currency: "0xABcdEFABcdEFabcdEfAbCdefabcdeFABcDEFabCD",
			recipient: "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
			methodDetails: {
				permit2Address: "0xde709f2102306220921060314715629080e2fb77",
				splits: [{ recipient: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" }],
			},
		});
		expect(evmRequest(sessionOffer(mixed))).toMatchObject({
			methodDetails: { escrowContract: "0x52908400098527886E0F7030069857D2E4169EE7" },
		});
		expect(parseChargeRequest(written)).toMatchObject({
			currency: mixed.currency,
			methodDetails: { splits: [{ recipient: split.recipient }] },
		});
	});

	test("names a channel to go on with where the application knows one", () => {
		const channelId = `0x${"c1".repeat(32)}` as const;
		expect(evmRequest(sessionOffer(terms, { channelId })).methodDetails).toMatchObject({ channelId });
	});
});

describe("a challenge is good for a route's offer only where its terms are the route's (D9)", () => {
	const { realm } = terms;
	const both = [
		["session", session],
		["charge", charge],
	] as const;

	test.each(both)("as issued (%s)", (intent, offer) => {
		expect(matchesOffer(offer, { realm, intent }, requestOf(offer))).toBe(true);
	});

	test.each(both)("not with another realm or intent (%s)", (intent, offer) => {
		expect(matchesOffer(offer, { realm: "api.example.org", intent }, requestOf(offer))).toBe(false);
		expect(matchesOffer(offer, { realm, intent: "subscription" }, requestOf(offer))).toBe(false);
	});

	test.each(["currency", "recipient", "chainId", "escrow"] as const)("not with another %s", (name) => {
		const other = testTerms({ [name]: name === "chainId" ? 1 : elsewhere });
		expect(matchesOffer(session, { realm, intent: "session" }, requestOf(sessionOffer(other)))).toBe(false);
		if (name === "escrow") return;
		expect(matchesOffer(charge, { realm, intent: "charge" }, requestOf(chargeOffer(other)))).toBe(false);
	});

	test("a charge only at the price and with the splits of this request, a session at any price", () => {
		const split = (amount: bigint) => chargeOffer(terms, { splits: [{ recipient: elsewhere, amount }] });
		const asked = { realm, intent: "charge" };
		expect(matchesOffer(chargeOffer(terms, { amount: 101n }), asked, requestOf(charge))).toBe(false);
		expect(matchesOffer(split(5n), asked, requestOf(charge))).toBe(false);
		expect(matchesOffer(charge, asked, requestOf(split(5n)))).toBe(false);
		expect(matchesOffer(split(6n), asked, requestOf(split(5n)))).toBe(false);
		expect(matchesOffer(split(5n), asked, requestOf(split(5n)))).toBe(true);
		const cheaper = sessionOffer(terms, { amount: 99n });
		expect(matchesOffer(cheaper, { realm, intent: "session" }, requestOf(session))).toBe(true);
	});
});
