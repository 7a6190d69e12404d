import fc from "fast-check";
import { bytesToHex, type Hex, hashTypedData } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { describe, expect, it } from "vitest";
import {
	closeAuthorizationTypedData,
	createVoucherDomain,
	createVoucherVerifier,
	type PayeeAuthorization,
	type PayeeAuthorizationKind,
	payeeAuthorizationDigest,
	SignatureFormatError,
	settleAuthorizationTypedData,
	signPayeeAuthorization,
	UINT128_MAX,
	type VoucherDomain,
	voucherDigest,
} from "../../src/voucher/index.ts";
import { address, assemble, bytes32, chainId, firstVector, flip, privateKey, uint, upper } from "./support.ts";

const KINDS = ["settle", "close"] as const;
// Spelled out here once more: the reference must not read the definitions it is to check.
const PRIMARY_TYPE = { settle: "SettleAuthorization", close: "CloseAuthorization" } as const;
const MEMBERS = [
	{ name: "channelId", type: "bytes32" },
	{ name: "cumulativeAmount", type: "uint128" },
	{ name: "nonce", type: "uint256" },
	{ name: "deadline", type: "uint256" },
] as const;

function reference(kind: PayeeAuthorizationKind, domain: VoucherDomain, message: PayeeAuthorization): Hex {
	return hashTypedData({
		domain: {
			name: "EVM Payment Channel",
			version: "1",
			chainId: domain.chainId,
			verifyingContract: domain.escrow,
		},
		types: { SettleAuthorization: MEMBERS, CloseAuthorization: MEMBERS },
		primaryType: PRIMARY_TYPE[kind],
		message: { ...message },
	});
}

const domains = fc.tuple(chainId, address).map(([id, escrow]) => createVoucherDomain(id, escrow));
const authorizations: fc.Arbitrary<PayeeAuthorization> = fc.record({
	channelId: bytes32,
	cumulativeAmount: uint(128),
	nonce: uint(256),
	deadline: uint(256),
});

const vector = firstVector();
const domain = createVoucherDomain(vector.chainId, vector.escrow);
const payee = privateKeyToAccount(vector.privateKey);
const authorization: PayeeAuthorization = {
	channelId: vector.channelId,
	cumulativeAmount: BigInt(vector.cumulativeAmount),
	nonce: 7n,
	deadline: 1_900_000_000n,
};

describe("the digest of a payee's authorization", () => {
	it.each(KINDS)("is what viem's hashTypedData computes, for any domain and authorization: %s", (kind) => {
		fc.assert(
			fc.property(domains, authorizations, (made, given) => {
				expect(bytesToHex(payeeAuthorizationDigest(kind, made, given))).toBe(reference(kind, made, given));
			}),
		);
	});

	it("is the hash of the typed data that a wallet is shown", () => {
		fc.assert(
			fc.property(domains, authorizations, (made, given) => {
				const settle = hashTypedData(settleAuthorizationTypedData(made, given));
				const close = hashTypedData(closeAuthorizationTypedData(made, given));
				expect(bytesToHex(payeeAuthorizationDigest("settle", made, given))).toBe(settle);
				expect(bytesToHex(payeeAuthorizationDigest("close", made, given))).toBe(close);
			}),
		);
	});

	it("is another one for a settlement, a close and a voucher", () => {
		const digests = [
			payeeAuthorizationDigest("settle", domain, authorization),
			payeeAuthorizationDigest("close", domain, authorization),
			voucherDigest(domain, authorization),
		];
		expect(new Set(digests.map((digest) => bytesToHex(digest))).size).toBe(3);
	});

	it("takes the largest amount there is", () => {
		const given = { ...authorization, cumulativeAmount: UINT128_MAX };
		expect(bytesToHex(payeeAuthorizationDigest("close", domain, given))).toBe(reference("close", domain, given));
	});
});

describe("the typed data of a payee's authorization", () => {
	it("has nothing of a caller's object but what is signed", () => {
		const row = { ...authorization, payeeSignature: "0x", voucherSignature: "0x" };
		expect(settleAuthorizationTypedData(domain, row).message).toEqual(authorization);
		expect(closeAuthorizationTypedData(domain, row).message).toEqual(authorization);
	});
});

describe("signing a payee's authorization", () => {
	it.each(KINDS)("gives what any viem account signs for the same data: %s", async (kind) => {
		const verifier = createVoucherVerifier();
		await fc.assert(
			fc.asyncProperty(privateKey, domains, authorizations, async (key, made, given) => {
				const account = privateKeyToAccount(key);
				const digest = payeeAuthorizationDigest(kind, made, given);
				const signature = await signPayeeAuthorization(kind, account, made, given);
				expect(signature).toBe(await account.sign({ hash: reference(kind, made, given) }));
				expect(verifier.verifyDigest(account.address, digest, signature)).toBe("valid");
			}),
			{ numRuns: 20 },
		);
	});

	it.each(KINDS)("makes what a verifier takes for just this kind, domain and authorization: %s", async (kind) => {
		const verifier = createVoucherVerifier();
		const signature = await signPayeeAuthorization(kind, payee, domain, authorization);
		const other = kind === "settle" ? "close" : "settle";
		const verdict = (digest: Uint8Array) => verifier.verifyDigest(payee.address, digest, signature);

		expect(verdict(payeeAuthorizationDigest(kind, domain, authorization))).toBe("valid");
		expect(verdict(payeeAuthorizationDigest(other, domain, authorization))).toBe("signer-mismatch");
		for (const changed of [
			{ channelId: flip(authorization.channelId, 31, 1) },
			{ cumulativeAmount: authorization.cumulativeAmount + 1n },
			{ nonce: authorization.nonce + 1n },
			{ deadline: authorization.deadline + 1n },
		]) {
			const digest = payeeAuthorizationDigest(kind, domain, { ...authorization, ...changed });
			expect(verdict(digest)).toBe("signer-mismatch");
		}
		for (const elsewhere of [
			createVoucherDomain(domain.chainId + 1, domain.escrow),
			createVoucherDomain(domain.chainId, vector.token),
		]) {
			expect(verdict(payeeAuthorizationDigest(kind, elsewhere, authorization))).toBe("signer-mismatch");
		}
	});

	it("mends what a wallet returns, and refuses what is no ECDSA signature", async () => {
		const good = await signPayeeAuthorization("settle", payee, domain, authorization);
		const signedBy = (returned: Hex) =>
			signPayeeAuthorization(
				"settle",
				{ address: payee.address, signTypedData: async () => returned },
				domain,
				authorization,
			);
		const v = Number.parseInt(good.slice(130), 16);
		expect(await signedBy(assemble(upper(good), { v: v - 27 }))).toBe(good);
		for (const returned of ["0x", `0x${good.slice(2, 130)}`, assemble(good, { v: 29 })] as const) {
			await expect(signedBy(returned)).rejects.toThrow(SignatureFormatError);
		}
	});

	it("asks the account for nothing when a field is malformed", async () => {
		let asked = 0;
		const account = {
			address: payee.address,
			signTypedData: async (): Promise<Hex> => {
				asked++;
				return vector.signature;
			},
		};
		for (const [field, value, code] of [
			["channelId", "0x12", "field-format"],
			["cumulativeAmount", -1n, "amount-out-of-range"],
			["cumulativeAmount", UINT128_MAX + 1n, "amount-out-of-range"],
			["nonce", 2n ** 256n, "amount-out-of-range"],
			["deadline", -1n, "amount-out-of-range"],
		] as const) {
			for (const kind of KINDS) {
				const malformed: PayeeAuthorization = { ...authorization, [field]: value };
				await expect(signPayeeAuthorization(kind, account, domain, malformed)).rejects.toThrow(
					expect.objectContaining({ code, field }),
				);
			}
		}
		expect(asked).toBe(0);
	});
});
