/** What a node's answer to a broadcast means. Nodes have no codes for it, only texts. */
import { BaseError } from "viem";

export type Refusal =
	/** The nonce is behind the account's count: a version of this transaction, or another one, has it. */
	| "nonce-taken"
	/** Something with this nonce is in the pool and bids as much, or the pool is full of what bids more. */
	| "underpriced"
	/** It bids less than the base fee. */
	| "below-base-fee"
	/** The account can't pay for the gas. */
	| "no-funds"
	/** Its gas limit is too low or too high for any block. */
	| "gas-limit";

const TEXTS: readonly (readonly [Refusal, RegExp])[] = [
	["nonce-taken", /nonce too low|nonce is too low|lower than the current nonce|OldNonce/i],
	["below-base-fee", /max fee per gas less than|fee cap less than block base fee|fee cap cannot be lower/i],
	[
		"underpriced",
		/underpriced|could not replace existing|too low to replace|ReplacementNotAllowed|FeeTooLow|fee too low/i,
	],
	["no-funds", /insufficient funds/i],
	["gas-limit", /intrinsic gas|exceeds (?:block )?gas limit|gas limit (?:exceeded|too high)/i],
];

/** Why a node did not take a transaction; `undefined` when it has it already, or when that is not certain. */
export function refusalOf(error: unknown): Refusal | undefined {
	const text = error instanceof BaseError ? `${error.shortMessage} ${error.details}` : String(error);
	if (/already known|already imported|\bknown transaction/i.test(text)) return undefined;
	return TEXTS.find(([, pattern]) => pattern.test(text))?.[0];
}

/** Why a first version can never be mined; `undefined` for what may change or may not hold for another node. */
export function finalRefusal(refusal: Refusal | undefined): string | undefined {
	switch (refusal) {
		case "nonce-taken":
			return "another transaction took its nonce";
		case "no-funds":
			return "insufficient funds for gas; fund the account that sends transactions";
		case "below-base-fee":
			return "it bids less than the base fee; send it again";
		case "gas-limit":
			return "its gas limit fits no block";
		default:
			return undefined;
	}
}
