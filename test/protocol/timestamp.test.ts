import fc from "fast-check";
import { expect, test } from "vitest";
import { formatTimestamp, parseTimestamp } from "../../src/protocol/index.ts";

test("a timestamp survives a round trip to the millisecond", () => {
	fc.assert(
		fc.property(
			fc.date({ min: new Date(0), max: new Date("9999-12-31T23:59:59.999Z"), noInvalidDate: true }),
			(date) => {
				expect(parseTimestamp(formatTimestamp(date.getTime()))).toBe(date.getTime());
			},
		),
	);
});

test("whole seconds are written without a fraction", () => {
	expect(formatTimestamp(1_736_942_400_000)).toBe("2025-01-15T12:00:00Z");
});

test.each([
	["2025-01-15T12:00:00Z", 1_736_942_400_000],
	["2025-01-15t12:00:00z", 1_736_942_400_000],
	["2025-01-15T12:00:00.5Z", 1_736_942_400_500],
	["2025-01-15T12:00:00.123456Z", 1_736_942_400_123],
	["2025-01-15T13:30:00+01:30", 1_736_942_400_000],
	["2024-02-29T00:00:00Z", 1_709_164_800_000],
])("%s is read", (text, ms) => {
	expect(parseTimestamp(text)).toBe(ms);
});

test.each([
	"",
	"2025-01-15",
	"2025-01-15T12:00Z",
	"2025-01-15T12:00:00",
	"2025-01-15 12:00:00Z",
	"2025-02-30T00:00:00Z",
	"2023-02-29T00:00:00Z",
	"2025-13-01T00:00:00Z",
	"2025-00-01T00:00:00Z",
	"2025-01-00T00:00:00Z",
	"2025-01-15T24:00:00Z",
	"2025-01-15T12:00:60Z",
	"2025-01-15T12:00:00+0100",
	"2025-01-15T12:00:00+99:00",
	" 2025-01-15T12:00:00Z",
	"2025-01-15T12:00:00Z\n",
	"Wed, 15 Jan 2025 12:00:00 GMT",
	"1736942400000",
])("%j is no timestamp", (text) => {
	expect(parseTimestamp(text)).toBeUndefined();
});
