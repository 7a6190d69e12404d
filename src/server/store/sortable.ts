/** Wide enough for any whole number of JavaScript. */
export const DIGITS = 16;

/** A whole number as text that sorts like the number. */
export function sortable(value: number): string {
	if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is no whole number`);
	return value.toString().padStart(DIGITS, "0");
}
