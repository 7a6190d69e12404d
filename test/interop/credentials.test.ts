import fc from "fast-check";
import { Challenge, Credential, evm } from "mppx";
import { evm as evmClient } from "mppx/client";
import { getAddress, type Hex } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { describe, expect, it } from "vitest";
import {
	type ChallengeParams,
	createChallenge,
	encodeChargePayload,
	encodeChargeRequest,
	formatChallenge,
	formatCredential,
	formatSource,
	formatTimestamp,
	nonceOpaque,
	parseChargePayload,
	parseCredential,
	parseSource,
	paymentCredentials,
} from "../../src/protocol/index.ts";
import { chargeNonce, signAuthorization } from "../../src/voucher/index.ts";
import { SECRET } from "./mppx.ts";

const account = privateKeyToAccount(`0x${"11".repeat(32)}`);
const payer = account.address.toLowerCase() as Hex;
const RECIPIENT = "0x742d35cc6634c0532925a3b844bc9e7595f8fe00";
const TOKEN = "0xfafddbb3fc7688494971a79cc65dca3ef82079e7";
const CHAIN = 196;
const NAME = { name: "USD Coin", version: "2" };
const EXPIRES_SECONDS = Date.UTC(2099, 0, 15, 12, 5) / 1_000;

const params: ChallengeParams = {
	realm: "api.example.com",
	method: "evm",
	intent: "charge",
	request: encodeChargeRequest({
		amount: 100n,
		currency: TOKEN,
		recipient: RECIPIENT,
		methodDetails: { chainId: CHAIN, credentialTypes: ["authorization"] },
	}),
	expires: formatTimestamp(EXPIRES_SECONDS * 1_000),
	digest: "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
	opaque: nonceOpaque(new Uint8Array(16).fill(3)),
	description: "a quote",
};
const challenge = createChallenge(SECRET, params);
const asMppxReadsIt = Challenge.deserialize(formatChallenge(challenge));

const method = evmClient.charge({ account, authorization: NAME });
/** What mppx's client makes of a challenge. */
const mppxCredential = (read: Challenge.Challenge = asMppxReadsIt) =>
	method.createCredential({ challenge: read as never, context: {} });

/** What ours makes of the same one. */
async function ourPayload() {
	const authorization = {
		from: payer,
		to: RECIPIENT,
		value: 100n,
		validAfter: 0n,
		validBefore: BigInt(EXPIRES_SECONDS),
		nonce: chargeNonce(challenge.id, challenge.realm),
	} as const;
	const domain = { ...NAME, chainId: CHAIN, verifyingContract: TOKEN } as const;
	const signature = await signAuthorization("transfer", account, domain, authorization);
	return { type: "authorization" as const, ...authorization, signature };
}

describe("a charge credential of type authorization", () => {
	it("is the same payment from both clients: same nonce, same typed data, same signature", async () => {
		const theirs = parseChargePayload(parseCredential(await mppxCredential()).payload);
		expect(theirs).toEqual(await ourPayload());
	});

	it("of mppx's is read by us: the challenge as we wrote it, the payer from its source", async () => {
		const header = await mppxCredential();
		expect(paymentCredentials(header)).toEqual([header]);
		const read = parseCredential(header);
		expect(read.challenge).toEqual(challenge);
		expect(read.source).toBe(`did:pkh:eip155:${CHAIN}:${getAddress(payer)}`);
		expect(parseSource(read.source ?? "")).toEqual({ chainId: CHAIN, address: payer });
	});

	it("of ours is read by mppx: challenge, payload in its schema's shape, source", async () => {
		const payload = encodeChargePayload(await ourPayload());
		const source = formatSource(CHAIN, getAddress(payer));
		const read = Credential.deserialize(formatCredential({ challenge, payload, source }));
		expect(read).toEqual({ challenge: asMppxReadsIt, payload, source });
		expect(evm.ChargePayloadSchema.parse(read.payload)).toEqual(payload);
		expect(Challenge.verify(read.challenge, { secretKey: SECRET })).toBe(true);
	});

	it("survives both: what mppx read of ours and writes again is what we wrote", async () => {
		const payload = encodeChargePayload(await ourPayload());
		const header = formatCredential({ challenge, payload });
		expect(parseCredential(Credential.serialize(Credential.deserialize(header)))).toEqual(parseCredential(header));
	});

	it("has one nonce for any id and realm on both sides (property)", () => {
		const text = fc.string({ unit: "grapheme", minLength: 1 });
		fc.assert(
			fc.property(text, text, (id, realm) => {
				expect(evm.challengeHash({ id, realm })).toBe(chargeNonce(id, realm));
			}),
			{ numRuns: 10_000 },
		);
	});

	it("is found by both beside another scheme in one header", async () => {
		const header = await mppxCredential();
		const joined = `Bearer abc, ${header}`;
		expect(paymentCredentials(joined)).toEqual([header]);
		expect(Credential.extractPaymentScheme(joined)).toBe(header);
	});

	it("difference: of several in one header mppx reads the first, we see them all and answer 400", async () => {
		const header = await mppxCredential();
		const joined = `${header}, ${header}`;
		expect(Credential.extractPaymentScheme(joined)).toBe(header);
		expect(paymentCredentials(joined)).toHaveLength(2);
	});

	it("is made by mppx where other types are offered too, though its own request schema refuses such a list", async () => {
		const request = encodeChargeRequest({
			amount: 100n,
			currency: TOKEN,
			recipient: RECIPIENT,
			methodDetails: { chainId: CHAIN, credentialTypes: ["permit2", "authorization", "transaction", "hash"] },
		});
		const offered = createChallenge(SECRET, { ...params, request });
		const header = await mppxCredential(Challenge.deserialize(formatChallenge(offered)));
		expect(parseChargePayload(parseCredential(header).payload)).toMatchObject({ type: "authorization", from: payer });
		expect(evm.ChargeRequestSchema.safeParse(request).success).toBe(false);
	});

	it.each([
		["no list of types", {}],
		["another type only", { credentialTypes: ["permit2" as const] }],
		[
			"splits",
			{ credentialTypes: ["authorization" as const], splits: [{ recipient: RECIPIENT, amount: 1n } as const] },
		],
	])("is not made by mppx for %s", async (_, details) => {
		const request = encodeChargeRequest({
			amount: 100n,
			currency: TOKEN,
			recipient: RECIPIENT,
			methodDetails: { chainId: CHAIN, ...details },
		});
		const offered = createChallenge(SECRET, { ...params, request });
		await expect(mppxCredential(Challenge.deserialize(formatChallenge(offered)))).rejects.toThrow(/^EVM authorization/);
	});

	it("difference: for a challenge without an expiry mppx makes it good for 300 seconds", async () => {
		const { expires: _, ...timeless } = params;
		const read = Challenge.deserialize(formatChallenge(createChallenge(SECRET, timeless)));
		const before = Math.floor(Date.now() / 1_000);
		const payload = parseChargePayload(parseCredential(await mppxCredential(read)).payload);
		if (payload.type !== "authorization") throw new Error("mppx makes no other");
		const lifetime = Number(payload.validBefore) - before;
		expect(lifetime).toBeGreaterThanOrEqual(300);
		expect(lifetime).toBeLessThanOrEqual(302);
	});
});

describe("what one side takes and the other does not", () => {
	it.each([
		["a signature of 64 bytes", { signature: `0x${"1".repeat(128)}` }],
		["a signature of half a byte more", { signature: `0x${"1".repeat(131)}` }],
		["a value with leading zeros", { value: "00100" }],
		["a value of 2^256", { value: String(2n ** 256n) }],
	])("difference: mppx's schema takes %s, ours does not", async (_, members) => {
		const payload = { ...encodeChargePayload(await ourPayload()), ...members };
		expect(evm.ChargePayloadSchema.safeParse(payload).success).toBe(true);
		expect(() => parseChargePayload(payload)).toThrow();
	});

	it("difference: mppx reads padded base64 and an opaque that is an object, ours takes neither", async () => {
		const [, encoded = ""] = (await mppxCredential()).split(" ");
		const json = Buffer.from(encoded, "base64url").toString("utf8");
		// Blanks, until the length is one that base64 pads.
		const padded = `Payment ${Buffer.from(json.padEnd(json.length + 4 - (json.length % 3))).toString("base64")}`;
		expect(padded).toMatch(/=$/);
		expect(Credential.deserialize(padded).challenge.id).toBe(challenge.id);
		expect(() => parseCredential(padded)).toThrow();

		const loose = { challenge: { ...challenge, opaque: { nonce: "a" } }, payload: {} };
		const legacy = `Payment ${Buffer.from(JSON.stringify(loose)).toString("base64url")}`;
		expect(Credential.deserialize(legacy).challenge.meta).toEqual({ nonce: "a" });
		expect(() => parseCredential(legacy)).toThrow();
	});
});
