/** That the part of a credential that is encoded once is never another one's, nor an older one. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { type Challenge, credentialText, formatCredential, parseCredential } from "../../src/protocol/index.ts";
import { challengesOf } from "./arbitraries.ts";

const text = fc.oneof(fc.string(), fc.string({ unit: "grapheme" }), fc.constantFrom("", '"', "\\", "ü", "€ 5", "😀"));
const challenge = challengesOf(text);
const payload = fc.dictionary(
	text.filter((name) => name !== "__proto__"),
	text,
);

it("is what `formatCredential` writes, for the first payload and for each later one", () => {
	fc.assert(
		fc.property(challenge, fc.array(payload, { minLength: 1, maxLength: 4 }), (given, payloads) => {
			for (const one of payloads)
				expect(credentialText(given, one)).toBe(formatCredential({ challenge: given, payload: one }));
		}),
		{ numRuns: 500 },
	);
});

it("is that of the challenge as it is now, whoever has changed it since", () => {
	fc.assert(
		fc.property(challenge, challenge, payload, (given, other, one) => {
			const changing = { ...given } as Record<string, unknown>;
			credentialText(changing as Challenge, one);
			for (const name of Object.keys(changing)) delete changing[name];
			Object.assign(changing, other);
			expect(credentialText(changing as Challenge, one)).toBe(formatCredential({ challenge: other, payload: one }));
		}),
	);
});

it("has none of the members that the wire does not have", () => {
	const given: Challenge = { id: "id", realm: "r", method: "evm", intent: "session", request: "e30" };
	const more = { ...given, secret: "of mine" };
	expect(parseCredential(credentialText(more, { action: "voucher" })).challenge).toEqual(given);
	expect(credentialText(more, {})).toBe(formatCredential({ challenge: given, payload: {} }));
});
