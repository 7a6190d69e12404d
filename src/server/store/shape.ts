/**
 * Checks of what was read from the disk, by hand: for records that are on every payment's way, where a schema takes twice as long;
 * and of what is about to be written there, so that it can be read back.
 */
import type { Hex } from "viem";
import { CorruptRecordError } from "./store.ts";

/** A value is not what it should be. The checksum vouches for the content: it is a record of another kind or of another release. */
export class ShapeError extends Error {
	override readonly name = "ShapeError";
	readonly code = "SHAPE";
}

/**
 * What `read` makes of the values of the record at `key`.
 *
 * @throws CorruptRecordError where it finds one that is wrong
 */
export function shaped<T>(key: string, read: () => T): T {
	try {
		return read();
	} catch (error) {
		if (error instanceof ShapeError) throw new CorruptRecordError(key, `wrong shape: ${error.message}`);
		throw error;
	}
}

export function whole(value: unknown): number {
	if (!Number.isSafeInteger(value)) throw new ShapeError(`${typeof value} for a whole number`);
	return value as number;
}

export function flag(value: unknown): boolean {
	if (typeof value !== "boolean") throw new ShapeError(`${typeof value} for yes or no`);
	return value;
}

/** `flag`, as one digit. */
export function bit(value: unknown): boolean {
	if (value !== 0 && value !== 1) throw new ShapeError(`${typeof value} for one bit`);
	return value === 1;
}

export function text(value: unknown): string {
	if (typeof value !== "string") throw new ShapeError(`${typeof value} for text`);
	return value;
}

export function hex(value: unknown): Hex {
	if (typeof value !== "string" || !value.startsWith("0x")) throw new ShapeError(`${typeof value} for hex`);
	return value as Hex;
}

export function amount(value: unknown): bigint {
	if (typeof value !== "string" || !/^\d+$/.test(value)) throw new ShapeError(`${typeof value} for an amount`);
	return BigInt(value);
}

export function amounts(value: unknown): Readonly<Record<string, bigint>> {
	if (typeof value !== "object" || value === null || Array.isArray(value)) throw new ShapeError("no amounts by name");
	return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, amount(one)]));
}

export function texts(value: unknown): readonly string[] {
	if (!Array.isArray(value)) throw new ShapeError("no list of texts");
	return value.map(text);
}

export function oneOf<T extends string>(allowed: readonly T[], value: unknown): T {
	const found = allowed.find((one) => one === value);
	if (found === undefined) throw new ShapeError(`none of ${allowed.join(", ")}`);
	return found;
}

/** @throws RangeError */
export function checkAmount(value: bigint | undefined): void {
	if (typeof value !== "bigint" || value < 0n) throw new RangeError(`${value} is no amount`);
}

/** @throws RangeError */
export function checkWhole(value: number): void {
	if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is no whole number`);
}
