/** Reads what people type on a command line, for `argParser`. */
import { InvalidArgumentError } from "commander";
import type { Address, Hex } from "viem";

export function parseAddress(text: string): Address {
	if (/^0x[0-9a-fA-F]{40}$/.test(text)) return text.toLowerCase() as Address;
	throw new InvalidArgumentError("an address is 0x and 40 hex digits.");
}

export function parseChannelId(text: string): Hex {
	if (/^0x[0-9a-fA-F]{64}$/.test(text)) return text.toLowerCase() as Hex;
	throw new InvalidArgumentError(
		"a channel id is 0x and 64 hex digits; `sluice channels list --json` shows them whole.",
	);
}

export function parseChainId(text: string): number {
	return parseWhole(text, "a chain id is a whole number from 1.");
}

export function parseSeconds(text: string): number {
	return parseWhole(text, "a whole number of seconds from 1, please.");
}

export function parseCount(text: string): number {
	return parseWhole(text, "a whole number from 1, please.");
}

/** Base units. */
export function parseAmount(text: string): bigint {
	if (/^\d{1,78}$/.test(text)) return BigInt(text);
	throw new InvalidArgumentError("an amount is a whole number of the token's base units.");
}

/** Collects the URLs of a chain's RPC; in a variable they stand with spaces in between. Checked later: messages repeat what is refused here. */
export function collectUrls(text: string, before: readonly string[] = []): readonly string[] {
	return [...before, ...text.split(/\s+/).filter((url) => url !== "")];
}

export function isRpcUrl(text: string): boolean {
	return URL.canParse(text) && /^(https?|wss?):$/.test(new URL(text).protocol);
}

function parseWhole(text: string, hint: string): number {
	const value = Number(text);
	if (/^\d{1,15}$/.test(text) && value >= 1) return value;
	throw new InvalidArgumentError(hint);
}
