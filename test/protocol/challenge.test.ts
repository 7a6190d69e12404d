import { createHmac } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	assertChallengeSecrets,
	challengeId,
	createChallenge,
	decodeJson,
	decodeRequest,
	type HmacSha256,
	isExpired,
	isOurChallenge,
	nonceOpaque,
	opaqueData,
} from "../../src/protocol/index.ts";
import { codeOf, SECRET, sampleChallenge, thrownBy } from "./support.ts";

const OLD_SECRET = new Uint8Array(32).fill(1);

const params = {
	realm: "api.example.com",
	method: "evm",
	intent: "session",
	request: { currency: "usd", amount: "100" },
	expires: "2030-01-01T00:00:00Z",
	digest: "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
	description: "100 tokens",
	opaque: nonceOpaque(new Uint8Array(16).fill(7)),
};

describe("a created challenge", () => {
	test("is ours, with its request canonical", () => {
		const challenge = createChallenge(SECRET, params);
		expect(isOurChallenge([SECRET], challenge)).toBe(true);
		expect(challenge).toMatchObject({ ...params, request: "eyJhbW91bnQiOiIxMDAiLCJjdXJyZW5jeSI6InVzZCJ9" });
		expect(decodeRequest(challenge)).toEqual(params.request);
	});

	test("has no members for what was not given", () => {
		const { realm, method, intent, request } = params;
		const challenge = createChallenge(SECRET, { realm, method, intent, request });
		expect(Object.keys(challenge)).toEqual(["id", "realm", "method", "intent", "request"]);
	});

	test("takes a secret given as text or as the same bytes", () => {
		expect(createChallenge(new TextEncoder().encode(SECRET), params)).toEqual(createChallenge(SECRET, params));
	});

	test.each([
		["method", { method: "EVM" }],
		["method", { method: "" }],
		["intent", { intent: "a b" }],
		["timestamp", { expires: "tomorrow" }],
		["separator", { realm: "a|b" }],
		["separator", { opaque: "a|b" }],
	])("is refused for its %s", (reason, change) => {
		expect(thrownBy(() => createChallenge(SECRET, { ...params, ...change }))).toMatchObject({
			code: "challenge_format",
			reason,
		});
	});

	test("is refused when its request has no JSON form", () => {
		expect(codeOf(() => createChallenge(SECRET, { ...params, request: { amount: 100n } }))).toBe("json");
	});
});

describe("the binding", () => {
	const ours = createChallenge(SECRET, params);

	test("is the same whoever computes its HMAC", () => {
		const native: HmacSha256 = (key, input) => createHmac("sha256", key).update(input).digest();
		const secrets = fc.uint8Array({ minLength: 32, maxLength: 200 });
		fc.assert(
			fc.property(
				secrets,
				fc.string().filter((realm) => !realm.includes("|")),
				(secret, realm) => {
					const theirs = createChallenge(secret, { ...params, realm }, native);
					expect(theirs).toEqual(createChallenge(secret, { ...params, realm }));
					expect(isOurChallenge([OLD_SECRET, secret], theirs, native)).toBe(true);
					expect(isOurChallenge([OLD_SECRET], theirs, native)).toBe(false);
				},
			),
		);
	});

	test.each([0, 31, 33])("is not made of %i bytes, which are no HMAC-SHA256", (length) => {
		const wrong = () => new Uint8Array(length);
		expect(() => createChallenge(SECRET, params, wrong)).toThrow(TypeError);
		expect(() => isOurChallenge([SECRET], ours, wrong)).toThrow(TypeError);
	});

	test("breaks when any bound parameter changes, goes or comes", () => {
		const bound = ["realm", "method", "intent", "request", "expires", "digest", "opaque"] as const;
		for (const name of bound) {
			expect(isOurChallenge([SECRET], { ...ours, [name]: `${ours[name]}x` }), name).toBe(false);
			const { [name]: _, ...without } = ours;
			expect(isOurChallenge([SECRET], { realm: "", method: "", intent: "", request: "", ...without }), name).toBe(
				false,
			);
		}
		expect(isOurChallenge([SECRET], { ...ours, id: `${ours.id.slice(0, -1)}x` })).toBe(false);
		expect(isOurChallenge([SECRET], { ...ours, id: ours.id.slice(0, -1) })).toBe(false);
		expect(isOurChallenge([SECRET], { ...ours, id: "" })).toBe(false);
	});

	test("does not cover the description", () => {
		expect(isOurChallenge([SECRET], { ...ours, description: "other" })).toBe(true);
	});

	test("does not let characters move between parameters", () => {
		const short = fc.stringMatching(/^[a|]{0,3}$/);
		const unsigned = fc.record({
			realm: short,
			method: short,
			intent: short,
			request: short,
			expires: short,
			digest: short,
			opaque: short,
		});
		fc.assert(
			fc.property(unsigned, unsigned, (made, presented) => {
				if (codeOf(() => challengeId(SECRET, made)) === "challenge_format") return;
				const id = challengeId(SECRET, made);
				const same = JSON.stringify(made) === JSON.stringify(presented);
				expect(isOurChallenge([SECRET], { id, ...presented })).toBe(same);
			}),
			{ numRuns: 10_000 },
		);
		const shifted = { ...ours, realm: `${ours.realm}|${ours.method}`, method: ours.intent, intent: ours.request };
		expect(isOurChallenge([SECRET], shifted)).toBe(false);
	});

	test("is found under any secret of the rotation, wherever it stands", () => {
		const old = createChallenge(OLD_SECRET, params);
		expect(isOurChallenge([SECRET, OLD_SECRET], old)).toBe(true);
		expect(isOurChallenge([OLD_SECRET, SECRET], old)).toBe(true);
		expect(isOurChallenge([SECRET], old)).toBe(false);
		expect(isOurChallenge([], old)).toBe(false);
	});
});

describe("a secret shorter than 32 bytes", () => {
	const weak = "x".repeat(31);

	test("is refused wherever it is used, without being shown", () => {
		for (const call of [
			() => challengeId(weak, sampleChallenge),
			() => challengeId(new Uint8Array(31), sampleChallenge),
			() => isOurChallenge([SECRET, weak], sampleChallenge),
			() => createChallenge(weak, params),
			() => assertChallengeSecrets([SECRET, weak]),
		]) {
			const error = thrownBy(call);
			expect(error).toMatchObject({ code: "weak_secret", bytes: 31 });
			expect(String(error)).not.toContain(weak);
		}
	});

	test("is told by its bytes, not its characters", () => {
		expect(() => assertChallengeSecrets(["\u20ac".repeat(11)])).not.toThrow();
	});

	test("is not better than none", () => {
		expect(codeOf(() => assertChallengeSecrets([]))).toBe("weak_secret");
	});
});

describe("expiry", () => {
	const at = Date.parse("2030-01-01T00:00:00Z");

	test("comes at the given instant", () => {
		expect(isExpired({ expires: "2030-01-01T00:00:00Z" }, at - 1)).toBe(false);
		expect(isExpired({ expires: "2030-01-01T00:00:00Z" }, at)).toBe(true);
	});

	test("never comes where none was given", () => {
		expect(isExpired({}, Number.MAX_SAFE_INTEGER)).toBe(false);
	});

	test("has come where it cannot be read", () => {
		for (const expires of ["", "never", "2030-02-30T00:00:00Z", "9999"]) expect(isExpired({ expires }, 0)).toBe(true);
	});
});

test("opaque carries exactly the caller's 128 bits", () => {
	const random = Uint8Array.from({ length: 16 }, (_, at) => at);
	expect(decodeJson(nonceOpaque(random))).toEqual({ nonce: "AAECAwQFBgcICQoLDA0ODw" });
	expect(codeOf(() => nonceOpaque(new Uint8Array(15)))).toBe("challenge_format");
	expect(codeOf(() => nonceOpaque(random, { nonce: "mine" }))).toBe("challenge_format");
});

test("what a server puts beside the nonce comes back, and nothing where it put nothing (core: opaque)", () => {
	const random = new Uint8Array(16).fill(7);
	const data = { order: "1234", "customer-id": "ü" };
	expect(opaqueData({ opaque: nonceOpaque(random, data) })).toEqual(data);
	expect(decodeJson(nonceOpaque(random, data))).toMatchObject({ nonce: "BwcHBwcHBwcHBwcHBwcHBw" });
	expect(opaqueData({ opaque: nonceOpaque(random) })).toBeUndefined();
	expect(opaqueData({})).toBeUndefined();
});
