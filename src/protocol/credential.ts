/** The Payment credential (core draft, section "Credentials (Authorization)"). */

import * as z from "zod";
import { scanAuthElements } from "./authHeader.ts";
import { decodeBase64urlText, encodeBase64url } from "./base64url.ts";
import type { Challenge } from "./challenge.ts";
import { decodeJson, isJsonObject, type JsonObject, parseJsonObject } from "./json.ts";

/** Most characters of an `Authorization` value that are read unless the caller says otherwise. */
export const MAX_CREDENTIAL_LENGTH = 16_384;

/** What a client sends to pay: the challenge it answers, and the method's proof of payment. */
export type Credential = {
	/** The challenge, echoed. Nothing in it is to be trusted before its `id` is verified. */
	readonly challenge: Challenge;
	/** The proof, in wire form; see `parseSessionPayload` and `parseChargePayload`. */
	readonly payload: JsonObject;
	/** Payer identifier, recommended to be a DID; see `parseSource`. */
	readonly source?: string;
};

const text = z.string();

const credentialSchema = z.object({
	challenge: z.object({
		id: text.min(1),
		realm: text,
		method: text,
		intent: text,
		request: text,
		description: text.exactOptional(),
		opaque: text.exactOptional(),
		digest: text.exactOptional(),
		expires: text.exactOptional(),
	}),
	payload: z.custom<JsonObject>(isJsonObject),
	source: text.exactOptional(),
});

/**
 * Writes a credential as an `Authorization` value. The result is a bearer token: never log it.
 *
 * @example
 * ```ts
 * headers.set("Authorization", formatCredential({ challenge, payload: encodeSessionPayload(voucher) }));
 * ```
 */
export function formatCredential(credential: Credential): string {
	const { challenge, payload, source } = credential;
	// JSON.stringify leaves members out that are undefined.
	const json = JSON.stringify({ challenge: inOrder(challenge), payload, source });
	return `${PAYMENT}${encodeBase64url(json)}`;
}

export const PAYMENT = "Payment ";

/** What stands between a challenge and what follows it. */
const HEAD_ENDS = "},";

/** What a challenge has on the wire, in the order in which every credential of ours has it. */
export const CHALLENGE_MEMBERS = [
	"id",
	"realm",
	"method",
	"intent",
	"request",
	"description",
	"opaque",
	"digest",
	"expires",
] as const satisfies readonly (keyof Challenge)[];

function inOrder(challenge: Challenge): Partial<Challenge> {
	return Object.fromEntries(CHALLENGE_MEMBERS.map((name) => [name, challenge[name]]));
}

/**
 * What credentials that answer one challenge have in common: they begin with the same characters, which are most of them, as
 * long as they are written as {@link formatCredential} does. Make it by {@link credentialStart}.
 */
export type CredentialStart = {
	/** The characters: whole groups of the base64url, so that what follows can be decoded without them. */
	readonly text: string;
	/** How many characters of the challenge's JSON are in what follows. */
	readonly seam: number;
	readonly challenge: Challenge;
};

/**
 * What other credentials for the challenge of this one would begin with too; `undefined` where it is written in another way,
 * which is as good.
 *
 * @example
 * ```ts
 * const start = credentialStart(first, parseCredential(first).challenge);
 * const second = start && parseCredentialAfter(start, another);
 * ```
 */
export function credentialStart(authorization: string, challenge: Challenge): CredentialStart | undefined {
	const json = `{"challenge":${JSON.stringify(inOrder(challenge)).slice(0, -1)}${HEAD_ENDS}`;
	const encoded = encodeBase64url(json);
	const seam = [0, 2, 3].indexOf(encoded.length % 4);
	const text = PAYMENT + encoded.slice(0, encoded.length - (encoded.length % 4));
	return authorization.startsWith(text) ? { text, seam, challenge } : undefined;
}

/**
 * Reads an `Authorization` value that begins with `start`: exactly what {@link parseCredential} makes of it, without reading the
 * challenge again. `undefined` for every other value: that one has to be read as a whole.
 */
export function parseCredentialAfter(start: CredentialStart, authorization: string): Credential | undefined {
	if (authorization.length > MAX_CREDENTIAL_LENGTH) return undefined;
	// Texts are compared many characters at a time; startsWith goes one by one.
	if (authorization.slice(0, start.text.length) !== start.text) return undefined;
	try {
		const rest = decodeBase64urlText(authorization.slice(start.text.length));
		// The last characters of what was read before are the first ones of what was not.
		if (!rest.startsWith(HEAD_ENDS.slice(HEAD_ENDS.length - start.seam))) return undefined;
		const { challenge, payload, source } = parseJsonObject(`{${rest.slice(start.seam)}`);
		// A second challenge would be the one that counts.
		if (challenge !== undefined || !isJsonObject(payload)) return undefined;
		if (source === undefined) return { challenge: start.challenge, payload };
		return typeof source === "string" ? { challenge: start.challenge, payload, source } : undefined;
	} catch {
		return undefined;
	}
}

/**
 * Reads an `Authorization` value that is one Payment credential. Members that the draft does not have are ignored.
 * The challenge is not verified here: see `isOurChallenge` and `isExpired`.
 *
 * @param options `maxLength` in characters, {@link MAX_CREDENTIAL_LENGTH} by default; core wants at least 4096 to be accepted
 * @throws {MalformedCredentialError} it never carries any of the header's content
 * @example
 * ```ts
 * const { challenge, payload } = parseCredential(request.headers.get("Authorization") ?? "");
 * ```
 */
export function parseCredential(authorization: string, options: { readonly maxLength?: number } = {}): Credential {
	if (authorization.length > (options.maxLength ?? MAX_CREDENTIAL_LENGTH))
		throw new MalformedCredentialError("too_long");
	if (!isPayment(authorization)) throw new MalformedCredentialError("scheme");
	let json: JsonObject;
	try {
		json = decodeJson(authorization.slice(SCHEME.length).trim());
	} catch {
		// The cause is dropped so that nothing of the header can travel with it.
		throw new MalformedCredentialError("encoding");
	}
	const parsed = credentialSchema.safeParse(json);
	if (!parsed.success) throw new MalformedCredentialError("shape", parsed.error.issues[0]?.path.join("."));
	return parsed.data;
}

/**
 * Finds the Payment credentials in the `Authorization` values of one request, also where values were joined by commas.
 * More than one deserves 400 (core, section "Multiple Payment Options"). They are not parsed, and need not be well-formed.
 *
 * @param values all values of the field; Node's `headersDistinct` has them, its `headers` keeps only the first
 * @example
 * ```ts
 * const [credential, another] = paymentCredentials(request.headersDistinct.authorization);
 * ```
 */
export function paymentCredentials(values: string | readonly string[] | undefined): string[] {
	if (values === undefined) return [];
	if (typeof values !== "string") {
		const [first, second] = values;
		// Nearly always.
		if (second === undefined) return paymentCredentials(first);
		return values.flatMap((value) => paymentCredentials(value));
	}
	if (!values.includes(",")) return isPayment(values) ? [values] : [];
	return scanAuthElements(values)
		.filter((element) => element.scheme === "payment")
		.map((element) => values.slice(element.start, element.end));
}

const SCHEME = "payment";

function isPayment(authorization: string): boolean {
	return (
		authorization.slice(0, SCHEME.length).toLowerCase() === SCHEME &&
		(authorization.length === SCHEME.length || authorization[SCHEME.length] === " ")
	);
}

/** Why an `Authorization` value is not a credential. */
export type MalformedCredentialReason = "too_long" | "scheme" | "encoding" | "shape";

const CREDENTIAL_HINTS: Record<MalformedCredentialReason, string> = {
	too_long: "it is too long",
	scheme: "the scheme is not Payment",
	encoding: "it is not base64url, without padding, of a JSON object",
	shape: "a member is missing or has the wrong type",
};

/** An `Authorization` value that is not a credential: problem `malformed-credential`. It carries none of the value. */
export class MalformedCredentialError extends Error {
	override readonly name = "MalformedCredentialError";
	/** Stable code of this error. */
	readonly code = "malformed_credential";
	/** What is wrong. */
	readonly reason: MalformedCredentialReason;
	/** The member of the credential it is wrong with, such as `challenge.id`. */
	readonly path: string | undefined;

	constructor(reason: MalformedCredentialReason, path?: string) {
		super(`Not a Payment credential: ${CREDENTIAL_HINTS[reason]}${path === undefined ? "" : ` (${path})`}.`);
		this.reason = reason;
		this.path = path;
	}
}
