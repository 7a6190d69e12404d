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

/** Every member of a payload by its path, so that each can be broken in turn. */
export function pathsOf(object: object, prefix: readonly string[] = []): string[][] {
	return Object.entries(object).flatMap(([name, value]) => [
		[...prefix, name],
		...(typeof value === "object" ? pathsOf(value, [...prefix, name]) : []),
	]);
}

/** A copy of an object with the member at a path replaced; `undefined` leaves it out, as JSON does. */
export function withMember(
	object: object,
	[name = "", ...rest]: readonly string[],
	value: unknown,
): Record<string, unknown> {
	const copy = (Array.isArray(object) ? [...object] : { ...object }) as Record<string, unknown>;
	const inner = copy[name];
	copy[name] = rest.length > 0 && typeof inner === "object" && inner !== null ? withMember(inner, rest, value) : value;
	if (copy[name] === undefined) Reflect.deleteProperty(copy, name);
	return copy;
}
