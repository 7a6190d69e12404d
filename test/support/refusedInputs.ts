/**
 * What is done to a good credential so that it has to be refused, for every member that it has. A base says what a good one
 * looks like; the rows follow from it.
 */
import { type Challenge, encodeBase64url, type ProblemName } from "../../src/protocol/index.ts";
import type { Send } from "./http.ts";
import { type Draft, encode, withChallenge } from "./payer.ts";

/** Members of a payload by what they hold, as dotted paths. All of them are required. */
export type Members = Readonly<{
	/** Names that tell payloads apart, with a name for each that the drafts know but not here. */
	name: readonly (readonly [path: string, elsewhere: string])[];
	uint128?: readonly string[];
	uint256?: readonly string[];
	bytes32?: readonly string[];
	/** Bytes of any number but none. */
	bytes?: readonly string[];
	address?: readonly string[];
	object?: readonly string[];
	/** Signatures, with the problem where one is well-formed and can't be verified. */
	signature?: readonly (readonly [path: string, unverifiable: ProblemName])[];
}>;

/** One kind of good credential. */
export type Base = Readonly<{
	title: string;
	intent: "session" | "charge";
	path: string;
	method: "GET" | "HEAD";
	members: Members;
	/** A credential that is taken, another one each time. It may expire later than its challenge. */
	make(challenge: Challenge): Promise<Draft>;
}>;

/** What goes on the wire instead of the good credential. */
export type Spoilt = NonNullable<Send["authorization"]> | Draft;
export type Row = readonly [title: string, name: ProblemName, spoil: (good: Draft) => Spoilt];

/** Every row for a base, by what is wrong. */
export function rowsOf(base: Base): readonly (readonly [what: string, rows: readonly Row[]])[] {
	const all: [string, readonly Row[]][] = [
		["a header that is no credential", headerRows],
		["several credentials", severalRows],
		["a challenge that is not the one we gave", challengeRows(base)],
		["a payload of the wrong shape", shapeRows(base)],
		["a signature that can't be verified", signatureRows(base)],
	];
	return all.filter(([, rows]) => rows.length > 0);
}

const raw = (json: string) => `Payment ${encodeBase64url(json)}`;
const token = (good: Draft) => encode(good).slice("Payment ".length);
const nested = (depth: number) => `${"[".repeat(depth)}${"]".repeat(depth)}`;

/** The credential's JSON with a member put into its payload that no object literal can have. */
function withRawMember(good: Draft, member: string, owner: "challenge" | "payload" = "payload"): string {
	return raw(JSON.stringify(good).replace(`"${owner}":{`, `"${owner}":{${member},`));
}

/** One byte of the credential's JSON is no UTF-8. */
function withBadByte(good: Draft): string {
	const bytes = Buffer.from(JSON.stringify(good));
	bytes[bytes.indexOf(good.challenge.realm)] = 0xff;
	return `Payment ${bytes.toString("base64url")}`;
}

const headerRows: readonly Row[] = (
	[
		["nothing after the scheme", () => "Payment"],
		["a space after the scheme", () => "Payment "],
		["no base64url", () => "Payment !!!"],
		["padding", (good) => `Payment ${token(good)}=`],
		["base64 of the other alphabet", () => "Payment ++//"],
		["a stray character of the other alphabet", (good) => `Payment ${token(good)}+`],
		["an impossible length", () => "Payment A"],
		["unused bits that are not zero", () => "Payment e31"],
		["two tokens", (good) => `Payment ${token(good)} ${token(good)}`],
		["half a token", (good) => `Payment ${token(good).slice(0, 200)}`],
		["auth-params", () => 'Payment id="x"'],
		["no JSON", () => raw("{")],
		["JSON with something after it", (good) => raw(`${JSON.stringify(good)}x`)],
		["JSON in single quotes", (good) => raw(JSON.stringify(good).replaceAll('"', "'"))],
		["JSON with a byte order mark", (good) => raw(`\ufeff${JSON.stringify(good)}`)],
		["JSON that is no object", () => raw("[]")],
		["a list of credentials", (good) => raw(JSON.stringify([good]))],
		["null", () => raw("null")],
		["a string", (good) => raw(JSON.stringify(JSON.stringify(good)))],
		["bytes that are no UTF-8", withBadByte],
		["__proto__ with the credential", (good) => raw(`{"__proto__":${JSON.stringify(good)}}`)],
		["__proto__ in the payload", (good) => withRawMember(good, '"__proto__":{"action":"close"}')],
		["__proto__ in the challenge", (good) => withRawMember(good, '"__proto__":{"id":"x"}', "challenge")],
		["__proto__ with escaped underscores", (good) => withRawMember(good, '"\\u005f\\u005Fproto__":{}')],
		["__proto__ with an escaped letter", (good) => withRawMember(good, '"__pro\\u0074o__":1')],
		["__proto__ deep in an unknown member", (good) => withRawMember(good, '"more":[{"a":{"__proto__":null}}]')],
		["a very deep object", () => raw(`{"a":${nested(5_000)}}`)],
		[
			"a very deep challenge",
			(good) => raw(JSON.stringify({ ...good, challenge: 0 }).replace(":0", `:${nested(2_000)}`)),
		],
		["20 KB", (good) => withRawMember(good, `"more":"${"x".repeat(15_000)}"`)],
		["an empty object", () => raw("{}")],
		["no challenge", ({ payload }) => encode({ payload })],
		["no payload", ({ challenge }) => encode({ challenge })],
		["a payload that is a list", (good) => encode({ ...good, payload: [good.payload] })],
		["a payload that is a string", (good) => encode({ ...good, payload: JSON.stringify(good.payload) })],
		["a payload that is null", (good) => encode({ ...good, payload: null })],
		["a challenge that is a string", (good) => encode({ ...good, challenge: good.challenge.id })],
		["a challenge that is a list", (good) => encode({ ...good, challenge: [good.challenge] })],
		["an id that is a number", (good) => withChallenge(good, { id: 7 })],
		["an empty id", (good) => withChallenge(good, { id: "" })],
		["no id", (good) => withChallenge(good, { id: undefined })],
		["no realm", (good) => withChallenge(good, { realm: undefined })],
		["no method", (good) => withChallenge(good, { method: undefined })],
		["no intent", (good) => withChallenge(good, { intent: undefined })],
		["no request", (good) => withChallenge(good, { request: undefined })],
		["a request that is an object", (good) => withChallenge(good, { request: {} })],
		["expires that is a number", (good) => withChallenge(good, { expires: 2_000_000_000 })],
		["opaque that is null", (good) => withChallenge(good, { opaque: null })],
		["a source that is a number", (good) => encode({ ...good, source: 1 })],
	] satisfies readonly (readonly [string, Row[2]])[]
).map(([title, spoil]) => [title, "malformed-credential", spoil]);

/** Core, Multiple Payment Options. */
const severalRows: readonly Row[] = (
	[
		["the same credential in two fields", (good) => [encode(good), encode(good)]],
		["two credentials in two fields", (good) => [encode(good), encode({ ...good, more: 1 })]],
		["two credentials joined by a comma", (good) => `${encode(good)}, ${encode({ ...good, more: 1 })}`],
		["two credentials joined without a space", (good) => `${encode(good)},${encode(good)}`],
		["a second one beside another scheme", (good) => [`Basic dTpw, ${encode(good)}`, encode(good)]],
		["a second one that is none", (good) => ["Payment x", encode(good)]],
	] satisfies readonly (readonly [string, Row[2]])[]
).map(([title, spoil]) => [title, "bad-request", spoil]);

/** The echo has to be what was issued, character by character (D9). */
function challengeRows({ intent }: Base): Row[] {
	const unknown = unknownChallenge(intent);
	const tampered: [string, ProblemName, (its: Challenge) => Readonly<Record<string, unknown>>][] = [
		["id", unknown, ({ id }) => ({ id: `${id.slice(0, -1)}${id.endsWith("A") ? "B" : "A"}` })],
		["id, shortened", unknown, ({ id }) => ({ id: id.slice(1) })],
		["id, padded", unknown, ({ id }) => ({ id: `${id}=` })],
		["realm", unknown, () => ({ realm: "other.example" })],
		["realm, in another case", unknown, ({ realm }) => ({ realm: realm.toUpperCase() })],
		["realm, empty", unknown, () => ({ realm: "" })],
		["a foreign method", unknown, () => ({ method: "tempo" })],
		["method, in another case", unknown, () => ({ method: "EVM" })],
		["the other intent", unknownChallenge(other(intent)), () => ({ intent: other(intent) })],
		["intent, in another case", "invalid-challenge", () => ({ intent: intent.toUpperCase() })],
		["an unknown intent", "invalid-challenge", () => ({ intent: "subscription" })],
		["request", unknown, () => ({ request: encodeBase64url('{"amount":"1"}') })],
		["request, empty", unknown, () => ({ request: "" })],
		["request, no base64url", unknown, () => ({ request: "!" })],
		["expires, later", unknown, () => ({ expires: "2999-01-01T00:00:00Z" })],
		["expires, left out", unknown, () => ({ expires: undefined })],
		["expires, no date", unknown, () => ({ expires: "never" })],
		["digest, added", unknown, () => ({ digest: "sha-256=:x:" })],
		["opaque", unknown, () => ({ opaque: encodeBase64url('{"nonce":"AAAAAAAAAAAAAAAAAAAAAA"}') })],
		["opaque, left out", unknown, () => ({ opaque: undefined })],
		["parts moved over a separator", unknown, ({ realm }) => ({ realm: `${realm}|evm`, method: intent })],
	];
	return tampered.map(([title, name, change]) => [title, name, (good) => withChallenge(good, change(good.challenge))]);
}

/** What a challenge that is not ours, not for this route or expired is called (D18). */
export function unknownChallenge(intent: "session" | "charge"): ProblemName {
	return intent === "session" ? "session/challenge-not-found" : "invalid-challenge";
}

/** What a payload of the wrong shape is called (D18): every refusal of a charge is 402. */
export function wrongShape(intent: "session" | "charge"): ProblemName {
	return intent === "session" ? "bad-request" : "malformed-credential";
}

function other(intent: "session" | "charge"): "session" | "charge" {
	return intent === "session" ? "charge" : "session";
}

type Wrong = readonly [title: string, value: (good: string) => unknown];

const wrongTypes: readonly Wrong[] = [
	["is missing", () => undefined],
	["is null", () => null],
	["is true", () => true],
	["is a number", () => 100],
	["is a list", (good) => [good]],
	["is an object", () => ({})],
	["is nested very deep", () => JSON.parse(nested(2_000))],
];

const wrongNumbers: readonly Wrong[] = [
	...wrongTypes,
	["is a float", () => 100.5],
	["is empty", () => ""],
	["is negative", () => "-1"],
	["is minus zero", () => "-0"],
	["has a plus", () => "+100"],
	["has a fraction", () => "100.0"],
	["has an exponent", () => "1e2"],
	["is hex", () => "0x64"],
	["has leading zeros", () => "0100"],
	["is two zeros", () => "00"],
	["has a space", () => "100 "],
	["has a line feed", () => "100\n"],
	["has a separator", () => "1_000"],
	["has other digits", () => "١٠٠"],
	["is no number", () => "NaN"],
	["has 4,000 digits", () => "9".repeat(4_000)],
];

const wrongBytes: readonly Wrong[] = [
	...wrongTypes,
	["is empty", () => ""],
	["is only 0x", () => "0x"],
	["is a digit short", (good) => good.slice(0, -1)],
	["has no 0x", (good) => good.slice(2)],
	["has 0X", (good) => good.replace("0x", "0X")],
	["has a space", (good) => ` ${good}`],
	["has a line feed", (good) => `${good}\n`],
	["is no hex", (good) => `0x${"z".repeat(good.length - 2)}`],
];

const wrongHex: readonly Wrong[] = [
	...wrongBytes,
	["is a byte short", (good) => good.slice(0, -2)],
	["is a byte long", (good) => `${good}00`],
];

const wrongAddresses: readonly Wrong[] = [...wrongHex, ["is a name", () => "payer.eth"]];

const wrongNames: readonly Wrong[] = [
	...wrongTypes,
	["is empty", () => ""],
	["is unknown", () => "refund"],
	["is in another case", (good) => good.toUpperCase()],
	["has a space", (good) => `${good} `],
	["is what every object has", () => "constructor"],
];

const wrongObjects: readonly Wrong[] = [...wrongTypes, ["is a string", (good) => JSON.stringify(good)]];

function shapeRows({ intent, members }: Base): Row[] {
	const name = wrongShape(intent);
	// The session draft wants lowercase, the charge draft does not; addresses are taken in any case in both.
	const uppercase: readonly Wrong[] = intent === "session" ? [["is in uppercase", upper]] : [];
	const rows = (paths: readonly string[] | undefined, wrong: readonly Wrong[]): Row[] =>
		(paths ?? []).flatMap((path) =>
			wrong.map(([title, value]): Row => [`${path} ${title}`, name, (good) => changed(good, path, value)]),
		);
	const tooLarge = (bits: 128 | 256): Wrong => [`is 2^${bits}`, () => String(2n ** BigInt(bits))];
	return [
		...members.name.flatMap(([path, elsewhere]) =>
			rows([path], [...wrongNames, ["is one of others", () => elsewhere]]),
		),
		...rows(members.uint128, [...wrongNumbers, tooLarge(128)]),
		...rows(members.uint256, [...wrongNumbers, tooLarge(256)]),
		...rows(members.bytes32, [...wrongHex, ...uppercase]),
		...rows(members.bytes, wrongBytes),
		...rows(members.address, wrongAddresses),
		...rows(members.object, wrongObjects),
		...rows(
			members.signature?.map(([path]) => path),
			[...wrongHex, ...uppercase, ["is compact (EIP-2098)", compact]],
		),
	];
}

/** Order of the curve. */
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

const unverifiable: readonly (readonly [title: string, forge: (good: string) => string])[] = [
	["is all zeros", () => `0x${"00".repeat(65)}`],
	["is all ones", () => `0x${"ff".repeat(65)}`],
	["has high s, its twin", (good) => signatureOf(r(good), ORDER - s(good), good.endsWith("1b") ? "1c" : "1b")],
	["has v 0", (good) => signatureOf(r(good), s(good), "00")],
	["has v 1", (good) => signatureOf(r(good), s(good), "01")],
	["has v 29", (good) => signatureOf(r(good), s(good), "1d")],
	["has s of zero", (good) => signatureOf(r(good), 0n, "1b")],
	["has s of the curve's order", (good) => signatureOf(r(good), ORDER, "1b")],
	["has r of zero", (good) => signatureOf(0n, s(good), "1b")],
	["has r of the curve's order", (good) => signatureOf(ORDER, s(good), "1b")],
];

function signatureRows({ members }: Base): Row[] {
	return (members.signature ?? []).flatMap(([path, name]) =>
		unverifiable.map(([title, forge]): Row => [`${path} ${title}`, name, (good) => changed(good, path, forge)]),
	);
}

const r = (signature: string) => BigInt(signature.slice(0, 66));
const s = (signature: string) => BigInt(`0x${signature.slice(66, 130)}`);
const word = (value: bigint) => value.toString(16).padStart(64, "0");

function signatureOf(r: bigint, s: bigint, v: string): string {
	return `0x${word(r)}${word(s)}${v}`;
}

/** 64 bytes: the parity is the first bit of s. */
function compact(signature: string): string {
	const parity = signature.endsWith("1c") ? 1n << 255n : 0n;
	return `0x${word(r(signature))}${word(s(signature) | parity)}`;
}

/** The digits in uppercase, `0x` as it is. */
export function upper(hex: string): string {
	return `0x${hex.slice(2).toUpperCase()}`;
}

/** A draft with the member at a path of its payload changed; `undefined` leaves it out. */
export function changed(draft: Draft, path: string, change: (value: string) => unknown): Draft {
	return { ...draft, payload: changedMember(draft.payload, path.split("."), change) };
}

function changedMember(
	owner: unknown,
	[name = "", ...rest]: readonly string[],
	change: (value: string) => unknown,
): Record<string, unknown> {
	if (typeof owner !== "object" || owner === null || !(name in owner)) throw new Error(`there is no member ${name}`);
	const value: unknown = Reflect.get(owner, name);
	// Lists are copied as lists.
	const copy = Array.isArray(owner) ? [...owner] : { ...owner };
	Reflect.set(copy, name, rest.length > 0 ? changedMember(value, rest, change) : change(value as string));
	return copy as Record<string, unknown>;
}
