import { bareAmountText } from "./currency.ts";
import type { Policy } from "./schema.ts";

/**
 * What a policy allows, as plain data for people and programs: amounts of currencies in their units, others in base units, all
 * as decimal strings. With what it says by default.
 */
export function describePolicy(policy: Policy): Readonly<Record<string, unknown>> {
	const {
		currencies,
		tokens,
		maxPrice,
		maxStream,
		maxDeposit,
		maxTotal,
		maxUnaccounted,
		limits,
		approveAbove,
		...rest
	} = policy;
	const others = { tokens, maxPrice, maxStream, maxDeposit, maxTotal, maxUnaccounted, limits, approveAbove };
	return {
		...rest,
		currencies: currencies.map((currency) => {
			const { symbol, decimals, tokens: its, ...amounts } = currency;
			return { symbol, decimals, tokens: its, ...textsOf(amounts, (amount) => bareAmountText(policy, symbol, amount)) };
		}),
		...(tokens.length > 0 && textsOf(others, String)),
	};
}

/** The same with each amount as a text; what is not said is left out. */
function textsOf(value: object, text: (amount: bigint) => string): object {
	return Object.fromEntries(
		Object.entries(value).flatMap(([name, its]) => {
			if (its === undefined) return [];
			if (typeof its === "bigint") return [[name, text(its)]];
			if (typeof its !== "object" || Array.isArray(its)) return [[name, its]];
			return [[name, textsOf(its, text)]];
		}),
	);
}
