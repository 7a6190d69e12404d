/**
 * Base64url without padding (RFC 4648, section 5), the encoding of everything the Payment scheme puts in a header.
 * Decoding is strict: for every sequence of bytes exactly one text is accepted, so comparing texts compares bytes.
 */

const ALPHABET = /^[A-Za-z0-9_-]*$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the ASCII range.
const ASCII = /^[\x00-\x7f]*$/;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** The last characters that leave no unused bit set, where the last group has two and three characters. */
const LAST_OF_TWO = "AQgw";
const LAST_OF_THREE = "AEIMQUYcgkosw048";

const utf8Encoder = new TextEncoder();
// ignoreBOM keeps a leading byte order mark in the text: dropping it would give one text two encodings.
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Encodes bytes, or a text as UTF-8, as base64url without padding.
 *
 * @param data bytes, or a well-formed text
 * @throws {Base64urlError} `lone_surrogate` when a text cannot be written as UTF-8
 * @example
 * ```ts
 * encodeBase64url('{"amount":"100"}'); // "eyJhbW91bnQiOiIxMDAifQ"
 * ```
 */
export function encodeBase64url(data: Uint8Array | string): string {
	const binary = typeof data === "string" ? textToBinary(data) : bytesToBinary(data);
	const padded = btoa(binary).replaceAll("+", "-").replaceAll("/", "_");
	return padded.slice(0, Math.ceil((binary.length * 4) / 3));
}

/**
 * Decodes base64url without padding. Refuses padding, other characters, impossible lengths and unused bits that are
 * not zero.
 *
 * @throws {Base64urlError} `character`, `length` or `trailing_bits`; it never carries the text
 * @example
 * ```ts
 * decodeBase64url("_w"); // Uint8Array [255]
 * ```
 */
export function decodeBase64url(text: string): Uint8Array {
	return binaryToBytes(decodeToBinary(text));
}

/**
 * Decodes base64url without padding whose bytes are UTF-8.
 *
 * @throws {Base64urlError} as {@link decodeBase64url}, and `utf8` when the bytes are not valid UTF-8
 * @example
 * ```ts
 * decodeBase64urlText("eyJhbW91bnQiOiIxMDAifQ"); // '{"amount":"100"}'
 * ```
 */
export function decodeBase64urlText(text: string): string {
	const binary = decodeToBinary(text);
	if (ASCII.test(binary)) return binary;
	try {
		return utf8Decoder.decode(binaryToBytes(binary));
	} catch {
		throw new Base64urlError("utf8");
	}
}

/** Decodes to a string with one character for each byte: what atob gives, and for ASCII already the text. */
function decodeToBinary(text: string): string {
	if (!ALPHABET.test(text)) throw new Base64urlError("character");
	const left = text.length % 4;
	if (left === 1) throw new Base64urlError("length");
	const last = text.slice(-1);
	if ((left === 2 && !LAST_OF_TWO.includes(last)) || (left === 3 && !LAST_OF_THREE.includes(last))) {
		throw new Base64urlError("trailing_bits");
	}
	return atob(text.replaceAll("-", "+").replaceAll("_", "/"));
}

function textToBinary(text: string): string {
	if (ASCII.test(text)) return text;
	if (LONE_SURROGATE.test(text)) throw new Base64urlError("lone_surrogate");
	return bytesToBinary(utf8Encoder.encode(text));
}

function bytesToBinary(bytes: Uint8Array): string {
	let binary = "";
	for (const byte of bytes) binary += String.fromCharCode(byte);
	return binary;
}

function binaryToBytes(binary: string): Uint8Array {
	const bytes = new Uint8Array(binary.length);
	for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
	return bytes;
}

/** What is wrong with a text that should have been base64url, or with a text that should have become it. */
export type Base64urlReason = "character" | "length" | "trailing_bits" | "utf8" | "lone_surrogate";

const BASE64URL_HINTS: Record<Base64urlReason, string> = {
	character: "a character is outside A-Z a-z 0-9 - _ (padding is not allowed)",
	length: "no sequence of bytes has an encoding of this length",
	trailing_bits: "the unused last bits are not zero",
	utf8: "the bytes are not valid UTF-8",
	lone_surrogate: "the text has a surrogate without its partner and cannot be written as UTF-8",
};

/** Thrown by the functions of this file. It never carries the text, which may be a credential. */
export class Base64urlError extends Error {
	override readonly name = "Base64urlError";
	/** Stable code of this error. */
	readonly code = "base64url";
	/** What is wrong. */
	readonly reason: Base64urlReason;

	constructor(reason: Base64urlReason) {
		super(`Not base64url: ${BASE64URL_HINTS[reason]}.`);
		this.reason = reason;
	}
}
