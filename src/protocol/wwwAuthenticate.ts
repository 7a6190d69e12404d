/** Challenges in `WWW-Authenticate` header values (core draft, section "Challenge (WWW-Authenticate)"). */

import { type AuthElement, scanAuthElements } from "./authHeader.ts";
import { type Challenge, ChallengeFormatError, decodeRequest } from "./challenge.ts";
import type { JsonObject } from "./json.ts";

/** Most characters of `WWW-Authenticate` values that are read for one response. */
export const MAX_CHALLENGE_HEADER_LENGTH = 65_536;

/** A challenge as it was received, with its request decoded but not yet checked against a method's schema. */
export type ParsedChallenge = {
	readonly challenge: Challenge;
	readonly request: JsonObject;
};

/** The order in which parameters are written. */
const PARAMETERS = [
	"id",
	"realm",
	"method",
	"intent",
	"request",
	"description",
	"digest",
	"expires",
	"opaque",
] as const satisfies readonly (keyof Challenge)[];

const REQUIRED = ["id", "realm", "method", "intent", "request"] as const;

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const UNWRITABLE = /[\x00-\x1f\x7f]|\p{Surrogate}/u;
// biome-ignore lint/suspicious/noControlCharactersInRegex: a tab is allowed inside quotes, other control characters are not.
const UNREADABLE = /[\x00-\x08\x0a-\x1f\x7f]/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the ASCII range.
const ASCII = /^[\x00-\x7f]*$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: all that one byte can be.
const LATIN1 = /^[\u0000-\u00ff]*$/;

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Writes a challenge as a `WWW-Authenticate` value. Text beyond ASCII is written as its UTF-8 bytes, one character for each,
 * which is what Node and `Headers` accept.
 *
 * @throws {ChallengeFormatError} `empty_id`, or `character` when a value holds a control character (header injection)
 * @example
 * ```ts
 * formatChallenge({ id: "a", realm: "r", method: "evm", intent: "session", request: "e30" });
 * // 'Payment id="a", realm="r", method="evm", intent="session", request="e30"'
 * ```
 */
export function formatChallenge(challenge: Challenge): string {
	if (challenge.id === "") throw new ChallengeFormatError("empty_id", "id");
	const params: string[] = [];
	for (const name of PARAMETERS) {
		const value = challenge[name];
		if (value === undefined) continue;
		if (UNWRITABLE.test(value)) throw new ChallengeFormatError("character", name);
		params.push(`${name}="${toHeaderText(value).replace(/["\\]/g, "\\$&")}"`);
	}
	return `Payment ${params.join(", ")}`;
}

/**
 * Finds every good Payment challenge in one or several `WWW-Authenticate` values, in order. Other schemes and Payment
 * challenges that are not well-formed are left out, so that one bad challenge does not lose the others.
 *
 * @throws {ChallengeParseError} `too_long` when the values together exceed {@link MAX_CHALLENGE_HEADER_LENGTH}
 * @example
 * ```ts
 * const offers = parseChallenges(response.headers.get("WWW-Authenticate") ?? "");
 * const session = offers.find(({ challenge }) => challenge.method === "evm" && challenge.intent === "session");
 * ```
 */
export function parseChallenges(header: string | readonly string[]): ParsedChallenge[] {
	const good: ParsedChallenge[] = [];
	for (const element of paymentElements(header)) {
		const read = readChallenge(element);
		if (!("reason" in read)) good.push(read);
	}
	return good;
}

/**
 * Reads a `WWW-Authenticate` value that holds exactly one Payment challenge.
 *
 * @throws {ChallengeParseError} when there is none, more than one, or it is not well-formed
 * @example
 * ```ts
 * parseChallenge('Payment id="a", realm="r", method="evm", intent="session", request="e30"').challenge.id; // "a"
 * ```
 */
export function parseChallenge(header: string): ParsedChallenge {
	const [element, another] = paymentElements(header);
	if (element === undefined) throw new ChallengeParseError("no_challenge");
	if (another !== undefined) throw new ChallengeParseError("several_challenges");
	const read = readChallenge(element);
	if ("reason" in read) throw new ChallengeParseError(read.reason, read.parameter);
	return read;
}

function paymentElements(header: string | readonly string[]): AuthElement[] {
	const values = typeof header === "string" ? [header] : header;
	const length = values.reduce((sum, value) => sum + value.length, 0);
	if (length > MAX_CHALLENGE_HEADER_LENGTH) throw new ChallengeParseError("too_long");
	return values.flatMap((value) => scanAuthElements(value).filter((element) => element.scheme === "payment"));
}

/**
 * What is bound to the `id` must be well-formed. A `description` cut short by a stray quote is kept as far as it goes, and a
 * parameter we do not know is never looked into; but no parameter may come twice.
 */
function readChallenge(element: AuthElement): ParsedChallenge | Refusal {
	const seen = new Set<string>();
	const found: { -readonly [name in keyof Challenge]?: string } = {};
	for (const { name, value, intact } of element.params) {
		if (seen.has(name)) return { reason: "duplicate_parameter", parameter: isParameter(name) ? name : undefined };
		seen.add(name);
		if (!isParameter(name)) continue;
		const usable = value !== undefined && !UNREADABLE.test(value);
		if (usable && (intact || name === "description")) found[name] = fromHeaderText(value);
		else if (name !== "description") return { reason: "malformed_parameter", parameter: name };
	}
	for (const name of REQUIRED) {
		if (found[name] === undefined) return { reason: "missing_parameter", parameter: name };
	}
	const { id = "", realm = "", method = "", intent = "", request = "", ...optional } = found;
	if (id === "") return { reason: "malformed_parameter", parameter: "id" };
	const challenge: Challenge = { id, realm, method, intent, request, ...optional };
	try {
		return { challenge, request: decodeRequest(challenge) };
	} catch {
		return { reason: "malformed_parameter", parameter: "request" };
	}
}

function isParameter(name: string): name is keyof Challenge {
	return PARAMETERS.some((parameter) => parameter === name);
}

function toHeaderText(text: string): string {
	if (ASCII.test(text)) return text;
	let bytes = "";
	for (const byte of utf8Encoder.encode(text)) bytes += String.fromCharCode(byte);
	return bytes;
}

/** The inverse of {@link toHeaderText}; a value that is not UTF-8 bytes is left as it came. */
function fromHeaderText(text: string): string {
	if (ASCII.test(text) || !LATIN1.test(text)) return text;
	try {
		return utf8Decoder.decode(Uint8Array.from(text, (character) => character.charCodeAt(0)));
	} catch {
		return text;
	}
}

type Refusal = { readonly reason: ChallengeParseReason; readonly parameter: keyof Challenge | undefined };

/** Why a header value is not a Payment challenge. */
export type ChallengeParseReason =
	| "too_long"
	| "no_challenge"
	| "several_challenges"
	| "missing_parameter"
	| "malformed_parameter"
	| "duplicate_parameter";

const PARSE_HINTS: Record<ChallengeParseReason, string> = {
	too_long: `more than ${MAX_CHALLENGE_HEADER_LENGTH} characters`,
	no_challenge: "no Payment challenge in it",
	several_challenges: "more than one Payment challenge in it; use parseChallenges",
	missing_parameter: "a required parameter is missing",
	malformed_parameter: "a parameter is not well-formed",
	duplicate_parameter: "a parameter comes twice",
};

/** A header value that is not the Payment challenge it should be. */
export class ChallengeParseError extends Error {
	override readonly name = "ChallengeParseError";
	/** Stable code of this error. */
	readonly code = "challenge_parse";
	/** What is wrong. */
	readonly reason: ChallengeParseReason;
	/** The parameter it is wrong with, if it is one of the draft's. */
	readonly parameter: keyof Challenge | undefined;

	constructor(reason: ChallengeParseReason, parameter?: keyof Challenge) {
		const where = parameter === undefined ? "" : ` (${parameter})`;
		super(`Not a Payment challenge: ${PARSE_HINTS[reason]}${where}.`);
		this.reason = reason;
		this.parameter = parameter;
	}
}
