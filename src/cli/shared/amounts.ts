import { parseUnits } from "viem";

/**
 * An amount that was typed in the units of a token: `0.05`, exactly.
 *
 * @param decimals - those of the token's currency; 0: the amount is one of base units
 * @returns base units; `undefined` where the text is no amount, or has more decimals
 */
export function amountFrom(text: string, decimals: number): bigint | undefined {
	const [, fraction = ""] = text.split(".");
	const isAmount = /^\d{1,60}(\.\d{1,36})?$/.test(text) && fraction.length <= decimals;
	return isAmount ? parseUnits(text, decimals) : undefined;
}
