/** The Payment challenge and its binding (core draft, sections "Challenge (WWW-Authenticate)" and "Challenge Binding"). */

import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { encodeBase64url } from "./base64url.ts";
import { decodeJson, encodeJson, type JsonObject } from "./json.ts";
import { parseTimestamp } from "./timestamp.ts";

/**
 * The parameters of a challenge, each exactly as on the wire. `request` and `opaque` stay base64url, because the binding
 * and the echo in a credential are over those characters.
 */
export type Challenge = {
	/** Identifier, bound to the other parameters; never empty. */
	readonly id: string;
	/** Protection space. */
	readonly realm: string;
	/** Payment method identifier, lowercase ASCII letters, here `"evm"`. */
	readonly method: string;
	/** Payment intent, here `"session"` or `"charge"`. */
	readonly intent: string;
	/** Base64url of the canonical JSON request. */
	readonly request: string;
	/** RFC 3339 date-time after which credentials for this challenge are refused. */
	readonly expires?: string;
	/** RFC 9530 digest of the request body this challenge is for. */
	readonly digest?: string;
	/** Text for people. Not bound, never to be relied upon. */
	readonly description?: string;
	/** Base64url of a canonical JSON object of strings that the server wants back unchanged. */
	readonly opaque?: string;
};

/** A challenge that has no `id` yet. */
export type UnsignedChallenge = Omit<Challenge, "id">;

/** A server secret that binds challenges: at least 32 bytes, a text counting as its UTF-8 bytes. */
export type ChallengeSecret = Uint8Array | string;

/**
 * HMAC-SHA256 of `input`: 32 bytes. For who has a quicker one than the portable one that is used otherwise; it has to be nothing else,
 * or servers that share a secret don't know each other's challenges.
 */
export type HmacSha256 = (key: Uint8Array, input: Uint8Array) => Uint8Array;

/** Least length of a {@link ChallengeSecret} in bytes: the output of HMAC-SHA256. */
export const MIN_SECRET_BYTES = 32;

/**
 * Computes the `id` that binds a challenge: HMAC-SHA256 over `realm|method|intent|request|expires|digest|opaque`, absent
 * ones empty, in base64url (core, section "Recommended: HMAC-SHA256 Binding"). `description` is not bound.
 *
 * @param mac how the HMAC is computed
 * @throws {TypeError} when `mac` gives anything but 32 bytes
 * @throws {WeakSecretError} when the secret is shorter than 32 bytes
 * @throws {ChallengeFormatError} `separator` when a bound parameter contains `|`, which would let parameters move between slots
 * @example
 * ```ts
 * challengeId("test-vector-secret-minimum-32-byte-secret", {
 *   realm: "api.example.com", method: "tempo", intent: "charge", request: "eyJhbW91bnQiOiIxMDAwMDAwIn0",
 * }); // "6QDs0BmhrI_v67iWeCMvGqQJEFQ6ErWKlk7zi5xL6t0"
 * ```
 */
export function challengeId(secret: ChallengeSecret, challenge: UnsignedChallenge, mac: HmacSha256 = portable): string {
	const input = bindingInput(challenge);
	for (const parameter of BOUND) {
		if (challenge[parameter]?.includes("|")) throw new ChallengeFormatError("separator", parameter);
	}
	return bind(mac, secret, input);
}

/**
 * Whether one of our secrets made this challenge's `id`. Takes the same time whether, where and with which secret it
 * matches. An expired challenge of ours is still ours: see {@link isExpired}.
 *
 * @param secrets the first signs new challenges, the others are on their way out and still verify; none means `false`
 * @param mac how the HMAC is computed
 * @throws {TypeError} when `mac` gives anything but 32 bytes
 * @throws {WeakSecretError} when a secret is shorter than 32 bytes
 * @example
 * ```ts
 * isOurChallenge([newSecret, oldSecret], credential.challenge); // true
 * ```
 */
export function isOurChallenge(
	secrets: readonly ChallengeSecret[],
	challenge: Challenge,
	mac: HmacSha256 = portable,
): boolean {
	// Ours have exactly six separators, so a match has too: no parameter of it can have swallowed one.
	const input = bindingInput(challenge);
	let ours = false;
	for (const secret of secrets) ours = equalInConstantTime(bind(mac, secret, input), challenge.id) || ours;
	return ours;
}

/**
 * Refuses secrets that are too short, so that a server can check its configuration when it starts.
 *
 * @throws {WeakSecretError} when there is no secret or one is shorter than 32 bytes
 * @example
 * ```ts
 * assertChallengeSecrets([crypto.getRandomValues(new Uint8Array(32))]);
 * ```
 */
export function assertChallengeSecrets(secrets: readonly ChallengeSecret[]): void {
	if (secrets.length === 0) throw new WeakSecretError(0);
	for (const secret of secrets) secretBytes(secret);
}

/**
 * Whether a challenge has expired. One without `expires` never does; one whose `expires` cannot be read has.
 *
 * @param nowMs milliseconds since 1970-01-01T00:00:00Z
 * @example
 * ```ts
 * isExpired({ expires: "2025-01-15T12:05:00Z" }, Date.now()); // true
 * ```
 */
export function isExpired(challenge: Pick<Challenge, "expires">, nowMs: number): boolean {
	if (challenge.expires === undefined) return false;
	const expiresMs = parseTimestamp(challenge.expires);
	return expiresMs === undefined || nowMs >= expiresMs;
}

/** What {@link createChallenge} makes a challenge from. */
export type ChallengeParams = Omit<UnsignedChallenge, "request"> & {
	/** The request object in wire form (see `encodeSessionRequest`, `encodeChargeRequest`). */
	readonly request: JsonObject;
};

/**
 * Makes a challenge: canonicalizes and encodes the request and computes the `id`.
 *
 * @param mac how the HMAC is computed
 * @throws {TypeError} when `mac` gives anything but 32 bytes
 * @throws {WeakSecretError} when the secret is shorter than 32 bytes
 * @throws {ChallengeFormatError} when `method`, `intent`, `expires` or a separator in a bound parameter is not as the draft has it
 * @throws {JsonError} when the request has no canonical form
 * @example
 * ```ts
 * createChallenge(secret, {
 *   realm: "api.example.com", method: "evm", intent: "session", request: encodeSessionRequest(offer),
 *   expires: formatTimestamp(nowMs + 300_000), opaque: nonceOpaque(crypto.getRandomValues(new Uint8Array(16))),
 * });
 * ```
 */
export function createChallenge(secret: ChallengeSecret, params: ChallengeParams, mac?: HmacSha256): Challenge {
	if (!/^[a-z]+$/.test(params.method)) throw new ChallengeFormatError("method", "method");
	if (!/^[A-Za-z0-9-]+$/.test(params.intent)) throw new ChallengeFormatError("intent", "intent");
	if (params.expires !== undefined && parseTimestamp(params.expires) === undefined) {
		throw new ChallengeFormatError("timestamp", "expires");
	}
	const { realm, method, intent, expires, digest, description, opaque } = params;
	const unsigned: UnsignedChallenge = {
		realm,
		method,
		intent,
		request: encodeJson(params.request),
		...(description === undefined ? {} : { description }),
		...(digest === undefined ? {} : { digest }),
		...(expires === undefined ? {} : { expires }),
		...(opaque === undefined ? {} : { opaque }),
	};
	return { id: challengeId(secret, unsigned, mac), ...unsigned };
}

/**
 * The `opaque` that makes a challenge unique: base64url of `{"nonce":"..."}` with 128 random bits (DESIGN D9), and what the
 * server wants to have back besides.
 *
 * @param random 16 bytes from a cryptographic source
 * @param data the server's own correlation data; core wants texts only
 * @throws {ChallengeFormatError} `nonce` when there are not 16 bytes, or `data` has a member of that name
 * @example
 * ```ts
 * nonceOpaque(crypto.getRandomValues(new Uint8Array(16)), { order: "1234" });
 * ```
 */
export function nonceOpaque(random: Uint8Array, data: OpaqueData = {}): string {
	if (random.length !== 16 || "nonce" in data) throw new ChallengeFormatError("nonce", "opaque");
	return encodeJson({ ...data, nonce: encodeBase64url(random) });
}

/** What a server wants to have back with the credential: names and texts (core draft, `opaque`). */
export type OpaqueData = Readonly<Record<string, string>>;

/** The length of an `opaque` that is the nonce alone: such a one needs no look. */
const BARE_LENGTH = encodeJson({ nonce: encodeBase64url(new Uint8Array(16)) }).length;

/**
 * What a challenge that was made with {@link nonceOpaque} has besides its nonce; `undefined` for nothing. Only for a challenge
 * whose `id` was verified: before that it is whatever somebody sent.
 *
 * @throws {Base64urlError} or {JsonError} when it was not made so
 * @example
 * ```ts
 * opaqueData({ opaque: nonceOpaque(random, { order: "1234" }) }); // { order: "1234" }
 * ```
 */
export function opaqueData({ opaque }: Pick<Challenge, "opaque">): OpaqueData | undefined {
	if (opaque === undefined || opaque.length === BARE_LENGTH) return undefined;
	const { nonce: _, ...data } = decodeJson(opaque);
	return data as OpaqueData;
}

/**
 * Decodes the request of a challenge to its JSON object, not yet checked against a method's schema.
 *
 * @throws {Base64urlError} or {JsonError} when it is not base64url of a JSON object
 * @example
 * ```ts
 * parseSessionRequest(decodeRequest(challenge));
 * ```
 */
export function decodeRequest(challenge: Pick<Challenge, "request">): JsonObject {
	return decodeJson(challenge.request);
}

const BOUND = ["realm", "method", "intent", "request", "expires", "digest", "opaque"] as const;

const utf8 = new TextEncoder();

function bindingInput(challenge: UnsignedChallenge): Uint8Array {
	const { realm, method, intent, request, expires = "", digest = "", opaque = "" } = challenge;
	return utf8.encode(`${realm}|${method}|${intent}|${request}|${expires}|${digest}|${opaque}`);
}

const portable: HmacSha256 = (key, input) => hmac(sha256, key, input);

function bind(mac: HmacSha256, secret: ChallengeSecret, input: Uint8Array): string {
	const code = mac(secretBytes(secret), input);
	if (code.length !== MIN_SECRET_BYTES) throw new TypeError(`an HMAC-SHA256 has 32 bytes, not ${code.length}`);
	return encodeBase64url(code);
}

function secretBytes(secret: ChallengeSecret): Uint8Array {
	const bytes = typeof secret === "string" ? utf8.encode(secret) : secret;
	if (bytes.length < MIN_SECRET_BYTES) throw new WeakSecretError(bytes.length);
	return bytes;
}

/** The length is public, so only texts of the expected length are compared at length. */
function equalInConstantTime(expected: string, given: string): boolean {
	if (expected.length !== given.length) return false;
	let difference = 0;
	for (let at = 0; at < expected.length; at++) difference |= expected.charCodeAt(at) ^ given.charCodeAt(at);
	return difference === 0;
}

/** A secret that is too short to bind challenges. It carries the length only. */
export class WeakSecretError extends Error {
	override readonly name = "WeakSecretError";
	/** Stable code of this error. */
	readonly code = "weak_secret";
	/** Length of the refused secret in bytes; 0 when there was none. */
	readonly bytes: number;

	constructor(bytes: number) {
		super(`A challenge secret has ${bytes} bytes; give at least ${MIN_SECRET_BYTES} random ones.`);
		this.bytes = bytes;
	}
}

/** Why a challenge cannot be made or written. */
export type ChallengeFormatReason =
	| "separator"
	| "method"
	| "intent"
	| "timestamp"
	| "nonce"
	| "empty_id"
	| "character";

const FORMAT_HINTS: Record<ChallengeFormatReason, string> = {
	separator: "a bound parameter must not contain |",
	method: "a method is one or more lowercase ASCII letters",
	intent: "an intent is one or more ASCII letters, digits or hyphens",
	timestamp: "expires is an RFC 3339 date-time",
	nonce: "give exactly 16 random bytes",
	empty_id: "an id is never empty",
	character: "control characters and lone surrogates cannot be written in a header",
};

/** A challenge that cannot be made or written; the mistake is in what this server was given. */
export class ChallengeFormatError extends Error {
	override readonly name = "ChallengeFormatError";
	/** Stable code of this error. */
	readonly code = "challenge_format";
	/** What is wrong. */
	readonly reason: ChallengeFormatReason;
	/** The parameter it is wrong with. */
	readonly parameter: keyof Challenge;

	constructor(reason: ChallengeFormatReason, parameter: keyof Challenge) {
		super(`The challenge parameter ${parameter} is refused: ${FORMAT_HINTS[reason]}.`);
		this.reason = reason;
		this.parameter = parameter;
	}
}
