import fc from "fast-check";
import type { Address, Challenge, Hex } from "../../src/protocol/index.ts";

/** The code of the typed error that a call must throw. */
export function codeOf(call: () => unknown): string {
	try {
		call();
	} catch (error) {
		return error instanceof Error && "code" in error ? String(error.code) : `untyped: ${error}`;
	}
	return "nothing was thrown";
}

/** The error that a call must throw. */
export function thrownBy(call: () => unknown): unknown {
	try {
		call();
	} catch (error) {
		return error;
	}
	throw new TypeError("nothing was thrown");
}

export const SECRET = "a secret of at least thirty-two bytes";
export const channelId: Hex = `0x${"c1".repeat(32)}`;
export const salt: Hex = `0x${"5a".repeat(32)}`;
export const hash: Hex = `0x${"7b".repeat(32)}`;
export const signature: Hex = `0x${"ab".repeat(64)}1b`;
export const payer: Address = `0x${"aa".repeat(20)}`;
export const payee: Address = `0x${"bb".repeat(20)}`;
export const token: Address = `0x${"cc".repeat(20)}`;
export const escrow: Address = `0x${"dd".repeat(20)}`;
export const signer: Address = `0x${"ee".repeat(20)}`;

export const sampleChallenge: Challenge = {
	id: "x7Tg2pLqR9mKvNwY3hBcZa",
	realm: "api.example.com",
	method: "evm",
	intent: "session",
	request: "e30",
};

/** Well-formed text of any script. */
export const anyText = fc.string({ unit: "grapheme" });

/** Well-formed text that a header can carry. */
export const headerText = anyText.map((text) => text.replace(/\p{Cc}/gu, ""));

/** The name of a member that a decoder takes: `__proto__` is refused. */
export const memberName = fc.string().filter((name) => name !== "__proto__");

const base64urlObject = fc
	.dictionary(memberName, fc.oneof(fc.string(), fc.integer(), fc.boolean()), { maxKeys: 4 })
	.map((object) => Buffer.from(JSON.stringify(object)).toString("base64url"));

/** Challenges that can be written in a header and read back. */
export const challenges: fc.Arbitrary<Challenge> = fc.record(
	{
		id: headerText.filter((id) => id !== ""),
		realm: headerText,
		method: fc.stringMatching(/^[a-z]{1,8}$/),
		intent: fc.stringMatching(/^[A-Za-z0-9-]{1,8}$/),
		request: base64urlObject,
		expires: headerText,
		digest: headerText,
		description: headerText,
		opaque: headerText,
	},
	{ requiredKeys: ["id", "realm", "method", "intent", "request"] },
);

export const addresses: fc.Arbitrary<Address> = fc.stringMatching(/^0x[0-9a-f]{40}$/).map((text) => text as Address);
export const words: fc.Arbitrary<Hex> = fc.stringMatching(/^0x[0-9a-f]{64}$/).map((text) => text as Hex);
export const signatures: fc.Arbitrary<Hex> = fc.stringMatching(/^0x[0-9a-f]{130}$/).map((text) => text as Hex);
export const uint128s = fc.bigInt({ min: 0n, max: 2n ** 128n - 1n });
export const uint256s = fc.bigInt({ min: 0n, max: 2n ** 256n - 1n });

/** A copy of an object with the member at a path replaced. */
export function withMember(
	object: object,
	[name = "", ...rest]: readonly string[],
	value: unknown,
): Record<string, unknown> {
	const copy: Record<string, unknown> = { ...object };
	const inner = copy[name];
	copy[name] = rest.length > 0 && typeof inner === "object" && inner !== null ? withMember(inner, rest, value) : value;
	return copy;
}
