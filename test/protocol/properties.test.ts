/**
 * Every codec of src/protocol, ten thousand times each: what is written is read back as it was, and what can't be read is
 * refused with the error that the codec documents, never with one of the language's own.
 */
import { validateHeaderValue } from "node:http";
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	Base64urlError,
	ChallengeFormatError,
	ChallengeParseError,
	canonicalJson,
	createChallenge,
	decodeBase64url,
	decodeBase64urlText,
	decodeJson,
	decodeReceipt,
	decodeRequest,
	encodeBase64url,
	encodeChargePayload,
	encodeChargeRequest,
	encodeJson,
	encodeReceipt,
	encodeSessionPayload,
	encodeSessionRequest,
	formatChallenge,
	formatCredential,
	formatSource,
	formatTimestamp,
	InvalidPayloadError,
	InvalidRequestError,
	isExpired,
	isOurChallenge,
	JsonError,
	MalformedCredentialError,
	MalformedReceiptError,
	nonceOpaque,
	parseChallenge,
	parseChallenges,
	parseChargePayload,
	parseChargeRequest,
	parseCredential,
	parseProblem,
	parseSessionPayload,
	parseSessionRequest,
	parseSource,
	parseTimestamp,
	paymentCredentials,
	type Receipt,
	receiptFromJson,
	receiptToJson,
} from "../../src/protocol/index.ts";
import {
	anyText,
	challenges,
	chargePayloads,
	chargeReceipts,
	chargeRequests,
	credentials,
	flatObjects,
	headerText,
	hostileText,
	instants,
	jsonObjects,
	problems,
	sessionPayloads,
	sessionReceipts,
	sessionRequests,
	sources,
} from "./arbitraries.ts";
import { editedJson, editedText } from "./edits.ts";
import { SECRET } from "./support.ts";

const RUNS = 10_000;

function always<Values extends [unknown, ...unknown[]]>(
	...given: [...{ [At in keyof Values]: fc.Arbitrary<Values[At]> }, (...values: Values) => void]
): void {
	const check = given.pop() as (...values: Values) => void;
	const arbitraries = given as unknown as { [At in keyof Values]: fc.Arbitrary<Values[At]> };
	fc.assert(fc.property(...arbitraries, check), { numRuns: RUNS });
}

type ErrorClass = abstract new (...given: never[]) => Error & { readonly code: string };

/** What a call returns; `undefined` where it throws one of these errors. Any other error is a defect. */
function typed<Result>(call: () => Result, ...errors: readonly ErrorClass[]): Result | undefined {
	try {
		return call();
	} catch (error) {
		if (!errors.some((Known) => error instanceof Known)) throw error;
		// Nothing of what was refused travels with the error.
		expect(error).not.toHaveProperty("cause");
		return undefined;
	}
}

/** A property of broken inputs says something only where some are refused and some are still good. */
function bothWays() {
	const seen = { taken: 0, refused: 0 };
	return {
		count(value: unknown): void {
			if (value === undefined) seen.refused++;
			else seen.taken++;
		},
		[Symbol.dispose](): void {
			expect(seen.taken, "some are read").toBeGreaterThan(RUNS / 1_000);
			expect(seen.refused, "some are refused").toBeGreaterThan(RUNS / 1_000);
		},
	};
}

/** A value as it comes out of JSON. */
function overJson(value: unknown): unknown {
	return JSON.parse(JSON.stringify(value));
}

/** `toEqual`, asked only to say what differs: it is too slow for ten thousand runs of every property. */
function expectSame(given: unknown, expected: unknown): void {
	if (!isDeepStrictEqual(given, expected)) expect(given).toEqual(expected);
}

function expectWritten(given: object, expected: object): void {
	expect(JSON.stringify(given)).toBe(JSON.stringify(expected));
}

type JsonCodec<Value extends object> = Readonly<{
	values: fc.Arbitrary<Value>;
	format: (value: Value) => Record<string, unknown>;
	parse: (wire: unknown) => Value;
	error: ErrorClass;
}>;

function roundTrip<Value extends object>({ values, format, parse }: JsonCodec<Value>, which = ""): void {
	test(`${which}survives a round trip`, () => {
		always(values, (value) => {
			expectSame(parse(overJson(format(value))), value);
		});
	});
}

function broken<Value extends object>({ values, format, parse, error }: JsonCodec<Value>): void {
	test("broken, is read or refused with the typed error, and what is read can be written again", () => {
		using both = bothWays();
		always(editedJson(values.map(format)), (wire) => {
			const value = typed(() => parse(wire), error);
			both.count(value);
			// Compared as written: a minus zero is written as zero, an infinity as null.
			if (value !== undefined) expectWritten(format(parse(overJson(format(value)))), format(value));
		});
	});
}

function jsonCodec<Value extends object>(codec: JsonCodec<Value>): void {
	roundTrip(codec);
	broken(codec);
}

/** Anything at all, also what JSON can't express. */
const anything = fc.anything({ withBigInt: true, withNullPrototype: true, maxDepth: 2 });

/** JSON text in base64url, good or broken. */
const anyToken = fc.oneof(
	hostileText,
	fc.json({ maxDepth: 2 }).map((json) => Buffer.from(json).toString("base64url")),
	editedText(jsonObjects.map((object) => JSON.stringify(object))).map((json) =>
		Buffer.from(json).toString("base64url"),
	),
	editedText(flatObjects.map(encodeJson)),
);

describe("base64url", () => {
	test("of bytes survives a round trip and is what Node makes", () => {
		always(fc.uint8Array({ maxLength: 40 }), (bytes) => {
			const text = encodeBase64url(bytes);
			expect(text).toBe(Buffer.from(bytes).toString("base64url"));
			expectSame(decodeBase64url(text), bytes);
		});
	});

	test("of well-formed text survives a round trip; a lone surrogate is refused with the typed error", () => {
		always(fc.oneof(anyText, hostileText), (text) => {
			const encoded = typed(() => encodeBase64url(text), Base64urlError);
			expect(encoded !== undefined).toBe(text.isWellFormed());
			if (encoded !== undefined) expect(decodeBase64urlText(encoded)).toBe(text);
		});
	});

	test("is read or refused with the typed error, and of some bytes only the one encoding is read", () => {
		const lookalike = fc.string({ unit: fc.constantFrom(..."AEIQUYcgkosw048BZaz9-_"), maxLength: 12 });
		const broken = editedText(fc.uint8Array({ maxLength: 12 }).map(encodeBase64url));
		using both = bothWays();
		always(fc.oneof(hostileText, lookalike, broken), (text) => {
			const bytes = typed(() => decodeBase64url(text), Base64urlError);
			both.count(bytes);
			if (bytes !== undefined) expect(encodeBase64url(bytes)).toBe(text);
			const decoded = typed(() => decodeBase64urlText(text), Base64urlError);
			if (decoded !== undefined) expect(encodeBase64url(decoded)).toBe(text);
		});
	});
});

describe("JSON", () => {
	test("objects survive canonical encoding, whatever the order of their members", () => {
		always(jsonObjects, (object) => {
			const reversed = Object.fromEntries(Object.entries(object).reverse());
			expectSame(decodeJson(encodeJson(object)), object);
			expect(encodeJson(reversed)).toBe(encodeJson(object));
		});
	});

	test("values of any kind have a canonical form, which is its own, or are refused with the typed error", () => {
		using both = bothWays();
		always(fc.oneof(jsonObjects, anything), (value) => {
			const text = typed(() => canonicalJson(value as Record<string, unknown>), JsonError);
			both.count(text);
			if (text === undefined) return;
			expect(canonicalJson(JSON.parse(text))).toBe(text);
			expect(decodeBase64urlText(encodeJson(value as Record<string, unknown>))).toBe(text);
		});
	});

	test("in base64url, broken or not, is read as an object without __proto__ or refused with the typed errors", () => {
		const hasProto = (text: string) => /"__proto__":/.test(text);
		// Any character of a name may be spelled as an escape.
		const spellings = fc.constantFrom("__proto__", "\\u005f_proto__", "_\\u005Fproto__", "__pro\\u0074o__");
		const nested = fc
			.tuple(editedJson(jsonObjects), spellings)
			.map(([value, name]) => Buffer.from(JSON.stringify(value).replaceAll("__proto__", name)).toString("base64url"));
		using both = bothWays();
		always(fc.oneof(anyToken, nested), (text) => {
			const object = typed(() => decodeJson(text), Base64urlError, JsonError);
			both.count(object);
			typed(() => decodeRequest({ request: text }), Base64urlError, JsonError);
			if (object === undefined) return;
			expect(Object.getPrototypeOf(object)).toBe(Object.prototype);
			expect(hasProto(JSON.stringify(object).replaceAll("\\\\", "").replaceAll('\\"', ""))).toBe(false);
		});
	});
});

describe("a challenge", () => {
	test("in a header survives a round trip, in whatever script", () => {
		always(challenges, (challenge) => {
			const header = formatChallenge(challenge);
			expect(() => validateHeaderValue("WWW-Authenticate", header)).not.toThrow();
			expectSame(parseChallenge(header), { challenge, request: decodeRequest(challenge) });
		});
	});

	test("is found with others of its kind among other schemes, in one value, several, or as Headers joins them", () => {
		const several = fc.array(challenges, { minLength: 1, maxLength: 2 });
		const others = fc.constantFrom("Basic realm=x", "Bearer", "NTLM YWJj==", 'Digest realm="Payment id=1, x"');
		always(several, others, (offers, other) => {
			const values = [other, ...offers.map(formatChallenge)];
			const headers = new Headers();
			for (const value of values) headers.append("WWW-Authenticate", value);
			for (const read of [values, values.join(", "), headers.get("WWW-Authenticate") ?? ""])
				expectSame(
					parseChallenges(read).map(({ challenge }) => challenge),
					offers,
				);
		});
	});

	test("of any text is written as one line that Node sends, or refused with the typed error", () => {
		using both = bothWays();
		always(challenges, fc.constantFrom("id", "realm", "description", "opaque"), hostileText, (good, name, text) => {
			const challenge = { ...good, [name]: text };
			const header = typed(() => formatChallenge(challenge), ChallengeFormatError);
			both.count(header);
			if (header === undefined) return;
			expect(() => validateHeaderValue("WWW-Authenticate", header)).not.toThrow();
			expectSame(parseChallenge(header).challenge, challenge);
		});
	});

	test("broken, is read or refused with the typed error, and what is read is whole", () => {
		const pieces = fc.constantFrom(
			...'"\\,= \ta\0é—',
			"Payment",
			"Payment ",
			"id=",
			'request="e30"',
			"realm=r, method=m",
		);
		const header = fc.oneof(
			editedText(challenges.map(formatChallenge)),
			editedText(fc.tuple(challenges, challenges).map((two) => two.map(formatChallenge).join(", "))),
			fc.array(pieces, { maxLength: 20, size: "max" }).map((parts) => parts.join("")),
			hostileText,
		);
		using both = bothWays();
		always(header, (text) => {
			both.count(typed(() => parseChallenge(text), ChallengeParseError));
			for (const { challenge, request } of parseChallenges(text)) {
				expect(challenge.id).not.toBe("");
				expectSame(decodeRequest(challenge), request);
				const written = typed(() => formatChallenge(challenge), ChallengeFormatError);
				if (written !== undefined) expectSame(parseChallenge(written).challenge, challenge);
			}
		});
	});

	test("that was created is ours, and not once a bound parameter is another", () => {
		const bound = fc.constantFrom("realm", "method", "intent", "request", "expires", "opaque");
		const random = fc.uint8Array({ minLength: 16, maxLength: 16 });
		always(flatObjects, instants, random, headerText, bound, (request, at, bytes, text, name) => {
			const challenge = createChallenge(SECRET, {
				realm: "api.example.com",
				method: "evm",
				intent: "session",
				request,
				expires: formatTimestamp(at),
				opaque: nonceOpaque(bytes),
			});
			expectSame(decodeRequest(challenge), request);
			expect(isExpired(challenge, at - 1)).toBe(false);
			expect(isExpired(challenge, at)).toBe(true);
			expect(isOurChallenge([SECRET], challenge)).toBe(true);
			expect(isOurChallenge([SECRET], { ...challenge, [name]: text })).toBe(challenge[name] === text);
		});
	});
});

describe("a credential", () => {
	const headers = credentials.map(formatCredential);

	test("survives a round trip, and is found alone, among other schemes and beside others", () => {
		always(credentials, (credential) => {
			const header = formatCredential(credential);
			expectSame(parseCredential(header), credential);
			expectSame(paymentCredentials(header), [header]);
			expectSame(paymentCredentials(["Bearer abc", `Basic eA==, ${header}`]), [header]);
			expectSame(paymentCredentials(`${header}, ${header}`), [header, header]);
		});
	});

	test("broken, is read or refused with the typed error, and what is read can be written again", () => {
		const value = editedJson(credentials).map(
			(json) => `Payment ${Buffer.from(JSON.stringify(json)).toString("base64url")}`,
		);
		const json = editedText(credentials.map((credential) => JSON.stringify(credential)));
		const text = fc.oneof(
			value,
			json.map((broken) => `Payment ${Buffer.from(broken).toString("base64url")}`),
			editedText(headers),
			anyToken.map((token) => `Payment ${token}`),
			hostileText,
		);
		using both = bothWays();
		always(text, (header) => {
			const credential = typed(() => parseCredential(header), MalformedCredentialError);
			both.count(credential);
			for (const found of paymentCredentials([header, header])) expect(found).toMatch(/^payment/i);
			if (credential === undefined) return;
			expect(credential.challenge.id).not.toBe("");
			expectWritten(parseCredential(formatCredential(credential)), credential);
		});
	});
});

describe("a session payload", () => {
	const codec = { format: encodeSessionPayload, parse: parseSessionPayload, error: InvalidPayloadError };
	for (const [shape, values] of Object.entries(sessionPayloads)) roundTrip({ ...codec, values }, `(${shape}) `);
	broken({ ...codec, values: fc.oneof(...Object.values(sessionPayloads)) });
});

describe("a charge payload", () => {
	const codec = { format: encodeChargePayload, parse: parseChargePayload, error: InvalidPayloadError };
	for (const [type, values] of Object.entries(chargePayloads)) roundTrip({ ...codec, values }, `(${type}) `);
	broken({ ...codec, values: fc.oneof(...Object.values(chargePayloads)) });
});

describe("a session request", () => {
	jsonCodec({
		values: sessionRequests,
		format: encodeSessionRequest,
		parse: parseSessionRequest,
		error: InvalidRequestError,
	});
});

describe("a charge request", () => {
	jsonCodec({
		values: chargeRequests,
		format: encodeChargeRequest,
		parse: parseChargeRequest,
		error: InvalidRequestError,
	});
});

test("a payload or request of any kind is read or refused with the typed error", () => {
	always(anything, (value) => {
		typed(() => parseSessionPayload(value), InvalidPayloadError);
		typed(() => parseChargePayload(value), InvalidPayloadError);
		typed(() => parseSessionRequest(value), InvalidRequestError);
		typed(() => parseChargeRequest(value), InvalidRequestError);
	});
});

describe.each([
	["session", sessionReceipts as fc.Arbitrary<Receipt>],
	["charge", chargeReceipts as fc.Arbitrary<Receipt>],
])("a receipt of a %s", (_, values) => {
	jsonCodec({ values, format: receiptToJson, parse: receiptFromJson, error: MalformedReceiptError });

	test("in a header survives a round trip", () => {
		always(values, (receipt) => {
			expectSame(decodeReceipt(encodeReceipt(receipt)), receipt);
		});
	});

	test("in a header, broken, is read or refused with the typed error", () => {
		const json = editedText(values.map((receipt) => JSON.stringify(receiptToJson(receipt))));
		const text = fc.oneof(
			json.map((broken) => Buffer.from(broken).toString("base64url")),
			editedText(values.map(encodeReceipt)),
			anyToken,
		);
		using both = bothWays();
		always(text, (header) => {
			const receipt = typed(() => decodeReceipt(header), MalformedReceiptError);
			both.count(receipt);
			if (receipt !== undefined)
				expect(encodeReceipt(decodeReceipt(encodeReceipt(receipt)))).toBe(encodeReceipt(receipt));
		});
	});
});

describe("a problem", () => {
	test("survives a round trip", () => {
		always(problems, (value) => {
			expectSame(parseProblem(overJson(value)), value);
		});
	});

	test("broken, or anything else, is read as a problem or as none, and nothing is thrown", () => {
		using both = bothWays();
		always(fc.oneof(editedJson(problems), anything), (body) => {
			const value = parseProblem(body);
			both.count(value);
			if (value !== undefined) expectSame(parseProblem(value), value);
		});
	});
});

describe("a source", () => {
	test("survives a round trip", () => {
		always(sources, (source) => {
			expectSame(parseSource(formatSource(source.chainId, source.address)), source);
		});
	});

	test("broken, is read or is none, and nothing is thrown", () => {
		const written = sources.map(({ chainId, address }) => formatSource(chainId, address));
		using both = bothWays();
		always(
			fc.oneof(
				editedText(written),
				written.map((text) => text.replace(/[a-f]/g, (digit) => digit.toUpperCase())),
				hostileText,
			),
			(text) => {
				const source = parseSource(text);
				both.count(source);
				if (source !== undefined) expect(formatSource(source.chainId, source.address)).toBe(text.toLowerCase());
			},
		);
	});
});

describe("a timestamp", () => {
	test("survives a round trip to the millisecond, from the year 0 to 9999", () => {
		always(instants, (ms) => {
			expect(parseTimestamp(formatTimestamp(ms))).toBe(ms);
		});
	});

	test("broken, is read or is none, and nothing is thrown", () => {
		using both = bothWays();
		always(fc.oneof(editedText(instants.map(formatTimestamp)), hostileText), (text) => {
			const ms = parseTimestamp(text);
			both.count(ms);
			if (ms !== undefined) expect(Number.isSafeInteger(ms)).toBe(true);
			expect(isExpired({ expires: text }, ms ?? 0)).toBe(true);
		});
	});
});
