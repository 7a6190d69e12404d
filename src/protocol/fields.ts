/** The field types that requests, payloads and receipts are made of (session draft, section "Encoding Conventions"). */

import * as z from "zod";

/** Bytes as `0x` and hex digits. */
export type Hex = `0x${string}`;

/** A 20-byte address; lowercase once parsed, since addresses are compared by value. */
export type Address = Hex;

/** The zero address: what an omitted `authorizedSigner` stands for. */
export const ZERO_ADDRESS: Address = "0x0000000000000000000000000000000000000000";

const DECIMAL = /^(?:0|[1-9][0-9]*)$/;
const ADDRESS = /^0x[0-9a-fA-F]{40}$/;
const BYTES32 = /^0x[0-9a-f]{64}$/;
const SIGNATURE = /^0x[0-9a-f]{130}$/;
const ANY_CASE_BYTES = /^0x(?:[0-9a-fA-F]{2})+$/;

function uint(bits: 128 | 256, maxDigits: number) {
	const limit = 1n << BigInt(bits);
	const message = `must be a decimal string below 2^${bits}, without sign or leading zeros`;
	return z.string(message).transform((text, context): bigint => {
		// The length is checked first: turning a long text into a bigint takes time.
		if (text.length <= maxDigits && DECIMAL.test(text)) {
			const value = BigInt(text);
			if (value < limit) return value;
		}
		context.addIssue({ code: "custom", message });
		return z.NEVER;
	});
}

function hex(isHex: (value: unknown) => value is Hex, message: string) {
	return z.custom<Hex>(isHex, message);
}

/** Whether a value is a channelId, hash, salt or nonce. */
export function isBytes32(value: unknown): value is Hex {
	return typeof value === "string" && BYTES32.test(value);
}

/** Whether a value is a 65-byte signature. */
export function isSignature(value: unknown): value is Hex {
	return typeof value === "string" && SIGNATURE.test(value);
}

/** An amount that the escrow keeps as `uint128`, in base units. */
export const uint128 = uint(128, 39);

/** A `uint256`: a timestamp in seconds, a nonce, or an amount of a token transfer in base units. */
export const uint256 = uint(256, 78);

/** An address in any case; lowercase when parsed. */
export const address = z
	.string("must be a 0x-prefixed 20-byte address")
	.regex(ADDRESS, "must be a 0x-prefixed 20-byte address")
	.transform((text) => text.toLowerCase() as Address);

/** A channelId, hash, salt or nonce. */
export const bytes32 = hex(isBytes32, "must be 0x and 64 lowercase hex digits");

/** A 65-byte signature, `r || s || v`. */
export const signature = hex(isSignature, "must be 0x and 130 lowercase hex digits (65 bytes)");

/**
 * Bytes in hex digits of either case; lowercase when parsed. The charge draft, unlike the session draft, does not demand
 * lowercase.
 *
 * @param length how many bytes; any number but none when it is left out
 */
export function anyCaseBytes(length?: number) {
	const message = `must be 0x and ${length === undefined ? "two hex digits for each byte" : `${length * 2} hex digits`}`;
	return z
		.string(message)
		.refine((text) => ANY_CASE_BYTES.test(text) && (length === undefined || text.length === 2 + length * 2), message)
		.transform((text) => text.toLowerCase() as Hex);
}

/** An EIP-155 chain id, a JSON number. */
export const chainId = z
	.number("must be a positive integer")
	.int("must be a positive integer")
	.positive("must be a positive integer");

/** Keeps the known ones of an ordered list of names, so that a peer may offer more than we know. */
export function knownNames<const Name extends string>(names: readonly Name[]) {
	return z.array(z.string()).transform((list) => list.flatMap((given) => names.filter((name) => name === given)));
}

/**
 * Parses with a schema of this room.
 *
 * @throws {InvalidPayloadError} or {InvalidRequestError}, whichever `Refusal` is
 */
export function parseWith<Schema extends z.ZodType>(
	schema: Schema,
	value: unknown,
	Refusal: typeof InvalidPayloadError | typeof InvalidRequestError,
): z.output<Schema> {
	const parsed = schema.safeParse(value);
	if (parsed.success) return parsed.data;
	const issue = parsed.error.issues[0];
	// Our schemas name their own members in paths and messages, and repeat nothing they were given.
	throw new Refusal(issue?.path.join(".") ?? "", issue?.message ?? "has the wrong shape");
}

/** A credential payload of the wrong shape: 400 for a session (DESIGN D18). It carries the member's name, never its value. */
export class InvalidPayloadError extends Error {
	override readonly name = "InvalidPayloadError";
	/** Stable code of this error. */
	readonly code = "invalid_payload";
	/** The first member that is wrong, such as `deposit.authorization.value`; empty for the payload itself. */
	readonly path: string;
	/** What that member has to be. */
	readonly expected: string;

	constructor(path: string, expected: string) {
		super(`The payload is refused${path === "" ? "" : ` at ${path}`}: ${expected}.`);
		this.path = path;
		this.expected = expected;
	}
}

/** A challenge request of the wrong shape. It carries the member's name, never its value. */
export class InvalidRequestError extends Error {
	override readonly name = "InvalidRequestError";
	/** Stable code of this error. */
	readonly code = "invalid_request";
	/** The first member that is wrong, such as `methodDetails.chainId`; empty for the request itself. */
	readonly path: string;
	/** What that member has to be. */
	readonly expected: string;

	constructor(path: string, expected: string) {
		super(`The challenge request is refused${path === "" ? "" : ` at ${path}`}: ${expected}.`);
		this.path = path;
		this.expected = expected;
	}
}
