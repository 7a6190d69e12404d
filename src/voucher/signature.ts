import { bytesToHex, type Hex } from "viem";
import { readHex } from "./bytes.ts";

/** Bytes of a signature on the wire: `r (32) || s (32) || v (1)`. */
export const SIGNATURE_LENGTH = 65;

const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
// The order of secp256k1 and half of it as big-endian bytes, to compare against without making bigints.
const ORDER_BYTES = bigEndian(ORDER);
const HALF_ORDER_BYTES = bigEndian(ORDER / 2n);

/** A signature in the one form that is taken: canonical, with its parts at hand. Only {@link parseSignature} makes one. */
export interface ParsedSignature {
	readonly r: Hex;
	readonly s: Hex;
	readonly v: 27 | 28;
	/** `v - 27`, as curve libraries and the `yParity` of packed signatures count it. */
	readonly recovery: 0 | 1;
	/** `r || s`, 64 bytes, in an array of its own. */
	readonly compact: Uint8Array;
}

/** Why a signature was refused before any curve arithmetic. */
export type SignatureFault = "encoding" | "v" | "r" | "s" | "high-s";

/**
 * Takes apart a 65-byte signature and refuses every form but the canonical one, so that no two byte strings stand for
 * the same signature: compact 64-byte forms, `v` other than 27 and 28, `r` or `s` zero or not below the curve's order,
 * and `s` above half the order. Hex digits of either case are read; that the wire carries lowercase is its codec's rule.
 *
 * Source: draft-evm-session-00, "Hexadecimal Values", "Signature Verification", "Signature Malleability".
 *
 * @throws {SignatureFormatError} with the reason in `fault`; never with the signature, which is a credential.
 * @example
 * ```ts
 * const { r, s, v } = parseSignature(signature);
 * ```
 */
export function parseSignature(signature: Hex): ParsedSignature {
	const bytes = readSignature(signature);
	const v = bytes[64];
	if (v !== 27 && v !== 28) throw new SignatureFormatError("v");
	assertInOrder(bytes);
	if (isHighS(bytes)) throw new SignatureFormatError("high-s");
	const digits = signature.toLowerCase();
	return {
		r: `0x${digits.slice(2, 66)}`,
		s: `0x${digits.slice(66, 130)}`,
		v,
		recovery: v === 27 ? 0 : 1,
		compact: bytes.subarray(0, 64),
	};
}

/**
 * Puts a signature that one of our own accounts made into the canonical form: wallets exist that return `v` as 0 or 1,
 * uppercase digits, or an `s` in the upper half. For what a stranger sent there is {@link parseSignature}, which mends nothing.
 *
 * Source: draft-evm-session-00, "Signing Procedure", step 5; "Signature Malleability" for the flip of `s` and `v`.
 *
 * @returns 65 bytes `r || s || v`, lowercase, low-s, `v` 27 or 28.
 * @throws {SignatureFormatError} when it is not a 65-byte ECDSA signature.
 * @example
 * ```ts
 * const signature = normalizeSignature(await account.signTypedData(typedData));
 * ```
 */
export function normalizeSignature(signature: Hex): Hex {
	const bytes = readSignature(signature);
	const v = bytes[64] ?? 0;
	let recovery = v >= 27 ? v - 27 : v;
	if (recovery !== 0 && recovery !== 1) throw new SignatureFormatError("v");
	assertInOrder(bytes);
	if (isHighS(bytes)) {
		bytes.set(bigEndian(ORDER - BigInt(bytesToHex(bytes.subarray(32, 64)))), 32);
		recovery = 1 - recovery;
	}
	bytes[64] = 27 + recovery;
	return bytesToHex(bytes);
}

function readSignature(signature: Hex): Uint8Array {
	const bytes = new Uint8Array(SIGNATURE_LENGTH);
	if (!readHex(signature, SIGNATURE_LENGTH, bytes, 0)) throw new SignatureFormatError("encoding");
	return bytes;
}

function assertInOrder(bytes: Uint8Array): void {
	if (isZero(bytes, 0) || compareAt(bytes, 0, ORDER_BYTES) >= 0) throw new SignatureFormatError("r");
	if (isZero(bytes, 32) || compareAt(bytes, 32, ORDER_BYTES) >= 0) throw new SignatureFormatError("s");
}

function isHighS(bytes: Uint8Array): boolean {
	return compareAt(bytes, 32, HALF_ORDER_BYTES) > 0;
}

function isZero(bytes: Uint8Array, offset: number): boolean {
	for (let index = offset; index < offset + 32; index++) if (bytes[index] !== 0) return false;
	return true;
}

/** Sign of `bytes[offset..offset+32] - bound`, as big-endian numbers. */
function compareAt(bytes: Uint8Array, offset: number, bound: Uint8Array): number {
	for (let index = 0; index < 32; index++) {
		const difference = (bytes[offset + index] ?? 0) - (bound[index] ?? 0);
		if (difference !== 0) return difference;
	}
	return 0;
}

function bigEndian(value: bigint): Uint8Array {
	const bytes = new Uint8Array(32);
	readHex(`0x${value.toString(16).padStart(64, "0")}`, 32, bytes, 0);
	return bytes;
}

const FAULTS: Record<SignatureFault, string> = {
	encoding: "it is not 0x and 130 hex digits (65 bytes)",
	v: "its last byte is not 27 or 28",
	r: "its r is zero or not below the order of secp256k1",
	s: "its s is zero or not below the order of secp256k1",
	"high-s": "its s is above half the order of secp256k1",
};

/** A signature that is not in the canonical 65-byte form. Carries the reason, never the signature. */
export class SignatureFormatError extends Error {
	override readonly name = "SignatureFormatError";
	readonly code = "signature-format";
	readonly fault: SignatureFault;

	constructor(fault: SignatureFault) {
		super(`The signature is refused: ${FAULTS[fault]}. Hint: encode it as r || s || v with low s and v 27 or 28.`);
		this.fault = fault;
	}
}
