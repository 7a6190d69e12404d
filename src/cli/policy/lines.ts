/** A policy as names and values, one a line. */
export function policyLines(description: Readonly<Record<string, unknown>>): readonly (readonly [string, string])[] {
	const { currencies, ...rest } = description;
	return [
		...linesOf("", rest),
		...(currencies as readonly { symbol: string }[]).flatMap(({ symbol, ...its }) => linesOf(`${symbol} `, its)),
	];
}

function linesOf(prefix: string, value: object): readonly (readonly [string, string])[] {
	return Object.entries(value).flatMap(([name, its]): (readonly [string, string])[] => {
		if (its === undefined || its === null) return [];
		if (Array.isArray(its)) return [[`${prefix}${name}`, its.length === 0 ? "none" : its.map(wordOf).join(", ")]];
		if (typeof its === "object") return [...linesOf(`${prefix}${name}.`, its)];
		return [[`${prefix}${name}`, String(its)]];
	});
}

function wordOf(value: unknown): string {
	if (typeof value !== "object" || value === null) return String(value);
	const { address, chainId } = value as { address: string; chainId: number };
	return `${address} on chain ${chainId}`;
}
