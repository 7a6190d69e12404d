/** The least of some amounts. */
export function least(...amounts: readonly [bigint, ...bigint[]]): bigint {
	return amounts.reduce((a, b) => (a < b ? a : b));
}
