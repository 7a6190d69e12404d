import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	type Challenge,
	createChallenge,
	formatCredential,
	formatTimestamp,
	type ProblemName,
	problemType,
} from "../../src/protocol/index.ts";
import { ChallengeBook } from "../../src/server/challenges.ts";
import { EVM, evmRequest } from "../../src/server/evm/offer.ts";
import type { Terms } from "../../src/server/evm/terms.ts";
import { screen } from "../../src/server/screen.ts";
import { chargeOffer, sessionOffer, testMethod, testTerms } from "./evmMethod.ts";

const NOW = 1_800_000_000_000;
const TTL_SECONDS = 300;
const EXPIRY = NOW + TTL_SECONDS * 1_000;
const SECRET = "a secret of at least thirty-two bytes";

const terms = testTerms();
const session = sessionOffer(terms);
const charge = chargeOffer(terms, { amount: 500n });
const methods = [testMethod(terms)];
const offers = [session, charge];
const payload = { action: "voucher", channelId: `0x${"c1".repeat(32)}`, cumulativeAmount: "100" };

function book(its: Partial<Terms> = {}, secret = SECRET): ChallengeBook {
	const random = () => randomBytes(16);
	const { realm } = { ...terms, ...its };
	return new ChallengeBook({ secrets: [secret], realm, methods, ttlSeconds: TTL_SECONDS, random });
}

function answer(challenge: Challenge, its: Record<string, unknown> = payload): string {
	return formatCredential({ challenge, payload: its });
}

function screened(
	authorization: readonly string[],
	{ nowMs = NOW, its = offers, key = undefined as string | undefined } = {},
) {
	return screen({ offers: its, authorization, idempotencyKey: key }, book(), nowMs);
}

function problemOf(...given: Parameters<typeof screened>) {
	const outcome = screened(...given);
	if (outcome.kind !== "refused") throw new TypeError("the request was not refused");
	return outcome.problem;
}

function expectRefused(given: Parameters<typeof screened>, name: ProblemName, status: number) {
	const refusal = problemOf(...given);
	expect([refusal.type, refusal.status]).toEqual([problemType(name), status]);
	return refusal;
}

describe("a request without a credential", () => {
	test.each([
		["no Authorization at all", []],
		["another scheme's", ["Bearer abc", "Basic eA=="]],
		["a scheme that only begins alike", ["Payments abc"]],
	])("(%s) is 402 payment-required", (_, authorization) => {
		expectRefused([authorization], "payment-required", 402);
	});
});

describe("a credential", () => {
	test("that answers a challenge of ours finds the offer and is named byte for byte", () => {
		const credential = answer(book().issue(session, NOW));
		const outcome = screened([credential]);
		expect(outcome).toMatchObject({ kind: "screened", expired: false, offer: session, request: { intent: "session" } });
		const again = screened([credential]);
		const other = screened([answer(book().issue(session, NOW))]);
		const keyOf = (one: ReturnType<typeof screened>) => (one.kind === "screened" ? one.credentialKey : undefined);
		expect(keyOf(again)).toBe(keyOf(outcome));
		expect(keyOf(other)).not.toBe(keyOf(outcome));
		expect(keyOf(outcome)).not.toContain(credential.slice(8));
	});

	test("is found beside other schemes, in one header or several", () => {
		const credential = answer(book().issue(charge, NOW));
		expect(screened(["Bearer abc", credential])).toMatchObject({ kind: "screened", offer: charge });
		expect(screened([`Bearer abc, ${credential}`])).toMatchObject({ kind: "screened", offer: charge });
	});

	test("is one: several are 400, in one header or several, good or not", () => {
		const credential = answer(book().issue(session, NOW));
		expectRefused([[credential, credential]], "bad-request", 400);
		expectRefused([[`${credential}, ${credential}`]], "bad-request", 400);
		expectRefused([["Payment garbage", credential]], "bad-request", 400);
	});

	test.each([
		["nothing", "Payment"],
		["garbage", "Payment !!!not-base64url!!!"],
		["no JSON", `Payment ${Buffer.from("hello").toString("base64url")}`],
		["no object", `Payment ${Buffer.from("[1]").toString("base64url")}`],
		["no challenge", `Payment ${Buffer.from('{"payload":{}}').toString("base64url")}`],
		["too long", `Payment ${"A".repeat(20_000)}`],
	])("of %s is 402 malformed-credential (D18)", (_, authorization) => {
		expectRefused([[authorization]], "malformed-credential", 402);
	});

	test("never shows in a refusal, whatever is wrong with it", () => {
		const secretive = fc.stringMatching(/^[A-Za-z0-9_-]{24,80}$/);
		const shapes: ((text: string) => string)[] = [
			(text) => `Payment ${text}`,
			(text) => `Payment ${Buffer.from(JSON.stringify({ payload: text })).toString("base64url")}`,
			(text) => answer({ ...book().issue(session, NOW), id: text }),
			(text) => answer({ ...book().issue(session, NOW), realm: text }, { signature: text }),
			(text) => answer({ ...book().issue(session, NOW), intent: text }, { signature: text }),
		];
		fc.assert(
			fc.property(secretive, fc.constantFrom(...shapes), (text, shape) => {
				const header = shape(text);
				const said = JSON.stringify(problemOf([header]));
				expect(said).not.toContain(text);
				expect(said).not.toContain(header.slice("Payment ".length));
			}),
		);
	});

	test("with an Idempotency-Key that is empty or too long is 400", () => {
		const credential = answer(book().issue(session, NOW));
		expectRefused([[credential], { key: "" }], "bad-request", 400);
		expectRefused([[credential], { key: "k".repeat(256) }], "bad-request", 400);
		expect(screened([credential], { key: "k".repeat(255) }).kind).toBe("screened");
	});
});

describe("a challenge that is not for this route is refused: a session's 402 challenge-not-found, a charge's 402 invalid-challenge (D9, D18)", () => {
	const elsewhere = `0x${"99".repeat(20)}` as const;
	const refusals = [
		["session", session, "session/challenge-not-found"],
		["charge", charge, "invalid-challenge"],
	] as const;

	test.each(refusals)("because another server issued it (%s)", (_, offer, name) => {
		const stranger = book({}, "another secret of at least thirty-two bytes");
		expectRefused([[answer(stranger.issue(offer, NOW))]], name, 402);
	});

	test.each(refusals)("because it was altered (%s)", (_, offer, name) => {
		const challenge = book().issue(offer, NOW);
		expectRefused([[answer({ ...challenge, expires: formatTimestamp(EXPIRY + 60_000) })]], name, 402);
	});

	test.each([
		["realm", { realm: "api.example.org" }],
		["chain", { chainId: 1 }],
		["currency", { currency: elsewhere }],
		["recipient", { recipient: elsewhere }],
		["escrow", { escrow: elsewhere }],
	])("because of its %s, though the secret is ours", (what, its) => {
		const theirs = { ...terms, ...its };
		const issued = (offer: typeof session | typeof charge) =>
			answer(book(its).issue({ ...offer, terms: theirs } as typeof offer, NOW));
		expectRefused([[issued(session)]], "session/challenge-not-found", 402);
		if (what === "escrow") return;
		expectRefused([[issued(charge)]], "invalid-challenge", 402);
	});

	test("because of an intent the route does not offer", () => {
		const bySession = answer(book().issue(session, NOW));
		expectRefused([[bySession], { its: [charge] }], "session/challenge-not-found", 402);
		expectRefused([[answer(book().issue(charge, NOW))], { its: [session] }], "invalid-challenge", 402);
	});

	test("because of a method that is not ours, though the secret is", () => {
		const { id: _, request: __, ...rest } = book().issue(session, NOW);
		const foreign = createChallenge(SECRET, { ...rest, method: "tempo", request: evmRequest(session) });
		expectRefused([[answer(foreign)]], "session/challenge-not-found", 402);
	});

	test("because a charge's amount is not the price of this request; a session's may differ", () => {
		const dearer = {
			its: [
				{ ...session, amount: 101n },
				{ ...charge, amount: 501n },
			],
		};
		expectRefused([[answer(book().issue(charge, NOW))], dearer], "invalid-challenge", 402);
		expect(screened([answer(book().issue(session, NOW))], dearer)).toMatchObject({
			kind: "screened",
			offer: { intent: "session", amount: 101n },
		});
	});

	test("because its request is one that this release can't read, though the secret is ours", () => {
		const unreadable = createChallenge(SECRET, {
			realm: terms.realm,
			method: EVM,
			intent: "session",
			request: { amount: "100", unit: "request" },
			expires: formatTimestamp(EXPIRY),
		});
		expectRefused([[answer(unreadable)]], "session/challenge-not-found", 402);
	});

	test("because a session's has expired, from its second on", () => {
		const credential = answer(book().issue(session, NOW));
		expect(screened([credential], { nowMs: EXPIRY - 1 }).kind).toBe("screened");
		expectRefused([[credential], { nowMs: EXPIRY }], "session/challenge-not-found", 402);
	});

	test("but not because a charge's has expired: what was paid in time is still fetched with it, marked as such", () => {
		const credential = answer(book().issue(charge, NOW));
		expect(screened([credential], { nowMs: EXPIRY })).toMatchObject({ kind: "screened", expired: true });
	});
});

describe("a request is management (D11)", () => {
	const isManaged = (method: string, action: string) => {
		const outcome = screened([answer(book().issue(session, NOW), { ...payload, action })]);
		if (outcome.kind === "refused") throw new TypeError(outcome.problem.detail);
		return outcome.method.isManagement(method, outcome);
	};

	test("when it is a HEAD, a close or a top-up", () => {
		expect([isManaged("HEAD", "voucher"), isManaged("POST", "close"), isManaged("GET", "topUp")]).toEqual([
			true,
			true,
			true,
		]);
	});

	test("not when it asks for the route with a voucher or an open", () => {
		expect([isManaged("GET", "voucher"), isManaged("POST", "open")]).toEqual([false, false]);
	});
});
