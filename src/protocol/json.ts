/** JSON as the Payment scheme carries it: objects only, canonical (RFC 8785), inside base64url. */

import canonicalize from "canonicalize";
import { decodeBase64urlText, encodeBase64url } from "./base64url.ts";

/** A JSON object whose members have not been looked at yet. */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Serializes an object with the JSON Canonicalization Scheme (RFC 8785), which core, section "Challenge (WWW-Authenticate)",
 * requires for `request` and `opaque`.
 *
 * @param object JSON values only; members that are `undefined` are left out
 * @throws {JsonError} `not_canonical` when a value has no JSON form (bigint, NaN, a cycle, a lone surrogate)
 * @example
 * ```ts
 * canonicalJson({ b: 1, a: "x" }); // '{"a":"x","b":1}'
 * ```
 */
export function canonicalJson(object: JsonObject): string {
	let text: string | undefined;
	try {
		text = canonicalize(object);
	} catch {
		// The cause may quote the value.
	}
	if (text === undefined || !isJsonObject(object)) throw new JsonError("not_canonical");
	return text;
}

/**
 * Canonical JSON in base64url: the form of `request` and `opaque` in a challenge.
 *
 * @throws {JsonError} as {@link canonicalJson}
 * @example
 * ```ts
 * encodeJson({}); // "e30"
 * ```
 */
export function encodeJson(object: JsonObject): string {
	return encodeBase64url(canonicalJson(object));
}

/**
 * Decodes base64url text that holds a JSON object. The object need not be canonical. A member called `__proto__`, at any
 * depth, is refused: no honest peer sends one, and copying it would change an object's prototype.
 *
 * @throws {Base64urlError} when the text is not base64url of UTF-8
 * @throws {JsonError} `syntax`, `not_an_object` or `forbidden_key`; it never carries the text
 * @example
 * ```ts
 * decodeJson("eyJhbW91bnQiOiIxMDAifQ"); // { amount: "100" }
 * ```
 */
export function decodeJson(text: string): JsonObject {
	return parseJsonObject(decodeBase64urlText(text));
}

/** The same for a text that is decoded already. Internal. */
export function parseJsonObject(json: string): JsonObject {
	let value: unknown;
	try {
		value = JSON.parse(json);
	} catch {
		// The cause quotes the text.
		throw new JsonError("syntax");
	}
	if (!isJsonObject(value)) throw new JsonError("not_an_object");
	// Any of its characters may be spelled as an escape such as \u005f, so an escaped ASCII character is a reason to look.
	if ((json.includes("__proto__") || json.includes("\\u00")) && hasProtoKey(value))
		throw new JsonError("forbidden_key");
	return value;
}

/** Whether a value is a JSON object: not null, not an array. */
export function isJsonObject(value: unknown): value is JsonObject {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Copies a typed value to its wire form: every bigint becomes a decimal string and members that are `undefined` are left
 * out, at any depth (session draft, section "Numeric Values").
 *
 * @example
 * ```ts
 * toWire({ amount: 100n, methodDetails: { chainId: 196 } }); // { amount: "100", methodDetails: { chainId: 196 } }
 * ```
 */
export function toWire(object: object): Record<string, unknown> {
	const copy: Record<string, unknown> = {};
	for (const [key, value] of Object.entries(object)) {
		if (value !== undefined) copy[key] = wireValue(value);
	}
	return copy;
}

function wireValue(value: unknown): unknown {
	if (typeof value === "bigint") return value.toString();
	if (Array.isArray(value)) return value.map(wireValue);
	return typeof value === "object" && value !== null ? toWire(value) : value;
}

/** Looks at every depth without recursion, since the depth of the text is the sender's choice. */
function hasProtoKey(root: unknown): boolean {
	const left = [root];
	while (left.length > 0) {
		const value = left.pop();
		if (typeof value !== "object" || value === null) continue;
		if (Object.hasOwn(value, "__proto__")) return true;
		for (const member of Object.values(value)) left.push(member);
	}
	return false;
}

/** What is wrong with a value that should have been a JSON object. */
export type JsonReason = "syntax" | "not_an_object" | "forbidden_key" | "not_canonical";

const JSON_HINTS: Record<JsonReason, string> = {
	syntax: "the text is not JSON",
	not_an_object: "the JSON value is not an object",
	forbidden_key: "an object has a member called __proto__",
	not_canonical: "the value has no canonical JSON form (bigint, NaN, Infinity, a cycle, a lone surrogate or no object)",
};

/** Thrown by the functions of this file. It never carries the text, which may be a credential. */
export class JsonError extends Error {
	override readonly name = "JsonError";
	/** Stable code of this error. */
	readonly code = "json";
	/** What is wrong. */
	readonly reason: JsonReason;

	constructor(reason: JsonReason) {
		super(`Not a JSON object to use: ${JSON_HINTS[reason]}.`);
		this.reason = reason;
	}
}
