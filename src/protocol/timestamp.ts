/** RFC 3339 timestamps, as `expires` and receipts carry them. */

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/;

/**
 * Reads an RFC 3339 date-time.
 *
 * @returns milliseconds since 1970-01-01T00:00:00Z, or `undefined` when the text is no such date-time (a leap second,
 * which JavaScript cannot express, also counts as none)
 * @example
 * ```ts
 * parseTimestamp("2025-01-15T12:00:00Z"); // 1736942400000
 * ```
 */
export function parseTimestamp(text: string): number | undefined {
	const upper = text.toUpperCase();
	const match = RFC3339.exec(upper);
	if (match === null) return undefined;
	// Date.parse rolls 30 February over to March; a date that does not exist is no date. The calendar repeats every 400 years,
	// and Date.UTC takes the years 0 to 99 for 1900 to 1999. Every month has 28 days at least.
	const day = Number(match[3]);
	if (day > 28 && day > new Date(Date.UTC(Number(match[1]) + 400, Number(match[2]), 0)).getUTCDate()) return undefined;
	const ms = Date.parse(upper);
	return Number.isNaN(ms) ? undefined : ms;
}

/**
 * Writes an RFC 3339 date-time in UTC, without milliseconds where there are none.
 *
 * @param ms milliseconds since 1970-01-01T00:00:00Z, from the year 0 to 9999
 * @example
 * ```ts
 * formatTimestamp(1736942400000); // "2025-01-15T12:00:00Z"
 * ```
 */
export function formatTimestamp(ms: number): string {
	if (ms !== lastMs) {
		lastText = new Date(ms).toISOString().replace(".000Z", "Z");
		lastMs = ms;
	}
	return lastText;
}

// A busy server writes many receipts in one millisecond.
let lastMs = Number.NaN;
let lastText = "";
