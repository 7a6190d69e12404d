import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeBase64url, type ProblemName } from "../../../src/protocol/index.ts";
import { expectPaid, expectProblem, expectRefusal, unchanged } from "../../support/expect.ts";
import {
	createWorld,
	type Draft,
	encode,
	type PaidServer,
	type Payer,
	PRICE,
	type Send,
	type TestChannel,
	type World,
	withChallenge,
	withPayload,
} from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;
let channel: TestChannel;
/** A voucher that would be served: whatever is refused is refused for what was done to it. */
let good: Draft;

const stranger = privateKeyToAccount(generatePrivateKey());
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	server = await world.serve({ fastify: { http: { maxHeaderSize: 65_536 } } });
	channel = await server.open(payer);
	good = await payer.voucher(await server.challenge("/session"), channel, PRICE);
});
afterAll(async () => {
	// It was good all along.
	expectPaid(await server.pay("/session", good));
	await world.stop();
});

async function refused(
	name: ProblemName,
	authorization: Send["authorization"] | Draft,
	path = "/session",
	extra: Omit<Send, "authorization"> = {},
) {
	const answer = await unchanged(server, [channel], () =>
		server.send(path, { ...extra, ...(authorization !== undefined && { authorization }) }),
	);
	expectRefusal(answer, name);
	return answer;
}

const signature = () => String(good.payload.signature);

describe("a header that is no credential", () => {
	const token = () => encode(good).slice("Payment ".length);
	const raw = (text: string) => `Payment ${encodeBase64url(text)}`;
	const malformed: readonly (readonly [string, () => string])[] = [
		["nothing after the scheme", () => "Payment"],
		["a space after the scheme", () => "Payment "],
		["no base64url", () => "Payment !!!"],
		["padding", () => `Payment ${token()}=`],
		["base64 of the other alphabet", () => "Payment ++//"],
		["an impossible length", () => "Payment A"],
		["unused bits that are not zero", () => "Payment e31"],
		["two tokens", () => `Payment ${token()} ${token()}`],
		["half a token", () => `Payment ${token().slice(0, 200)}`],
		["auth-params", () => 'Payment id="x"'],
		["no JSON", () => raw("{")],
		["JSON that is no object", () => raw("[]")],
		["null", () => raw("null")],
		["a string", () => raw('"credential"')],
		["bytes that are no UTF-8", () => `Payment ${encodeBase64url(new Uint8Array([123, 34, 255, 34, 125]))}`],
		["__proto__", () => raw('{"__proto__":{"challenge":{}},"payload":{}}')],
		["a very deep object", () => raw(`{"a":${"[".repeat(5_000)}${"]".repeat(5_000)}}`)],
		["an empty object", () => raw("{}")],
		["no challenge", () => encode({ payload: good.payload })],
		["no payload", () => encode({ challenge: good.challenge })],
		["a payload that is a list", () => encode({ ...good, payload: [good.payload] })],
		["a challenge that is a string", () => encode({ ...good, challenge: good.challenge.id })],
		["an id that is a number", () => encode(withChallenge(good, { id: 7 }))],
		["an empty id", () => encode(withChallenge(good, { id: "" }))],
		["no id", () => encode(withChallenge(good, { id: undefined }))],
		["no realm", () => encode(withChallenge(good, { realm: undefined }))],
		["a request that is an object", () => encode(withChallenge(good, { request: {} }))],
		["a source that is a number", () => encode({ ...good, source: 1 })],
		["more than 16,384 characters", () => raw(`{"a":"${"x".repeat(20_000)}"}`)],
	];

	it.each(malformed)("%s: malformed-credential", async (_title, authorization) => {
		await refused("malformed-credential", authorization());
	});

	it("longer than any header may be is refused by the server itself", async () => {
		const small = await world.serve();
		const answer = await unchanged(small, [], () =>
			small.send("/session", { authorization: `Payment ${"A".repeat(40_000)}` }),
		);
		expect(answer.status).toBe(431);
	});
});

describe("several credentials", () => {
	it("in several fields, or joined by a comma, are 400 even if each is good (core: Multiple Payment Options)", async () => {
		const other = encode(await payer.voucher(await server.challenge("/session"), channel, PRICE));
		const one = encode(good);
		await refused("bad-request", [one, other]);
		await refused("bad-request", [one, one]);
		await refused("bad-request", `${one}, ${other}`);
		await refused("bad-request", `${one},${one}`);
		await refused("bad-request", [`Basic dTpw, ${one}`, other]);
		await refused("bad-request", ["Payment x", one]);
	});
});

describe("a challenge that is not the one we gave", () => {
	const tampered: readonly (readonly [string, () => Readonly<Record<string, unknown>>])[] = [
		["id", () => ({ id: `${good.challenge.id.slice(0, -1)}${good.challenge.id.endsWith("A") ? "B" : "A"}` })],
		["id, shortened", () => ({ id: good.challenge.id.slice(1) })],
		["realm", () => ({ realm: "other.example" })],
		["realm, in another case", () => ({ realm: good.challenge.realm.toUpperCase() })],
		["method", () => ({ method: "tempo" })],
		["method, in another case", () => ({ method: "EVM" })],
		["intent", () => ({ intent: "Session" })],
		["request", () => ({ request: encodeBase64url('{"amount":"1"}') })],
		["request, empty", () => ({ request: "" })],
		["expires, later", () => ({ expires: "2999-01-01T00:00:00Z" })],
		["expires, left out", () => ({ expires: undefined })],
		["expires, no date", () => ({ expires: "never" })],
		["digest, added", () => ({ digest: "sha-256=:x:" })],
		["opaque", () => ({ opaque: encodeBase64url('{"nonce":"AAAAAAAAAAAAAAAAAAAAAA"}') })],
		["opaque, left out", () => ({ opaque: undefined })],
		["parts moved over a separator", () => ({ realm: `${good.challenge.realm}|evm`, method: good.challenge.intent })],
	];

	it.each(tampered)("%s", async (_title, members) => {
		const draft = withChallenge(good, members());
		const isSession = draft.challenge.intent === "session";
		await refused(isSession ? "session/challenge-not-found" : "invalid-challenge", draft);
	});

	it("but another server's, with other terms, or another secret", async () => {
		const servers = [await world.serve({ engine: { realm: "other.example" } }), await world.serve()];
		for (const other of servers) {
			const draft = await payer.voucher(await other.challenge("/session"), channel, PRICE);
			await refused("session/challenge-not-found", draft);
		}
	});

	it("but another payee's who has the same secret and realm (D9)", async () => {
		const secrets = ["the-very-same-secret-of-two-payees"];
		const [mine, other] = [await world.serve({ engine: { secrets } }), await world.serve({ engine: { secrets } })];
		const draft = await payer.voucher(await other.challenge("/session"), channel, PRICE);
		expectRefusal(await unchanged(mine, [], () => mine.pay("/session", draft)), "session/challenge-not-found");
	});
});

describe("a session payload of the wrong shape is 400 (D18)", () => {
	const wrong: readonly (readonly [string, () => Readonly<Record<string, unknown>>])[] = [
		["no action", () => ({ action: undefined })],
		["an unknown action", () => ({ action: "refund" })],
		["an action that is a number", () => ({ action: 1 })],
		["no channelId", () => ({ channelId: undefined })],
		["no amount", () => ({ cumulativeAmount: undefined })],
		["no signature", () => ({ signature: undefined })],
		["an amount of 2^128", () => ({ cumulativeAmount: String(2n ** 128n) })],
		["an amount far above that", () => ({ cumulativeAmount: "9".repeat(4_000) })],
		["a negative amount", () => ({ cumulativeAmount: "-1" })],
		["a fraction", () => ({ cumulativeAmount: "100.0" })],
		["an exponent", () => ({ cumulativeAmount: "1e2" })],
		["hex", () => ({ cumulativeAmount: "0x64" })],
		["leading zeros", () => ({ cumulativeAmount: "0100" })],
		["a plus", () => ({ cumulativeAmount: "+100" })],
		["a space", () => ({ cumulativeAmount: "100 " })],
		["other digits", () => ({ cumulativeAmount: "١٠٠" })],
		["an empty amount", () => ({ cumulativeAmount: "" })],
		["a number", () => ({ cumulativeAmount: 100 })],
		["a float", () => ({ cumulativeAmount: 100.5 })],
		["a list", () => ({ cumulativeAmount: ["100"] })],
		["null", () => ({ cumulativeAmount: null })],
		["an uppercase channelId", () => ({ channelId: channel.channelId.toUpperCase().replace("0X", "0x") })],
		["a channelId of 31 bytes", () => ({ channelId: channel.channelId.slice(0, -2) })],
		["a channelId without 0x", () => ({ channelId: channel.channelId.slice(2) })],
		["an uppercase signature", () => ({ signature: signature().toUpperCase().replace("0X", "0x") })],
		["a signature of 64 bytes", () => ({ signature: signature().slice(0, -2) })],
		["a signature of 66 bytes", () => ({ signature: `${signature()}00` })],
		["a signature that is not hex", () => ({ signature: `0x${"zz".repeat(65)}` })],
		["a signature that is an object", () => ({ signature: { r: 1, s: 2 } })],
	];

	it.each(wrong)("%s", async (_title, members) => {
		await refused("bad-request", withPayload(good, members()));
		await refused("bad-request", withPayload(withPayload(good, { action: "close" }), members()));
	});
});

describe("a voucher's signature", () => {
	const compact = (s: bigint, v: string) => `${signature().slice(0, 66)}${s.toString(16).padStart(64, "0")}${v}`;
	const s = () => BigInt(`0x${signature().slice(66, 130)}`);
	const flipped = () => (signature().endsWith("1b") ? "1c" : "1b");
	const unverifiable: readonly (readonly [string, () => string])[] = [
		["of zeros", () => `0x${"00".repeat(65)}`],
		["of ones", () => `0x${"ff".repeat(65)}`],
		["with high s, its twin", () => compact(ORDER - s(), flipped())],
		["with v 0", () => compact(s(), "00")],
		["with v 1", () => compact(s(), "01")],
		["with v 29", () => compact(s(), "1d")],
		["with s of zero", () => compact(0n, "1b")],
		["with s of the curve's order", () => compact(ORDER, "1b")],
		["with r of zero", () => `0x${"00".repeat(32)}${signature().slice(66)}`],
	];
	it.each(unverifiable)("%s is invalid-signature, for a voucher and for a close", async (_title, forged) => {
		await refused("session/invalid-signature", withPayload(good, { signature: forged() }));
		await refused("session/invalid-signature", withPayload(good, { signature: forged(), action: "close" }));
	});

	it("is the signer's, over this amount, channel, chain and escrow, and no other (I3)", async () => {
		const other = payer.channel(server.payee);
		const forgeries = [
			{ signer: stranger },
			{ amount: PRICE + 1n },
			{ amount: 0n },
			{ channelId: other.channelId },
			{ chainId: 1 },
			{ escrow: world.token },
		];
		for (const signing of forgeries) {
			await refused("session/signer-mismatch", await payer.voucher(good.challenge, channel, PRICE, signing));
			await refused("session/signer-mismatch", await payer.close(good.challenge, channel, PRICE, signing));
			// Also where the answer would have been 200 without a change (draft: Idempotency).
			await refused(
				"session/signer-mismatch",
				await payer.voucher(good.challenge, channel, 0n, { ...signing, amount: 7n }),
			);
		}
		const flippedV = withPayload(good, { signature: compact(s(), flipped()) });
		const answer = await unchanged(server, [channel], () => server.pay("/session", flippedV));
		expectProblem(answer);
		expect(answer.status).toBe(402);
	});
});
