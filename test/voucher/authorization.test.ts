import fc from "fast-check";
import {
	bytesToHex,
	encodeAbiParameters,
	encodePacked,
	type Hex,
	hashTypedData,
	keccak256,
	parseAbiParameters,
	toHex,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { describe, expect, it } from "vitest";
import { loadCrypto } from "../../src/server/crypto.ts";
import {
	type Authorization,
	type AuthorizationKind,
	authorizationDigest,
	chargeNonce,
	computeChannelId,
	createVoucherVerifier,
	openAuthorizationNonce,
	receiveAuthorizationTypedData,
	signAuthorization,
	type TokenDomain,
	topUpAuthorizationNonce,
	transferAuthorizationTypedData,
	UINT128_MAX,
	ZERO_ADDRESS,
} from "../../src/voucher/index.ts";
import {
	address,
	authorization,
	bytes32,
	channelParameters,
	firstVector,
	flip,
	tokenDomain,
	uint,
	upper,
	type Vector,
	vectors,
} from "./support.ts";

const PRIMARY_TYPE = { receive: "ReceiveWithAuthorization", transfer: "TransferWithAuthorization" } as const;
const MEMBERS = [
	{ name: "from", type: "address" },
	{ name: "to", type: "address" },
	{ name: "value", type: "uint256" },
	{ name: "validAfter", type: "uint256" },
	{ name: "validBefore", type: "uint256" },
	{ name: "nonce", type: "bytes32" },
] as const;

/** By viem, with the four domain members that contracts always hash; left to itself it omits an empty version. */
function reference(kind: AuthorizationKind, domain: TokenDomain, message: Authorization): Hex {
	const EIP712Domain = [
		{ name: "name", type: "string" },
		{ name: "version", type: "string" },
		{ name: "chainId", type: "uint256" },
		{ name: "verifyingContract", type: "address" },
	] as const;
	return hashTypedData({
		domain: { ...domain, chainId: BigInt(domain.chainId) },
		types: { EIP712Domain, ReceiveWithAuthorization: MEMBERS, TransferWithAuthorization: MEMBERS },
		primaryType: PRIMARY_TYPE[kind],
		message: { ...message },
	});
}

function deposit(vector: Vector): { domain: TokenDomain; authorization: Authorization } {
	const { value, validAfter, validBefore } = vector.receiveWithAuthorization;
	return {
		domain: { ...vector.tokenDomain, chainId: vector.chainId, verifyingContract: vector.token },
		authorization: {
			from: vector.payer,
			to: vector.escrow,
			value: BigInt(value),
			validAfter: BigInt(validAfter),
			validBefore: BigInt(validBefore),
			nonce: vector.openNonce,
		},
	};
}

const kinds = ["receive", "transfer"] as const;

describe("the nonce of an opening authorization", () => {
	it.each(vectors)("is the shared vector's: $name", (vector) => {
		expect(openAuthorizationNonce({ ...vector, from: vector.payer })).toBe(vector.openNonce);
	});

	it("is keccak256 of abi.encode(from, payee, token, salt, authorizedSigner)", () => {
		const types = parseAbiParameters("address, address, address, bytes32, address");
		fc.assert(
			fc.property(channelParameters, ({ payer, payee, token, salt, authorizedSigner }) => {
				const given = { from: payer, payee, token, salt, authorizedSigner };
				const encoded = encodeAbiParameters(types, [payer, payee, token, salt, authorizedSigner]);
				expect(openAuthorizationNonce(given)).toBe(keccak256(encoded));
			}),
		);
	});

	it("hashes authorizedSigner as given (D13)", () => {
		const given = { ...firstVector(), from: firstVector().payer };
		expect(openAuthorizationNonce({ ...given, authorizedSigner: given.from })).not.toBe(
			openAuthorizationNonce({ ...given, authorizedSigner: ZERO_ADDRESS }),
		);
	});

	it("is refused for a malformed field, with the field named", () => {
		const given = { ...firstVector(), from: firstVector().payer };
		for (const field of ["from", "payee", "token", "salt", "authorizedSigner"]) {
			expect(() => openAuthorizationNonce({ ...given, [field]: "0x" })).toThrow(expect.objectContaining({ field }));
		}
	});
});

describe("the nonce of a top-up authorization", () => {
	const topUp = fc.record({ channelId: bytes32, additionalDeposit: uint(128), from: address, topUpSalt: bytes32 });

	it("is keccak256 of abi.encode(channelId, additionalDeposit, from, topUpSalt)", () => {
		const types = parseAbiParameters("bytes32, uint128, address, bytes32");
		fc.assert(
			fc.property(topUp, (given) => {
				const { channelId, additionalDeposit, from, topUpSalt } = given;
				const encoded = encodeAbiParameters(types, [channelId, additionalDeposit, from, topUpSalt]);
				expect(topUpAuthorizationNonce(given)).toBe(keccak256(encoded));
			}),
		);
	});

	it("is refused for an amount that is no uint128", () => {
		const given = { channelId: toHex(1, { size: 32 }), from: ZERO_ADDRESS, topUpSalt: toHex(2, { size: 32 }) };
		expect(topUpAuthorizationNonce({ ...given, additionalDeposit: UINT128_MAX })).toMatch(/^0x[0-9a-f]{64}$/);
		for (const additionalDeposit of [-1n, UINT128_MAX + 1n]) {
			expect(() => topUpAuthorizationNonce({ ...given, additionalDeposit })).toThrow(
				expect.objectContaining({ code: "amount-out-of-range", field: "additionalDeposit" }),
			);
		}
	});
});

describe("the nonce of a charge", () => {
	it("is keccak256 of abi.encodePacked(id, realm)", () => {
		fc.assert(
			fc.property(fc.string({ unit: "grapheme" }), fc.string({ unit: "grapheme" }), (id, realm) => {
				expect(chargeNonce(id, realm)).toBe(keccak256(encodePacked(["string", "string"], [id, realm])));
			}),
		);
	});
});

describe("the digest of an authorization", () => {
	it.each(vectors)("is the shared vector's: $name", (vector) => {
		const { domain, authorization: given } = deposit(vector);
		expect(bytesToHex(authorizationDigest("receive", domain, given))).toBe(vector.receiveWithAuthorization.digest);
	});

	it.each(kinds)("is what viem's hashTypedData computes: %s", (kind) => {
		fc.assert(
			fc.property(tokenDomain, authorization, (domain, given) => {
				expect(bytesToHex(authorizationDigest(kind, domain, given))).toBe(reference(kind, domain, given));
			}),
		);
	});

	it("is the token's own, whatever other tokens were asked for before", () => {
		const { domain, authorization: given } = deposit(firstVector());
		const { name, version, chainId } = domain;
		// More than are remembered, and such as a careless key would mistake for each other.
		const others = Array.from({ length: 150 }, (_, at) => ({ ...domain, name: `${name}${at}` }));
		const alike = [
			{ ...domain, name: `${name}"`, version: `",${version}` },
			{ ...domain, name: `${name},${version}`, version: "1" },
			{ ...domain, version: `${version},1` },
			{ ...domain, name: `${name}${version}`, version: "" },
			{ ...domain, name: "", version: `${name}${version}` },
			{ ...domain, version: `${version}1`, chainId },
			{ ...domain, version, chainId: chainId + 1 },
		];
		for (const other of [domain, ...alike, domain, ...others, ...alike, domain])
			expect(bytesToHex(authorizationDigest("transfer", other, given))).toBe(reference("transfer", other, given));
	});

	it("is the same by any hash", async () => {
		const { keccak256: fast } = await loadCrypto();
		fc.assert(
			fc.property(tokenDomain, authorization, fc.constantFrom(...kinds), (domain, given, kind) => {
				expect(authorizationDigest(kind, domain, given, fast)).toEqual(authorizationDigest(kind, domain, given));
			}),
		);
	});

	it("covers an empty name or version, as the token's contract does", async () => {
		const { domain, authorization: given } = deposit(firstVector());
		const account = privateKeyToAccount(firstVector().payerPrivateKey);
		for (const bare of [
			{ ...domain, name: "" },
			{ ...domain, version: "" },
		]) {
			const digest = authorizationDigest("transfer", bare, given);
			const signature = await signAuthorization("transfer", account, bare, given);
			expect(bytesToHex(digest)).toBe(reference("transfer", bare, given));
			expect(createVoucherVerifier().verifyDigest(given.from, digest, signature)).toBe("valid");
		}
	});

	it("is the hash of the typed data that a wallet is shown", () => {
		fc.assert(
			fc.property(tokenDomain, authorization, (domain, given) => {
				const receive = receiveAuthorizationTypedData(domain, given);
				const transfer = transferAuthorizationTypedData(domain, given);
				expect(bytesToHex(authorizationDigest("receive", domain, given))).toBe(hashTypedData(receive));
				expect(bytesToHex(authorizationDigest("transfer", domain, given))).toBe(hashTypedData(transfer));
			}),
		);
	});
});

describe("signing an authorization", () => {
	it.each(vectors)("gives the shared vector's signature: $name", async (vector) => {
		const { domain, authorization: given } = deposit(vector);
		const account = privateKeyToAccount(vector.payerPrivateKey);
		expect(await signAuthorization("receive", account, domain, given)).toBe(vector.receiveWithAuthorization.signature);
	});

	it.each(kinds)("makes what a verifier takes from its signer, for this kind only: %s", async (kind) => {
		const { domain, authorization: given } = deposit(firstVector());
		const account = privateKeyToAccount(firstVector().payerPrivateKey);
		const verifier = createVoucherVerifier();
		const signature = await signAuthorization(kind, account, domain, given);
		const other = kind === "receive" ? "transfer" : "receive";
		const verdict = (digest: Uint8Array) => verifier.verifyDigest(given.from, digest, signature);

		expect(verdict(authorizationDigest(kind, domain, given))).toBe("valid");
		expect(verdict(authorizationDigest(other, domain, given))).toBe("signer-mismatch");
		for (const changed of [
			{ to: given.from },
			{ value: given.value + 1n },
			{ validAfter: given.validAfter + 1n },
			{ validBefore: given.validBefore - 1n },
			{ nonce: flip(given.nonce, 31, 1) },
		]) {
			expect(verdict(authorizationDigest(kind, domain, { ...given, ...changed }))).toBe("signer-mismatch");
		}
		for (const changed of [
			{ name: "USDC" },
			{ version: "1" },
			{ chainId: domain.chainId + 1 },
			{ verifyingContract: given.to },
		]) {
			expect(verdict(authorizationDigest(kind, { ...domain, ...changed }, given))).toBe("signer-mismatch");
		}
	});

	it("does not depend on the case of addresses, not even where a checksum is wrong", async () => {
		const { domain, authorization: given } = deposit(firstVector());
		const account = privateKeyToAccount(firstVector().payerPrivateKey);
		const shouted = { ...given, from: upper(given.from), to: upper(given.to) };
		const shoutedDomain = { ...domain, verifyingContract: upper(domain.verifyingContract) };
		expect(await signAuthorization("receive", account, shoutedDomain, shouted)).toBe(
			firstVector().receiveWithAuthorization.signature,
		);
	});

	it("asks the account for nothing when a field is malformed", async () => {
		const { domain, authorization: given } = deposit(firstVector());
		let asked = 0;
		const account = {
			address: given.from,
			signTypedData: async (): Promise<Hex> => {
				asked++;
				return firstVector().signature;
			},
		};
		for (const [field, value] of [
			["from", "0x"],
			["to", "0x12"],
			["nonce", "0x34"],
			["value", -1n],
			["validAfter", 2n ** 256n],
			["validBefore", -1n],
		] as const) {
			const malformed: Authorization = { ...given, [field]: value };
			for (const kind of kinds) {
				await expect(signAuthorization(kind, account, domain, malformed)).rejects.toThrow(
					expect.objectContaining({ field }),
				);
			}
		}
		await expect(signAuthorization("receive", account, { ...domain, chainId: 0 }, given)).rejects.toThrow(
			expect.objectContaining({ field: "chainId" }),
		);
		expect(asked).toBe(0);
	});

	it("binds the channel: the nonce of one channel's deposit is no other channel's", () => {
		const vector = firstVector();
		const other = { ...vector, salt: flip(vector.salt, 0, 1) };
		expect(computeChannelId(other)).not.toBe(computeChannelId(vector));
		expect(openAuthorizationNonce({ ...other, from: other.payer })).not.toBe(vector.openNonce);
	});
});
