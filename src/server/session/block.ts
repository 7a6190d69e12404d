/**
 * What is reserved for a metered request: `wanted`, as far as whole units of it are covered, and `least` in any case.
 * Base units.
 */
export function blockToReserve(
	available: bigint,
	{ unitPrice, wanted, least }: Readonly<{ unitPrice: bigint; wanted: bigint; least: bigint }>,
): bigint {
	const covered = available - (available % unitPrice);
	const amount = wanted < covered ? wanted : covered;
	return amount > least ? amount : least;
}
