import { readFileSync } from "node:fs";
import fc from "fast-check";
import { type Address, bytesToHex, type Hex } from "viem";
import type { Authorization, ChannelParameters, TokenDomain } from "../../src/voucher/index.ts";

/** One entry of `test/vectors/voucher.json`, which viem alone made. */
export interface Vector {
	name: string;
	chainId: number;
	escrow: Address;
	payer: Address;
	payerPrivateKey: Hex;
	payee: Address;
	token: Address;
	salt: Hex;
	authorizedSigner: Address;
	channelId: Hex;
	cumulativeAmount: string;
	domainSeparator: Hex;
	digest: Hex;
	signer: Address;
	privateKey: Hex;
	signature: Hex;
	highSSignature: Hex;
	openNonce: Hex;
	tokenDomain: { name: string; version: string };
	receiveWithAuthorization: {
		value: string;
		validAfter: string;
		validBefore: string;
		domainSeparator: Hex;
		digest: Hex;
		signature: Hex;
	};
}

const file: { vectors: Vector[] } = JSON.parse(
	readFileSync(new URL("../vectors/voucher.json", import.meta.url), "utf8"),
);
export const vectors = file.vectors;

export function firstVector(): Vector {
	const [first] = vectors;
	if (first === undefined) throw new Error("test/vectors/voucher.json is empty");
	return first;
}

/** Order of secp256k1. */
export const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

export const bytes32: fc.Arbitrary<Hex> = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((b) => bytesToHex(b));
export const address: fc.Arbitrary<Address> = fc
	.uint8Array({ minLength: 20, maxLength: 20 })
	.map((bytes) => bytesToHex(bytes));
export const chainId = fc.oneof(
	fc.integer({ min: 1, max: 100_000 }),
	fc.maxSafeInteger().filter((id) => id > 0),
);
export const uint = (bits: number): fc.Arbitrary<bigint> => {
	const max = 2n ** BigInt(bits) - 1n;
	return fc.oneof(fc.constantFrom(0n, 1n, max - 1n, max), fc.bigInt({ min: 0n, max }));
};
export const privateKey: fc.Arbitrary<Hex> = fc
	.bigInt({ min: 1n, max: ORDER - 1n })
	.map((key): Hex => `0x${key.toString(16).padStart(64, "0")}`);

export const channelParameters: fc.Arbitrary<ChannelParameters> = fc.record({
	payer: address,
	payee: address,
	token: address,
	salt: bytes32,
	authorizedSigner: address,
	escrow: address,
	chainId,
});
export const tokenDomain: fc.Arbitrary<TokenDomain> = fc.record({
	name: fc.string({ unit: "grapheme" }),
	version: fc.string(),
	chainId,
	verifyingContract: address,
});
export const authorization: fc.Arbitrary<Authorization> = fc.record({
	from: address,
	to: address,
	value: uint(256),
	validAfter: uint(256),
	validBefore: uint(256),
	nonce: bytes32,
});

/** Uppercase digits after the `0x`. */
export const upper = (hex: Hex): Hex => `0x${hex.slice(2).toUpperCase()}`;

/** `hex` with one byte XORed with `mask`. */
export function flip(hex: Hex, index: number, mask: number): Hex {
	const at = 2 + 2 * index;
	const byte = Number.parseInt(hex.slice(at, at + 2), 16) ^ mask;
	return `0x${hex.slice(2, at)}${byte.toString(16).padStart(2, "0")}${hex.slice(at + 2)}`;
}

/** The signature's parts put together anew, with some of them replaced. */
export function assemble(
	signature: Hex,
	change: { r?: bigint | undefined; s?: bigint | undefined; v?: number | undefined },
): Hex {
	const word = (value: bigint | undefined, from: number) =>
		value === undefined ? signature.slice(from, from + 64) : value.toString(16).padStart(64, "0");
	const v = change.v === undefined ? signature.slice(130) : change.v.toString(16).padStart(2, "0");
	return `0x${word(change.r, 2)}${word(change.s, 66)}${v}`;
}
