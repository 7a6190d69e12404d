import fc from "fast-check";
import { BodyDigest, Challenge, evm, PaymentRequest } from "mppx";
import { getAddress } from "viem";
import { describe, expect, it } from "vitest";
import {
	type ChallengeParams,
	contentDigest,
	createChallenge,
	decodeRequest,
	encodeChargeRequest,
	encodeJson,
	formatChallenge,
	formatTimestamp,
	isOurChallenge,
	matchesContentDigest,
	nonceOpaque,
	parseChallenge,
	parseChallenges,
	parseChargeRequest,
	type Challenge as SluiceChallenge,
	WWW_AUTHENTICATE,
} from "../../src/protocol/index.ts";
import { SECRET } from "./mppx.ts";

const RECIPIENT = "0x742d35cc6634c0532925a3b844bc9e7595f8fe00";
const TOKEN = "0xfafddbb3fc7688494971a79cc65dca3ef82079e7";
const EXPIRES = formatTimestamp(Date.UTC(2026, 0, 15, 12, 5));

const REQUEST = encodeChargeRequest({
	amount: 1_000_000n,
	currency: TOKEN,
	recipient: RECIPIENT,
	description: "a quote",
	externalId: "order-7",
	methodDetails: { chainId: 196, credentialTypes: ["authorization"], decimals: 6 },
});

const BARE: ChallengeParams = { realm: "api.example.com", method: "evm", intent: "charge", request: REQUEST };

/** One challenge for each optional parameter, one with none and one with all. */
const CHALLENGES: Readonly<Record<string, ChallengeParams>> = {
	bare: BARE,
	expires: { ...BARE, expires: EXPIRES },
	digest: { ...BARE, digest: "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:" },
	opaque: { ...BARE, opaque: nonceOpaque(new Uint8Array(16).fill(7)) },
	description: { ...BARE, description: 'Pay, "please": a\\b, Payment id="x"' },
	whole: {
		...BARE,
		expires: EXPIRES,
		digest: "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
		opaque: nonceOpaque(new Uint8Array(16).fill(7)),
		description: "one of everything",
	},
};
const NAMES = Object.keys(CHALLENGES);
const paramsOf = (name: string): ChallengeParams => CHALLENGES[name] ?? BARE;

/** The same challenge as each side makes it with the shared secret. */
const ours = (params: ChallengeParams): SluiceChallenge => createChallenge(SECRET, params);
const theirs = (params: ChallengeParams): Challenge.Challenge =>
	Challenge.from({ ...params, secretKey: SECRET } as Parameters<typeof Challenge.from>[0]);

/** Through a `Headers` object, as `fetch` hands it on. */
const carried = (...values: readonly string[]): string => {
	const headers = new Headers();
	for (const value of values) headers.append(WWW_AUTHENTICATE, value);
	return headers.get(WWW_AUTHENTICATE) ?? "";
};

describe("a challenge in a header", () => {
	it.each(NAMES)("mppx reads ours, every parameter as written: %s", (name) => {
		const challenge = ours(paramsOf(name));
		const { request, ...rest } = challenge;
		expect(Challenge.deserialize(carried(formatChallenge(challenge)))).toEqual({
			...rest,
			request: decodeRequest({ request }),
		});
	});

	it.each(NAMES)("we read mppx's, every parameter as written: %s", (name) => {
		const challenge = theirs(paramsOf(name));
		const { challenge: read, request } = parseChallenge(carried(Challenge.serialize(challenge)));
		expect(read).toEqual({ ...challenge, request: PaymentRequest.serialize(challenge.request) });
		expect(request).toEqual(challenge.request);
	});

	it("both find several in one header, in order, among other schemes and in one field or many", () => {
		const schemes = ['Basic realm="x, Payment y"', "Bearer"];
		for (const write of [
			(params: ChallengeParams) => formatChallenge(ours(params)),
			(params: ChallengeParams) => Challenge.serialize(theirs(params)),
		]) {
			const written = NAMES.map((name) => write(paramsOf(name)));
			const header = carried(schemes[0] ?? "", ...written, schemes[1] ?? "");
			const ids = NAMES.map((name) => ours(paramsOf(name)).id);
			expect(parseChallenges(header).map(({ challenge }) => challenge.id)).toEqual(ids);
			expect(Challenge.deserializeList(header).map(({ id }) => id)).toEqual(ids);
		}
	});

	it("difference: one unreadable challenge loses mppx all of them, us only that one", () => {
		const header = carried(formatChallenge(ours(BARE)), 'Payment id="a", realm="r", method="evm", intent="charge"');
		expect(() => Challenge.deserializeList(header)).toThrow(/Missing request parameter/);
		expect(parseChallenges(header)).toHaveLength(1);
	});

	it("difference: text beyond ASCII in a description is UTF-8 bytes for us, Latin-1 or \\uXXXX for mppx; the id holds either way", () => {
		const params = { ...BARE, description: "Café — 日本" };
		const read = Challenge.deserialize(carried(formatChallenge(ours(params))));
		expect(Buffer.from(read.description ?? "", "latin1").toString("utf8")).toBe(params.description);
		expect(Challenge.verify(read, { secretKey: SECRET })).toBe(true);

		const { challenge } = parseChallenge(carried(Challenge.serialize(theirs(params))));
		expect(challenge.description).toBe("Café u2014 u65e5u672c");
		expect(isOurChallenge([SECRET], challenge)).toBe(true);
	});

	it("difference: mppx reads no digest but sha-256", () => {
		const digest = `sha-512=:${"A".repeat(86)}==:`;
		const header = formatChallenge(ours({ ...BARE, digest }));
		expect(() => Challenge.deserialize(header)).toThrow();
		expect(parseChallenge(header).challenge.digest).toBe(digest);
	});

	it("difference: mppx's request of another header field for the credential is a parameter that we ignore", () => {
		const challenge = Challenge.from({ ...theirs(BARE), header: "Payment-Authorization" });
		expect(parseChallenge(Challenge.serialize(challenge)).challenge).not.toHaveProperty("header");
	});
});

describe("the id that binds a challenge", () => {
	it.each(NAMES)("is the same on both sides, and each takes the other's: %s", (name) => {
		const params = paramsOf(name);
		const [a, b] = [ours(params), theirs(params)];
		expect(a.id).toBe(b.id);
		expect(Challenge.verify(Challenge.deserialize(formatChallenge(a)), { secretKey: SECRET })).toBe(true);
		expect(isOurChallenge([SECRET], parseChallenge(Challenge.serialize(b)).challenge)).toBe(true);
	});

	it.each([
		["realm", "elsewhere"],
		["method", "tempo"],
		["intent", "session"],
		["request", encodeJson({ ...REQUEST, amount: "1" })],
		["expires", "2030-01-15T12:05:00Z"],
		["digest", "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"],
		["opaque", nonceOpaque(new Uint8Array(16))],
	] as const)("holds for neither side any more when %s is another", (parameter, value) => {
		const altered = { ...ours(paramsOf("whole")), [parameter]: value };
		expect(isOurChallenge([SECRET], altered)).toBe(false);
		expect(Challenge.verify(Challenge.deserialize(formatChallenge(altered)), { secretKey: SECRET })).toBe(false);
	});

	it("holds for neither side with another secret", () => {
		const another = "another secret, as long as it has to be";
		expect(isOurChallenge([another], parseChallenge(Challenge.serialize(theirs(BARE))).challenge)).toBe(false);
		expect(Challenge.verify(Challenge.deserialize(formatChallenge(ours(BARE))), { secretKey: another })).toBe(false);
	});

	it("is the same for any request, realm, expiry and opaque (property)", () => {
		const text = fc.string({ unit: "grapheme" }).filter((value) => !value.includes("|"));
		const opaque = fc.dictionary(fc.string({ unit: "grapheme-ascii" }), text, { noNullPrototype: true });
		const request = fc.dictionary(text, fc.jsonValue(), { noNullPrototype: true });
		fc.assert(
			fc.property(text, request, fc.option(opaque), fc.boolean(), (realm, body, meta, expires) => {
				fc.pre(isEncodable(body) && (meta === null || isEncodable(meta)));
				const params: ChallengeParams = {
					...BARE,
					realm,
					request: body,
					...(meta !== null && { opaque: encodeJson(meta) }),
					...(expires && { expires: EXPIRES }),
				};
				expect(theirs(params).id).toBe(ours(params).id);
				if (meta !== null) expect(PaymentRequest.serialize(meta)).toBe(encodeJson(meta));
			}),
			{ numRuns: 10_000 },
		);
	});

	it("difference: with mppx's `header` parameter the id binds an eighth value, so that it is nobody else's", () => {
		const challenge = theirs({ ...BARE, header: "Payment-Authorization" } as ChallengeParams);
		expect(Challenge.verify(challenge, { secretKey: SECRET })).toBe(true);
		expect(isOurChallenge([SECRET], parseChallenge(Challenge.serialize(challenge)).challenge)).toBe(false);
	});
});

/** Lone surrogates and `__proto__` are refused by us. */
function isEncodable(object: Readonly<Record<string, unknown>>): boolean {
	try {
		decodeRequest({ request: encodeJson(object) });
		return true;
	} catch {
		return false;
	}
}

describe("a charge request", () => {
	it("of ours has mppx's shape", () => {
		expect(evm.ChargeRequestSchema.parse(REQUEST)).toEqual(REQUEST);
	});

	it("of mppx's has ours; its addresses are in EIP-55 case", () => {
		const request = PaymentRequest.fromMethod(evm.Methods.charge, {
			amount: "1.5",
			chainId: 196,
			currency: TOKEN,
			decimals: 6,
			recipient: RECIPIENT,
		});
		expect(request.recipient).toBe(getAddress(RECIPIENT));
		expect(parseChargeRequest(request)).toEqual({
			amount: 1_500_000n,
			currency: TOKEN,
			recipient: RECIPIENT,
			methodDetails: { chainId: 196, credentialTypes: ["authorization"], decimals: 6 },
		});
	});

	it("difference: mppx's schema knows one credential type and refuses a list with others, and a split loses its memo", () => {
		const details = { chainId: 196, credentialTypes: ["permit2", "authorization"] };
		expect(evm.MethodDetailsSchema.safeParse(details).success).toBe(false);
		const splits = [{ recipient: RECIPIENT, amount: "1", memo: "fee" }];
		const read = evm.MethodDetailsSchema.parse({ chainId: 196, splits });
		expect(read.splits).toEqual([{ recipient: RECIPIENT, amount: "1" }]);
	});
});

describe("a body's digest", () => {
	const BODY = '{"amount":"1000"}';

	it("difference: mppx writes sha-256 as bare base64, RFC 9530 between colons; neither is the other's", async () => {
		const hash = Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.from(BODY))).toString("base64");
		expect(BodyDigest.compute(BODY)).toBe(`sha-256=${hash}`);
		expect(BodyDigest.verify(contentDigest(Buffer.from(BODY)) as `sha-256=${string}`, BODY)).toBe(false);
		expect(matchesContentDigest(BodyDigest.compute(BODY), Buffer.from(BODY))).toBe(false);
		// The bytes are the same.
		expect(contentDigest(Buffer.from(BODY))).toBe(`sha-256=:${hash}:`);
	});
});
