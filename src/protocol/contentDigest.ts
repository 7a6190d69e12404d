/** The digest of a request's body, by which a challenge is bound to it (RFC 9530; core draft, section "Request Body Digest Binding"). */

import { sha256, sha512 } from "@noble/hashes/sha2.js";

/** No list of the few algorithms that exist is longer. */
const MAX_LENGTH = 1_024;

/** The two active algorithms of RFC 9530's registry; its other ones are broken or not meant against an attacker. */
const ALGORITHMS: Readonly<Record<string, (body: Uint8Array) => Uint8Array>> = { "sha-256": sha256, "sha-512": sha512 };

// Members of an RFC 8941 dictionary whose values are byte sequences: base64 between colons.
const KEY = /^[a-z*][a-z0-9_.*-]*$/;
const BYTES = /^:([A-Za-z0-9+/]*={0,2}):$/;

/**
 * The `digest` of a body, as a challenge carries it.
 *
 * Source: RFC 9530, section 2; core draft, section "Request Body Digest Binding".
 *
 * @param body the content as it was sent, before any decoding of JSON; empty for a request without one
 * @example
 * ```ts
 * contentDigest(new TextEncoder().encode("hello")); // "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
 * ```
 */
export function contentDigest(body: Uint8Array): string {
	return `sha-256=:${toBase64(sha256(body))}:`;
}

/**
 * Whether `digest` is of `body`. Each member of a known algorithm (`sha-256`, `sha-512`) has to match; the others are passed
 * over.
 *
 * Source: core draft, section "Request Body Digest Binding".
 *
 * @returns `false` also when it is malformed, or names no known algorithm
 * @example
 * ```ts
 * if (challenge.digest !== undefined && !matchesContentDigest(challenge.digest, body)) refuse();
 * ```
 */
export function matchesContentDigest(digest: string, body: Uint8Array): boolean {
	const members = parseMembers(digest);
	if (members === undefined) return false;
	let known = false;
	for (const [algorithm, value] of members) {
		const hash = Object.hasOwn(ALGORITHMS, algorithm) ? ALGORITHMS[algorithm] : undefined;
		if (hash === undefined) continue;
		// One encoding only: the bytes are never decoded, so neither missing padding nor stray bits can match.
		if (toBase64(hash(body)) !== value) return false;
		known = true;
	}
	return known;
}

/** The members of the dictionary, of which the last one of a name counts; `undefined` when it is none. */
function parseMembers(digest: string): ReadonlyMap<string, string> | undefined {
	if (digest.length > MAX_LENGTH) return undefined;
	const members = new Map<string, string>();
	for (const member of digest.replace(/^ +| +$/g, "").split(/[ \t]*,[ \t]*/)) {
		const [, key = "", value = ""] = member.match(/^([^=]*)=(.*)$/) ?? [];
		const [, bytes] = value.match(BYTES) ?? [];
		if (!KEY.test(key) || bytes === undefined) return undefined;
		members.set(key, bytes);
	}
	return members;
}

function toBase64(bytes: Uint8Array): string {
	return btoa(String.fromCharCode(...bytes));
}
