import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	type Challenge,
	createChallenge,
	decodeRequest,
	encodeBase64url,
	formatCredential,
	isOurChallenge,
	WeakSecretError,
} from "../../src/protocol/index.ts";
import { ChallengeBook } from "../../src/server/challenges.ts";
import { chargeOffer, sessionOffer, testMethod, testTerms } from "./evmMethod.ts";

const NOW = 1_800_000_000_000;
const TTL_SECONDS = 300;
const OLD = "an old secret of at least thirty-two bytes";
const NEW = "a new secret of at least thirty-two bytes!";

const terms = testTerms();
const methods = [testMethod(terms)];
const session = sessionOffer(terms, { description: "a quote" });
const charge = chargeOffer(terms);

function book(...secrets: string[]): ChallengeBook {
	return new ChallengeBook({
		secrets,
		realm: terms.realm,
		methods,
		ttlSeconds: TTL_SECONDS,
		random: () => randomBytes(16),
	});
}

/** A copy of a challenge with its request changed and encoded again. */
function withRequest(challenge: Challenge, change: object): Challenge {
	const request = JSON.parse(Buffer.from(challenge.request, "base64url").toString());
	return { ...challenge, request: encodeBase64url(JSON.stringify({ ...request, ...change })) };
}

/** Every way in which a credential could echo a challenge of ours differently, except in its unbound description. */
function tampered(challenge: Challenge): [string, Challenge][] {
	const { expires: _, ...withoutExpiry } = challenge;
	const { opaque: __, ...withoutOpaque } = challenge;
	return [
		["id", { ...challenge, id: `${challenge.id.slice(0, -1)}${challenge.id.endsWith("A") ? "B" : "A"}` }],
		["shorter id", { ...challenge, id: challenge.id.slice(0, -1) }],
		["realm", { ...challenge, realm: "api.example.org" }],
		["method", { ...challenge, method: "tempo" }],
		["intent", { ...challenge, intent: challenge.intent === "session" ? "charge" : "session" }],
		["price", withRequest(challenge, { amount: "1" })],
		["recipient", withRequest(challenge, { recipient: terms.escrow })],
		["expiry before 1970", { ...challenge, expires: "1960-01-01T00:00:00Z" }],
		["later expiry", { ...challenge, expires: "2099-01-01T00:00:00Z" }],
		["no expiry", withoutExpiry],
		["digest", { ...challenge, digest: "sha-256=:AAAA:" }],
		["opaque", { ...challenge, opaque: encodeBase64url('{"nonce":"x"}') }],
		["no opaque", withoutOpaque],
		["a value moved to its neighbour", { ...challenge, realm: `${terms.realm}|evm`, method: "evm" }],
	];
}

describe.each([
	["session", session],
	["charge", charge],
])("a %s challenge", (_, offer) => {
	test("is what the protocol says, by whatever its HMAC is computed", () => {
		const issued = book(NEW).issue(offer, NOW);
		expect(isOurChallenge([NEW], issued)).toBe(true);
		const { id, request: _encoded, ...rest } = issued;
		const made = createChallenge(NEW, { ...rest, request: decodeRequest(issued) });
		expect(made.id).toBe(id);
		expect(book(NEW).recognise(made, NOW)).toMatchObject({ expired: false });
		expect(book(OLD).recognise(made, NOW)).toBeUndefined();
	});

	test("is read from a credential as a book does that has seen none before, whatever was read by then", () => {
		const seen = book(NEW);
		const challenge = seen.issue(offer, NOW);
		const good = formatCredential({ challenge, payload: { n: 0 } });
		seen.read(good, NOW);
		const odd = [{ ...challenge, description: "another" }, ...tampered(challenge).map(([, one]) => one)];
		const headers = odd.map((one) => formatCredential({ challenge: one, payload: { n: 1 } }));
		for (const at of [NOW, NOW + TTL_SECONDS * 1_000]) {
			for (const header of [good, ...headers, good.replace("Payment", "payment")])
				expect(seen.read(header, at)).toEqual(book(NEW).read(header, at));
		}
		expect(headers.map((header) => seen.read(header, NOW).recognised !== undefined)).toEqual(
			odd.map((_, at) => at === 0),
		);
	});

	test("is read once where it may come again as it is, and never for another one", () => {
		const challenges = book(NEW);
		const challenge = challenges.issue(offer, NOW);
		const header = (n: number) => formatCredential({ challenge, payload: { n: String(n) } });
		const first = challenges.read(header(1), NOW, true);
		expect(challenges.read(header(1), NOW, true).credential).toBe(first.credential);
		for (const [at, isRepeatable] of [
			[NOW, true],
			[NOW, false],
			[NOW + TTL_SECONDS * 1_000, true],
		] as const)
			for (const n of [1, 2])
				expect(challenges.read(header(n), at, isRepeatable)).toEqual(book(NEW).read(header(n), at));
		for (let n = 0; n < 5_000; n++) challenges.read(header(n), NOW, true);
		expect(challenges.read(header(1), NOW, true)).toEqual(first);
		expect(challenges.read(header(1), NOW, true).credential).not.toBe(first.credential);
	});

	test("that ends as another one does is not taken for it", () => {
		const challenges = book(NEW);
		const challenge = challenges.issue(offer, NOW);
		const headers = ["1", "2"].map((n) => formatCredential({ challenge, payload: { n, end: "x".repeat(200) } }));
		const tails = headers.map((header) => header.slice(-200));
		expect(tails[0]).toBe(tails[1]);
		for (const header of [...headers, ...headers])
			expect(challenges.read(header, NOW, true)).toEqual(book(NEW).read(header, NOW));
	});

	test("is remembered only as far as a payer's would be: no long header, no payload but texts, in a few megabytes", () => {
		const challenges = book(NEW);
		const challenge = challenges.issue(offer, NOW);
		const long = (n: number) => formatCredential({ challenge, payload: { n: "x".repeat(8_000), at: String(n) } });
		const nested = (n: number) => formatCredential({ challenge, payload: { a: [{}, {}, {}], n } });
		for (const header of [long, nested]) {
			const first = challenges.read(header(1), NOW, true);
			expect(challenges.read(header(1), NOW, true)).toEqual(first);
			expect(challenges.read(header(1), NOW, true).credential).not.toBe(first.credential);
		}
		// What it begins with is as long as its description, which anyone may change.
		const described = [1, 2, 3].map((n) => {
			const header = formatCredential({ challenge: { ...challenge, description: "d".repeat(5_000) }, payload: { n } });
			return challenges.read(header, NOW);
		});
		expect(described.map(({ recognised }) => recognised !== undefined)).toEqual([true, true, true]);
	});

	test("is read again with another payload, as the same object", () => {
		const challenges = book(NEW);
		const challenge = challenges.issue(offer, NOW);
		const read = (n: number) => challenges.read(formatCredential({ challenge, payload: { n } }), NOW);
		const [first, second] = [read(1), read(2)];
		expect([first, second].map(({ credential }) => credential.payload)).toEqual([{ n: 1 }, { n: 2 }]);
		expect(second.credential.challenge).toBe(first.credential.challenge);
		expect(second.recognised?.request).toBe(first.recognised?.request);
	});

	test("of ours is recognised, with its request decoded", () => {
		const challenges = book(NEW);
		const recognised = challenges.recognise(challenges.issue(offer, NOW), NOW);
		expect(recognised).toMatchObject({
			expired: false,
			request: {
				intent: offer.intent,
				request: { amount: 100n, recipient: terms.recipient, methodDetails: { chainId: terms.chainId } },
			},
		});
	});

	test("is recognised by another server with the same secret: nothing is kept (D9)", () => {
		expect(book(NEW).recognise(book(NEW).issue(offer, NOW), NOW)).toBeDefined();
	});

	test("of another server is not recognised", () => {
		expect(book(NEW).recognise(book(OLD).issue(offer, NOW), NOW)).toBeUndefined();
	});

	test("is not recognised once any bound parameter was altered", () => {
		const genuine = book(NEW).issue(offer, NOW);
		for (const [what, altered] of tampered(genuine)) {
			expect(book(NEW).recognise(altered, NOW), what).toBeUndefined();
		}
	});

	test("that was recognised before does not lend its id to an altered copy", () => {
		const challenges = book(NEW);
		const genuine = challenges.issue(offer, NOW);
		expect(challenges.recognise(genuine, NOW)).toBeDefined();
		for (const [what, altered] of tampered(genuine)) {
			expect(challenges.recognise(altered, NOW), what).toBeUndefined();
			expect(challenges.recognise(genuine, NOW), `genuine, after ${what}`).toBeDefined();
		}
	});

	test("keeps its meaning when only its description, which is for people, was altered", () => {
		const challenges = book(NEW);
		const genuine = challenges.issue(offer, NOW);
		const before = challenges.recognise(genuine, NOW);
		const after = challenges.recognise({ ...genuine, description: "free of charge" }, NOW);
		expect(after?.request).toEqual(before?.request);
	});

	test("expires at its second, not before, also when it was recognised earlier", () => {
		const challenges = book(NEW);
		const challenge = challenges.issue(offer, NOW);
		const end = NOW + TTL_SECONDS * 1_000;
		expect(challenges.recognise(challenge, end - 1)?.expired).toBe(false);
		expect(challenges.recognise(challenge, end)?.expired).toBe(true);
		expect(challenges.recognise(challenge, end + 1)?.expired).toBe(true);
		expect(book(NEW).recognise(challenge, end)?.expired).toBe(true);
	});
});

describe("issuing", () => {
	test("never gives two challenges the same id, though all of them ask for the same (D9)", () => {
		const challenges = book(NEW);
		const ids = Array.from({ length: 2_000 }, () => challenges.issue(session, NOW).id);
		expect(new Set(ids).size).toBe(ids.length);
	});

	test("puts 128 random bits into each challenge (D9)", () => {
		const bits = fc.uint8Array({ minLength: 16, maxLength: 16 });
		fc.assert(
			fc.property(bits, bits, (a, b) => {
				const [first, second] = [a, b].map((bytes) =>
					new ChallengeBook({ secrets: [NEW], realm: terms.realm, methods, ttlSeconds: 1, random: () => bytes }).issue(
						session,
						NOW,
					),
				);
				expect(first?.id === second?.id).toBe(Buffer.compare(a, b) === 0);
			}),
		);
		const short = new ChallengeBook({
			secrets: [NEW],
			realm: terms.realm,
			methods,
			ttlSeconds: 1,
			random: () => randomBytes(15),
		});
		expect(() => short.issue(session, NOW)).toThrow("16 random bytes");
	});

	test("binds a challenge to a body where it is given one, and a changed digest is not ours", () => {
		const bound = book(NEW).issue(charge, NOW, "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:");
		expect(book(NEW).recognise(bound, NOW)).toBeDefined();
		const { digest: _, ...unbound } = bound;
		expect(book(NEW).recognise(unbound, NOW)).toBeUndefined();
	});

	test("says the description for people beside the request", () => {
		expect(book(NEW).issue(session, NOW).description).toBe("a quote");
		expect(book(NEW).issue(charge, NOW)).not.toHaveProperty("description");
	});
});

describe("secrets rotate (D9)", () => {
	test("the first signs, the others still verify", () => {
		const before = book(OLD).issue(session, NOW);
		const rotated = book(NEW, OLD);
		expect(rotated.recognise(before, NOW)).toBeDefined();
		const fresh = rotated.issue(session, NOW);
		expect(book(NEW).recognise(fresh, NOW)).toBeDefined();
		expect(book(OLD).recognise(fresh, NOW)).toBeUndefined();
	});

	test("one that was removed verifies nothing any more", () => {
		expect(book(NEW).recognise(book(OLD).issue(session, NOW), NOW)).toBeUndefined();
	});

	test("none, or one that is too short anywhere in the list, is refused at start-up, and not repeated in the error", () => {
		expect(() => book()).toThrow(WeakSecretError);
		const short = "thirty-one bytes are not enough";
		expect(short).toHaveLength(31);
		for (const secrets of [[short], [NEW, short]]) {
			expect(() => book(...secrets)).toThrow(WeakSecretError);
			expect(() => book(...secrets)).toThrow(expect.not.objectContaining({ message: expect.stringContaining(short) }));
		}
	});
});
