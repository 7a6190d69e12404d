/**
 * Bytes and 32-byte ABI words, written without allocation where it matters. Internal to `src/voucher`, except for
 * the two errors.
 */
import type { Hex } from "viem";

/** Bytes in one ABI word. */
export const WORD = 32;

/** Largest `uint128`, the bound of every deposit and cumulative amount, in base units. */
export const UINT128_MAX: bigint = 2n ** 128n - 1n;

/** Largest `uint256`, the bound of an ERC-3009 value or timestamp. */
export const UINT256_MAX: bigint = 2n ** 256n - 1n;

const LOW_64_BITS = 2n ** 64n - 1n;
const NOT_A_DIGIT = 0xff;
const NIBBLES = nibbleTable();
const encoder = new TextEncoder();

/** The UTF-8 bytes of `text`: Solidity's `bytes(text)`. */
export function utf8(text: string): Uint8Array {
	return encoder.encode(text);
}

/**
 * Decodes `hex` (`0x`, then exactly `length` bytes in digits of either case) into `target` at `offset`.
 *
 * @returns false, with `target` in part overwritten, when `hex` is anything else.
 */
export function readHex(hex: string, length: number, target: Uint8Array, offset: number): boolean {
	if (hex.length !== 2 + 2 * length || !hex.startsWith("0x")) return false;
	for (let index = 0, digit = 2; index < length; index++, digit += 2) {
		const high = NIBBLES[hex.charCodeAt(digit)] ?? NOT_A_DIGIT;
		const low = NIBBLES[hex.charCodeAt(digit + 1)] ?? NOT_A_DIGIT;
		if ((high | low) > 0x0f) return false;
		target[offset + index] = (high << 4) | low;
	}
	return true;
}

/** Writes `value`, a `bytes32`, as one word. @throws {FieldFormatError} unless `0x` and 64 hex digits. */
export function writeBytes32(value: Hex, field: string, target: Uint8Array, offset: number): void {
	if (!readHex(value, WORD, target, offset)) throw new FieldFormatError(field, "0x and 64 hex digits", value);
}

/** Writes `value`, a 20-byte address in any case, as one word. @throws {FieldFormatError} unless `0x` and 40 hex digits. */
export function writeAddress(value: Hex, field: string, target: Uint8Array, offset: number): void {
	target.fill(0, offset, offset + 12);
	if (!readHex(value, 20, target, offset + 12)) throw new FieldFormatError(field, "0x and 40 hex digits", value);
}

/** Writes `value` as one big-endian word. @throws {AmountOutOfRangeError} outside `0..max`. */
export function writeUint(value: bigint, max: bigint, field: string, target: DataView, offset: number): void {
	assertAmount(value, max, field);
	target.setBigUint64(offset, value >> 192n);
	target.setBigUint64(offset + 8, (value >> 128n) & LOW_64_BITS);
	target.setBigUint64(offset + 16, (value >> 64n) & LOW_64_BITS);
	target.setBigUint64(offset + 24, value & LOW_64_BITS);
}

/** @throws {AmountOutOfRangeError} unless `0 <= value <= max`. */
export function assertAmount(value: bigint, max: bigint, field: string): void {
	if (value < 0n || value > max) throw new AmountOutOfRangeError(field, value, max);
}

/** One value of a static ABI tuple, with the name of the field for the error that refuses it. */
export type AbiValue =
	| { readonly type: "address" | "bytes32"; readonly field: string; readonly value: Hex }
	| { readonly type: "uint128" | "uint256"; readonly field: string; readonly value: bigint }
	| { readonly type: "hash"; readonly value: Uint8Array };

/**
 * `abi.encode` of static values: one word each, in order.
 *
 * @throws {FieldFormatError} for a malformed address or `bytes32`.
 * @throws {AmountOutOfRangeError} for a number its type can't hold.
 */
export function encodeWords(values: readonly AbiValue[]): Uint8Array {
	const words = new Uint8Array(values.length * WORD);
	const view = new DataView(words.buffer);
	for (const [index, value] of values.entries()) writeValue(value, words, view, index * WORD);
	return words;
}

function writeValue(item: AbiValue, words: Uint8Array, view: DataView, offset: number): void {
	switch (item.type) {
		case "address":
			writeAddress(item.value, item.field, words, offset);
			break;
		case "bytes32":
			writeBytes32(item.value, item.field, words, offset);
			break;
		case "uint128":
			writeUint(item.value, UINT128_MAX, item.field, view, offset);
			break;
		case "uint256":
			writeUint(item.value, UINT256_MAX, item.field, view, offset);
			break;
		case "hash":
			words.set(item.value, offset);
	}
}

/** `chainId` as the `uint256` of signed data. @throws {FieldFormatError} unless a positive safe integer. */
export function chainIdValue(chainId: number): bigint {
	if (!Number.isSafeInteger(chainId) || chainId < 1) {
		throw new FieldFormatError("chainId", "a positive safe integer", String(chainId));
	}
	return BigInt(chainId);
}

/** A number that the signed type can't hold; nothing was hashed or signed. */
export class AmountOutOfRangeError extends RangeError {
	override readonly name = "AmountOutOfRangeError";
	readonly code = "amount-out-of-range";
	/** Which field, in the draft's word. */
	readonly field: string;
	/** What was given, in the field's unit (base units or Unix seconds). */
	readonly value: bigint;
	/** The largest value that is taken; the smallest is 0. */
	readonly max: bigint;

	constructor(field: string, value: bigint, max: bigint) {
		super(`${field} is ${value}, outside 0..${max}. Hint: amounts are base units of the token, never negative.`);
		this.field = field;
		this.value = value;
		this.max = max;
	}
}

/** An address, `bytes32`, digest or chain id that is not one; nothing was hashed or signed. */
export class FieldFormatError extends TypeError {
	override readonly name = "FieldFormatError";
	readonly code = "field-format";
	/** Which field, in the draft's word. */
	readonly field: string;
	/** What the field has to be. */
	readonly expected: string;
	/** The first 80 characters of what was given. */
	readonly value: string;

	constructor(field: string, expected: string, value: string) {
		const shown = value.slice(0, 80);
		super(`${field} must be ${expected}, not ${JSON.stringify(shown)}.`);
		this.field = field;
		this.expected = expected;
		this.value = shown;
	}
}

function nibbleTable(): Uint8Array {
	const table = new Uint8Array(128).fill(NOT_A_DIGIT);
	for (let value = 0; value < 16; value++) {
		const digit = value.toString(16);
		table[digit.charCodeAt(0)] = value;
		table[digit.toUpperCase().charCodeAt(0)] = value;
	}
	return table;
}
