/** The wallet's policy, as one command narrows it. It never allows more than the policy does. */
import type { PaymentPolicy } from "../../client/policy.ts";
import { amountFrom } from "../shared/amounts.ts";
import { UsageError } from "../shared/exit.ts";

/**
 * The policy with a lower limit for one request, its whole answer included.
 *
 * @param text - in the units of each currency; in base units of tokens that no currency lists
 * @throws UsageError when that is no amount
 */
export function withMaxPrice(policy: PaymentPolicy, text: string): PaymentPolicy {
	const requestLimit = (decimals: number, limits: PaymentPolicy["limits"]): PaymentPolicy["limits"] => {
		const amount = amountOf(text, decimals);
		return { ...limits, request: limits?.request !== undefined && limits.request < amount ? limits.request : amount };
	};
	const { currencies, tokens, limits } = policy;
	return {
		...policy,
		...(tokens !== undefined && { limits: requestLimit(0, limits) }),
		...(currencies !== undefined && {
			currencies: currencies.map((its) => ({ ...its, limits: requestLimit(its.decimals, its.limits ?? limits) })),
		}),
	};
}

/** The policy by which everything is asked for that costs something. */
export function askingForAll(policy: PaymentPolicy): PaymentPolicy {
	const { currencies } = policy;
	return {
		...policy,
		approveAbove: 0n,
		...(currencies !== undefined && { currencies: currencies.map((its) => ({ ...its, approveAbove: 0n })) }),
	};
}

function amountOf(text: string, decimals: number): bigint {
	const amount = amountFrom(text, decimals);
	if (amount !== undefined && amount > 0n) return amount;
	throw new UsageError(
		decimals === 0
			? "--max-price is a whole number of base units above 0: not every token of the policy is listed by a currency"
			: `--max-price is a number above 0 with at most ${decimals} decimals, such as 0.05; --dry-run pays nothing at all`,
	);
}
