import { LRUCache } from "lru-cache";
import type { Address, Hex } from "viem";
import { FieldFormatError, readHex } from "./bytes.ts";
import { portableSecp256k1, type Secp256k1 } from "./curve.ts";
import type { VoucherDomain } from "./domain.ts";
import { type Keccak256, keccak256 as portableKeccak256 } from "./keccak.ts";
import { type ParsedSignature, parseSignature, SignatureFormatError } from "./signature.ts";
import { type Voucher, voucherDigest } from "./voucher.ts";

/**
 * What became of a signature: `valid`; `invalid-signature` when it is malformed, not canonical, or no key could have made
 * it; `signer-mismatch` when somebody else made it, which is also how changed signed data shows.
 */
export type SignatureVerdict = "valid" | "invalid-signature" | "signer-mismatch";

export interface VoucherVerifierOptions {
	/** Curve arithmetic; portable JavaScript unless given. */
	readonly secp256k1?: Secp256k1 | undefined;
	/** Keccak-256; portable JavaScript unless given. */
	readonly keccak256?: Keccak256 | undefined;
	/** How many signers' public keys are remembered, the least recently used forgotten first. Default 10,000. */
	readonly cacheSize?: number | undefined;
}

/**
 * Verifies ECDSA signatures of externally owned accounts. Whether a signer is a contract (ERC-1271) is the caller's to
 * know. Synchronous and without a clock or I/O; give each worker its own.
 */
export interface VoucherVerifier {
	/** What it hashes with: for whoever makes digests to verify. */
	readonly keccak256: Keccak256;
	/** How many public keys are remembered now. */
	readonly knownSigners: number;
	/**
	 * Whether `signature` is `signer`'s over `digest`.
	 *
	 * @param signature - Hex, or what {@link parseSignature} made of it when the format was checked earlier.
	 * @throws {FieldFormatError} when `signer` or `digest` is malformed: the caller's own mistake, unlike a bad signature.
	 */
	verifyDigest(signer: Address, digest: Uint8Array, signature: Hex | ParsedSignature): SignatureVerdict;
	/**
	 * What a signature was that had its maker's key recovered elsewhere, by the same arithmetic; `undefined`: no key fits it.
	 *
	 * @throws {FieldFormatError} when `signer` is malformed.
	 */
	verdictOn(signer: Address, recovered: Uint8Array | undefined): SignatureVerdict;
	/**
	 * Whether `signature` is `signer`'s over `voucher` in `domain`.
	 *
	 * @throws {AmountOutOfRangeError} outside `0..2^128-1`.
	 * @throws {FieldFormatError} when `signer` or the voucher's `channelId` is malformed.
	 */
	verifyVoucher(
		domain: VoucherDomain,
		signer: Address,
		voucher: Voucher,
		signature: Hex | ParsedSignature,
	): SignatureVerdict;
}

/**
 * Makes a verifier. It recovers the public key of each signature and compares it with the one its signer is known by;
 * only a signer not seen lately costs the hash from key to address.
 *
 * Source: draft-evm-session-00, "Signature Verification", "Voucher Verification" steps 3 to 5.
 *
 * @throws {RangeError} when `cacheSize` is not a positive integer.
 * @example
 * ```ts
 * const verifier = createVoucherVerifier();
 * const verdict = verifier.verifyVoucher(domain, voucherSigner(channel), voucher, signature);
 * if (verdict !== "valid") throw new Error(verdict);
 * ```
 */
export function createVoucherVerifier(options: VoucherVerifierOptions = {}): VoucherVerifier {
	const { secp256k1 = portableSecp256k1, keccak256 = portableKeccak256, cacheSize = 10_000 } = options;
	if (!Number.isSafeInteger(cacheSize) || cacheSize < 1) {
		throw new RangeError(`cacheSize must be a positive integer, not ${cacheSize}`);
	}
	const publicKeys = new LRUCache<string, Uint8Array>({ max: cacheSize });
	const expected = new Uint8Array(20);

	function verifyDigest(signer: Address, digest: Uint8Array, signature: Hex | ParsedSignature): SignatureVerdict {
		if (digest.length !== 32) throw new FieldFormatError("digest", "32 bytes", `${digest.length} bytes`);
		const parsed = typeof signature === "string" ? parseOrRefuse(signature) : signature;
		return verdictOn(signer, parsed && secp256k1.recover(parsed.compact, parsed.recovery, digest));
	}

	function verdictOn(signer: Address, recovered: Uint8Array | undefined): SignatureVerdict {
		const address = signer.toLowerCase();
		const known = publicKeys.get(address);
		if (known === undefined && !readHex(address, 20, expected, 0)) {
			throw new FieldFormatError("signer", "0x and 40 hex digits", signer);
		}
		if (recovered === undefined) return "invalid-signature";
		if (known !== undefined) return equal(recovered, known) ? "valid" : "signer-mismatch";
		if (!equal(keccak256(recovered.subarray(1)).subarray(12), expected)) return "signer-mismatch";
		publicKeys.set(address, recovered.slice());
		return "valid";
	}

	return {
		keccak256,
		get knownSigners() {
			return publicKeys.size;
		},
		verifyDigest,
		verdictOn,
		verifyVoucher: (domain, signer, voucher, signature) =>
			verifyDigest(signer, voucherDigest(domain, voucher, keccak256), signature),
	};
}

function parseOrRefuse(signature: Hex): ParsedSignature | undefined {
	try {
		return parseSignature(signature);
	} catch (error) {
		if (error instanceof SignatureFormatError) return undefined;
		throw error;
	}
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
	if (a.length !== b.length) return false;
	for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
	return true;
}
