/**
 * The frame around every stored value: a version, a checksum, JSON. The checksum covers the key too, so that a value found
 * in another record's place is as damaged as one with a wrong bit.
 */
import type * as z from "zod";

const VERSION = "1";
const HEADER = /^(\d+) ([0-9a-f]{8}) /;

/** A stored value is not what was once written there. Says nothing of its content, which may be secret. */
export class DamagedValueError extends Error {
	override readonly name = "DamagedValueError";
	readonly code = "DAMAGED_VALUE";
}

/** Puts `value`, which has to be plain JSON of this shape, into a frame for the place `key`. */
export function seal<T>(key: string, value: T, schema: z.ZodType<T>): string {
	return framed(key, checkedCopy(key, value, schema));
}

/**
 * A copy of `value` that nobody else has, once it is known to be plain JSON of this shape: what can't be read back must not be
 * written.
 */
export function checkedCopy<T>(key: string, value: T, schema: z.ZodType<T>): T {
	const checked = schema.safeParse(value);
	if (!checked.success) throw new TypeError(`${key} can't be kept: ${describe(checked.error)}`);
	return checked.data;
}

/** As `seal`, for what was checked before. */
export function framed(key: string, value: unknown): string {
	const json = JSON.stringify(value);
	return `${VERSION} ${checksum(key, json)} ${json}`;
}

/** Takes a value out of its frame. @throws DamagedValueError */
export function unseal<T>(key: string, text: string, schema: z.ZodType<T>): T {
	const header = HEADER.exec(text);
	if (header === null) throw new DamagedValueError("no version and checksum");
	const [{ length }, version, expected] = header;
	if (version !== VERSION) throw new DamagedValueError(`unknown version ${version}`);
	const json = text.slice(length);
	if (checksum(key, json) !== expected) throw new DamagedValueError("wrong checksum");
	const parsed = schema.safeParse(parseJson(json));
	if (parsed.success) return parsed.data;
	throw new DamagedValueError(describe(parsed.error));
}

function parseJson(json: string): unknown {
	try {
		return JSON.parse(json);
	} catch {
		// Not as the cause: the message of a SyntaxError shows a piece of the text.
		throw new DamagedValueError("no JSON");
	}
}

function describe({ issues: [issue] }: z.ZodError): string {
	return `${issue?.path.join(".")} ${issue?.message}`;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
	let value = byte;
	for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
	return value;
});

/** CRC-32, as of zlib, which browsers don't have. */
function checksum(key: string, json: string): string {
	let value = 0xffffffff;
	for (const byte of new TextEncoder().encode(`${key}${json}`)) {
		value = (TABLE[(value ^ byte) & 0xff] ?? 0) ^ (value >>> 8);
	}
	return ((value ^ 0xffffffff) >>> 0).toString(16).padStart(8, "0");
}
