import { type Address, formatUnits } from "viem";
import { least } from "../least.ts";
import type { Currency, Limits, Policy } from "./schema.ts";

/** A token on a chain. */
export type TokenAt = Readonly<{ chainId: number; token: string }>;

/** What one token may be spent on at a time, in base units. */
export type Bounds = Readonly<{
	maxPrice: bigint;
	/** Of a whole answer that is paid by what it uses; `undefined`: it may cost `maxPrice`, as any request. */
	maxStream: bigint | undefined;
	maxDeposit: bigint;
	maxTotal: bigint | undefined;
	maxUnaccounted: bigint;
	approveAbove: bigint | undefined;
	limits: Limits;
}>;

/** The currency that lists a token. */
export function currencyOf({ currencies }: Policy, { chainId, token }: TokenAt): Currency | undefined {
	const its = token.toLowerCase();
	return currencies.find(({ tokens }) => tokens.some((one) => one.chainId === chainId && one.address === its));
}

/** What names the counts of a token: the symbol of its currency, else `chain id:address`. */
export function unitOf(policy: Policy, at: TokenAt): string {
	return currencyOf(policy, at)?.symbol ?? `${at.chainId}:${at.token.toLowerCase()}`;
}

/** What a token's currency says, and where that says nothing, what the policy says itself. */
export function boundsFor(policy: Policy, at: TokenAt): Bounds {
	const its: Partial<Currency> = currencyOf(policy, at) ?? {};
	const limits = its.limits ?? policy.limits ?? {};
	const maxPrice = its.maxPrice ?? policy.maxPrice;
	const maxStream = its.maxStream ?? policy.maxStream;
	const { request } = limits;
	return {
		maxPrice: request === undefined ? maxPrice : least(maxPrice, request),
		maxStream: request === undefined || maxStream === undefined ? maxStream : least(maxStream, request),
		maxDeposit: its.maxDeposit ?? policy.maxDeposit,
		maxTotal: its.maxTotal ?? policy.maxTotal,
		maxUnaccounted: its.maxUnaccounted ?? policy.maxUnaccounted,
		approveAbove: its.approveAbove ?? policy.approveAbove,
		limits,
	};
}

/** Tokens in the order of preference that a policy gives them. */
export function rankOfToken({ tokens, currencies }: Policy, { chainId, token }: TokenAt): number {
	const its = token.toLowerCase();
	const listed = currencies.flatMap((currency) => currency.tokens);
	const at = listed.findIndex((one) => one.chainId === chainId && one.address === its);
	if (at !== -1) return tokens.length + at;
	return tokens.includes(its as Address) ? tokens.indexOf(its as Address) : tokens.length + listed.length;
}

/** An amount with its unit: `4.20 USDC`, or base units where no currency lists the token. */
export function amountText(policy: Policy, at: TokenAt, amount: bigint): string {
	return `${bareAmountText(policy, unitOf(policy, at), amount)} ${unitText(policy, unitOf(policy, at))}`;
}

/** An amount of what `unitOf` names, without its unit. */
export function bareAmountText({ currencies }: Policy, unit: string, amount: bigint): string {
	const decimals = currencies.find(({ symbol }) => symbol === unit)?.decimals ?? 0;
	const [whole = "0", fraction = ""] = formatUnits(amount, decimals).split(".");
	const shown = fraction.padEnd(shownDecimals(decimals), "0");
	return shown === "" ? whole : `${whole}.${shown}`;
}

/** What `unitOf` names, for people. */
export function unitText({ currencies }: Policy, unit: string): string {
	if (currencies.some(({ symbol }) => symbol === unit)) return unit;
	const [chainId, token] = unit.split(":");
	return `base units of token ${token} on chain ${chainId}`;
}

/** Two decimals at least, as people write money, where there are as many. */
function shownDecimals(decimals: number): number {
	return decimals < 2 ? decimals : 2;
}
