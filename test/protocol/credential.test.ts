import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	type Credential,
	credentialStart,
	encodeBase64url,
	formatCredential,
	MAX_CREDENTIAL_LENGTH,
	parseCredential,
	parseCredentialAfter,
	paymentCredentials,
} from "../../src/protocol/index.ts";
import { challengesOf } from "./arbitraries.ts";
import { codeOf, sampleChallenge, thrownBy } from "./support.ts";

const credential: Credential = { challenge: sampleChallenge, payload: { action: "close" } };
const header = formatCredential(credential);

function headerOf(json: unknown): string {
	return `Payment ${encodeBase64url(typeof json === "string" ? json : JSON.stringify(json))}`;
}

describe("a credential", () => {
	test("may be preceded by several spaces and any case of the scheme", () => {
		for (const scheme of ["Payment", "payment", "PAYMENT  "]) {
			expect(parseCredential(header.replace("Payment", scheme))).toEqual(credential);
		}
	});

	test("may have members we do not know, which are left out", () => {
		const { challenge, payload } = credential;
		const extended = { challenge: { ...challenge, header: "x" }, payload: { ...payload, more: [1] }, x: {} };
		expect(parseCredential(headerOf(extended))).toEqual({ challenge, payload: { ...payload, more: [1] } });
	});

	test("of 4096 characters and of the limit is accepted, one longer is not", () => {
		const ofLength = (length: number) => {
			const empty = formatCredential({ ...credential, payload: { fill: "" } }).length;
			for (let fill = Math.floor(((length - empty) * 3) / 4) - 2; ; fill++) {
				const text = formatCredential({ ...credential, payload: { fill: "x".repeat(fill) } });
				if (text.length >= length) return text;
			}
		};
		expect(codeOf(() => parseCredential(ofLength(4096)))).toBe("nothing was thrown");
		expect(codeOf(() => parseCredential(ofLength(MAX_CREDENTIAL_LENGTH - 2)))).toBe("nothing was thrown");
		const long = ofLength(MAX_CREDENTIAL_LENGTH + 1);
		expect(thrownBy(() => parseCredential(long))).toMatchObject({ reason: "too_long" });
		expect(codeOf(() => parseCredential(long, { maxLength: long.length }))).toBe("nothing was thrown");
		expect(thrownBy(() => parseCredential(header, { maxLength: header.length - 1 }))).toMatchObject({
			reason: "too_long",
		});
	});
});

describe("what credentials for one challenge begin with", () => {
	const text = fc.string({ unit: "grapheme" });
	const challenges = challengesOf(text).map((made) => ({ ...made, id: `${made.id}x` }));
	const payloads = fc.dictionary(text, fc.jsonValue()) as fc.Arbitrary<Credential["payload"]>;

	function readOrNot(sent: string): Credential | undefined {
		try {
			return parseCredential(sent);
		} catch {
			return undefined;
		}
	}

	test("is enough to read another one by, to the same result", () => {
		fc.assert(
			fc.property(challenges, payloads, fc.option(text, { nil: undefined }), (challenge, payload, source) => {
				const first = formatCredential({ challenge, payload: { action: "close" } });
				const second = formatCredential({ challenge, payload, ...(source !== undefined && { source }) });
				const start = credentialStart(first, parseCredential(first).challenge);
				if (start === undefined) throw new Error("it was written by formatCredential");
				// What is refused as a whole, for example for a member __proto__ at any depth, is not read this way either.
				expect(parseCredentialAfter(start, second)).toEqual(readOrNot(second));
			}),
		);
	});

	test("is not found where a credential is written in another way", () => {
		const { id, ...others } = sampleChallenge;
		const backwards = headerOf({ challenge: { ...others, id }, payload: {} });
		expect(credentialStart(backwards, parseCredential(backwards).challenge)).toBeUndefined();
		expect(credentialStart(header.replace("Payment", "payment"), sampleChallenge)).toBeUndefined();
	});

	test("never lets a credential be read as anything that it is not", () => {
		const start = credentialStart(header, sampleChallenge);
		if (start === undefined) throw new Error("it was written by formatCredential");
		const json = JSON.stringify({ challenge: sampleChallenge, payload: credential.payload });
		const head = json.slice(0, json.indexOf('"payload"'));
		const endings = [
			"}",
			'"payload":{}',
			'"payload":[]}',
			'"payload":null}',
			'"payload":{},"source":1}',
			'"payload":{},"source":null}',
			'"payload":{"__proto__":{}}}',
			`"payload":{},"challenge":${JSON.stringify({ ...sampleChallenge, realm: "elsewhere" })}}`,
			'"payload":{},"challenge":null}',
			'"payload":{}} ',
			'"payload":{}}}',
			'"payload":{"a":1},"payload":{"a":2}}',
			' "more": 1, "payload" : {} }',
		];
		for (const ending of endings) {
			const sent = headerOf(head + ending);
			const again = parseCredentialAfter(start, sent);
			if (again !== undefined) expect(again).toEqual(parseCredential(sent));
		}
		for (const broken of ["=", "!", "A", " ", "\n"])
			expect(parseCredentialAfter(start, header + broken)).toBeUndefined();
		expect(parseCredentialAfter(start, header.slice(0, -1))).toBeUndefined();
		expect(parseCredentialAfter(start, `${header}${"A".repeat(MAX_CREDENTIAL_LENGTH)}`)).toBeUndefined();
	});
});

describe("a malformed credential", () => {
	const { challenge, payload } = credential;
	const { id: _, ...withoutId } = challenge;

	test.each([
		["nothing", "", "scheme", undefined],
		["another scheme", header.replace("Payment", "Bearer"), "scheme", undefined],
		["a scheme that only begins so", header.replace("Payment", "Payments"), "scheme", undefined],
		["no space after the scheme", header.replace(" ", ""), "scheme", undefined],
		["the scheme alone", "Payment", "encoding", undefined],
		["padding", `${headerOf("{}")}=`, "encoding", undefined],
		["two tokens", `${header} abcd`, "encoding", undefined],
		["parameters", 'Payment id="a"', "encoding", undefined],
		["no JSON", headerOf("{"), "encoding", undefined],
		["bytes that are not UTF-8", "Payment _w", "encoding", undefined],
		["null", headerOf("null"), "encoding", undefined],
		["an array", headerOf([credential]), "encoding", undefined],
		["a __proto__ with the id", headerOf(`{"challenge":{"__proto__":{"id":"x"}},"payload":{}}`), "encoding", undefined],
		["an escaped __proto__", headerOf(`{"challenge":{},"payload":{"_\\u005fproto__":1}}`), "encoding", undefined],
		["no challenge", headerOf({ payload }), "shape", "challenge"],
		["an array for a challenge", headerOf({ challenge: [], payload }), "shape", undefined],
		["a text for a challenge", headerOf({ challenge: "x", payload }), "shape", "challenge"],
		["no id", headerOf({ challenge: withoutId, payload }), "shape", "challenge.id"],
		["an empty id", headerOf({ challenge: { ...challenge, id: "" }, payload }), "shape", "challenge.id"],
		["a number for a realm", headerOf({ challenge: { ...challenge, realm: 1 }, payload }), "shape", "challenge.realm"],
		[
			"null for expires",
			headerOf({ challenge: { ...challenge, expires: null }, payload }),
			"shape",
			"challenge.expires",
		],
		[
			"an object for a request",
			headerOf({ challenge: { ...challenge, request: {} }, payload }),
			"shape",
			"challenge.request",
		],
		["no payload", headerOf({ challenge }), "shape", "payload"],
		["an array for a payload", headerOf({ challenge, payload: [] }), "shape", "payload"],
		["null for a payload", headerOf({ challenge, payload: null }), "shape", "payload"],
		["an object for a source", headerOf({ challenge, payload, source: {} }), "shape", "source"],
	])("with %s is refused", (_, text, reason, path) => {
		const error = thrownBy(() => parseCredential(text));
		expect(error).toMatchObject({ code: "malformed_credential", reason });
		if (path !== undefined) expect(error).toMatchObject({ path });
	});

	test("never shows in the error, not even in its cause", () => {
		const secret = "s3cr3tsignature";
		for (const text of [
			`Payment ${secret}`,
			headerOf(`{"${secret}"`),
			headerOf({ challenge: { id: 1, [secret]: secret } }),
		]) {
			const error = thrownBy(() => parseCredential(text));
			const shown = JSON.stringify(error, Object.getOwnPropertyNames(error)) + String(error);
			expect(shown).not.toContain(secret);
			expect(error).not.toHaveProperty("cause");
		}
	});
});

describe("the Payment credentials of a request", () => {
	test("are found alone, among other schemes and in several values", () => {
		expect(paymentCredentials(undefined)).toEqual([]);
		expect(paymentCredentials([])).toEqual([]);
		expect(paymentCredentials("Bearer abc")).toEqual([]);
		expect(paymentCredentials(header)).toEqual([header]);
		expect(paymentCredentials(["Bearer abc", header])).toEqual([header]);
		expect(paymentCredentials(`Bearer abc, ${header}`)).toEqual([header]);
		expect(paymentCredentials(`${header}, Digest username="a, Payment b", qop=auth`)).toEqual([header]);
	});

	test("are all found where there are several, so that the caller can answer 400", () => {
		expect(paymentCredentials(`${header}, ${header}`)).toEqual([header, header]);
		expect(paymentCredentials(`${header},payment x`)).toEqual([header, "payment x"]);
		expect(paymentCredentials([header, `Basic a=, ${header}`])).toEqual([header, header]);
	});

	test("are found even when malformed", () => {
		for (const text of ["Payment", "Payment not-valid!!!", "payment \u00e9", 'Payment id="a"']) {
			expect(paymentCredentials(text)).toEqual([text]);
			expect(paymentCredentials(`Basic abc, ${text}`)).toHaveLength(1);
		}
	});
});
