import type { StreamEvent, StreamSettings } from "./options.ts";

/** A piece of an answer: a chunk, or a block of an event stream, which is an event or not (a comment, for example). */
export type CountedPiece = Readonly<{ bytes: Uint8Array; event: StreamEvent | undefined; isEvent: boolean }>;

/**
 * How the payer counts what it gets: as it is told to, else the bytes or the seconds where the server sells those
 * (`unitType`), else one unit for each event or chunk.
 */
export function unitCounter(
	unitType: string | undefined,
	isEventStream: boolean,
	{ unitsOf, unitsOfChunk }: StreamSettings,
	now: () => number,
): (piece: CountedPiece) => bigint {
	if (isEventStream && unitsOf !== undefined)
		return ({ event, isEvent }) => {
			if (!isEvent) return 0n;
			return event === undefined ? 1n : wholeUnits(unitsOf(event));
		};
	if (!isEventStream && unitsOfChunk !== undefined) return ({ bytes }) => wholeUnits(unitsOfChunk(bytes));
	const sold = unitType?.toLowerCase().replace(/s$/, "");
	if (sold === "byte") return ({ bytes }) => BigInt(bytes.length);
	if (sold === "second") {
		const startedAt = now();
		let counted = 0n;
		return () => {
			const begun = BigInt(Math.max(0, Math.floor((now() - startedAt) / 1_000)) + 1);
			const more = begun - counted;
			if (more <= 0n) return 0n;
			counted = begun;
			return more;
		};
	}
	return ({ isEvent }) => (isEvent || !isEventStream ? 1n : 0n);
}

function wholeUnits(units: number): bigint {
	if (Number.isSafeInteger(units) && units >= 0) return BigInt(units);
	throw new RangeError(`a piece of a stream can't be worth ${units} units: give a whole number from 0 on`);
}
