/**
 * The frame around every stored value: a version, a checksum, JSON. The checksum covers the key too, so that a value
 * found in another record's place is as damaged as one with a wrong bit.
 *
 *     1 9ae0daaf {"name":"watcher",...}
 */
import { crc32 } from "node:zlib";
import type { z } from "zod";
import { CorruptRecordError } from "./store.ts";

const VERSION = "1";
/** Version, space, eight hex digits, space. */
const HEADER = /^(\d+) ([0-9a-f]{8}) /;

/** Puts `value`, which has to be plain JSON, into a frame for the place `key`. */
export function seal(key: string, value: object): string {
	const json = JSON.stringify(value);
	return `${VERSION} ${checksum(key, json)} ${json}`;
}

/**
 * Takes a value out of its frame.
 *
 * @throws CorruptRecordError when its version is unknown, its checksum is wrong or its shape is not `schema`'s
 */
export function unseal<T>(key: string, text: string, schema: z.ZodType<T>): T {
	const parsed = schema.safeParse(open(key, text));
	if (parsed.success) return parsed.data;
	const [issue] = parsed.error.issues;
	throw new CorruptRecordError(key, `wrong shape: ${issue?.path.join(".")} ${issue?.message}`);
}

/**
 * The same, whatever its shape: that is for the caller to check.
 *
 * @throws CorruptRecordError when its version is unknown or its checksum is wrong
 */
export function open(key: string, text: string): unknown {
	const header = HEADER.exec(text);
	if (header === null) throw new CorruptRecordError(key, "no version and checksum");
	const [{ length }, version, expected] = header;
	if (version !== VERSION) throw new CorruptRecordError(key, `unknown version ${version}`);
	const json = text.slice(length);
	if (checksum(key, json) !== expected) throw new CorruptRecordError(key, "wrong checksum");
	return parseJson(key, json);
}

/**
 * Of a record that says itself what it is of: that it lies in its own place.
 *
 * @param own the key of that place
 * @throws CorruptRecordError when it does not
 */
export function checkPlace(key: string, own: string): void {
	if (own !== key) throw new CorruptRecordError(key, `it belongs to ${own}`);
}

function checksum(key: string, json: string): string {
	return crc32(json, crc32(key)).toString(16).padStart(8, "0");
}

function parseJson(key: string, json: string): unknown {
	try {
		return JSON.parse(json);
	} catch {
		throw new CorruptRecordError(key, "no JSON");
	}
}
