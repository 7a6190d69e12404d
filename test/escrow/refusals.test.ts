import { describe, expect, it } from "vitest";
import { refusalOf } from "../../src/escrow/refusals.ts";

describe("what a node answers to a broadcast", () => {
	it.each([
		["nonce too low: next nonce 5, tx nonce 4", "nonce-taken"],
		["Transaction nonce is too low. Try incrementing the nonce.", "nonce-taken"],
		["OldNonce", "nonce-taken"],
		["replacement transaction underpriced", "underpriced"],
		["transaction underpriced: gas tip cap 0, minimum needed 1000000000", "underpriced"],
		["could not replace existing tx", "underpriced"],
		["ReplacementNotAllowed", "underpriced"],
		["FeeTooLow, MaxFeePerGas too low", "underpriced"],
		["max fee per gas less than block base fee: address 0x0, maxFeePerGas: 1, baseFee: 7", "below-base-fee"],
		["fee cap less than block base fee", "below-base-fee"],
		["insufficient funds for gas * price + value: balance 0", "no-funds"],
		["Insufficient funds for gas * price + value", "no-funds"],
		["intrinsic gas too low", "gas-limit"],
		["exceeds block gas limit", "gas-limit"],
		["already known", undefined],
		["AlreadyKnown: already known", undefined],
		["transaction already imported", undefined],
		["Known transaction", undefined],
		["unknown transaction type", undefined],
		["HTTP request failed", undefined],
	])("%j is understood", (text, refusal) => {
		expect(refusalOf(new Error(text))).toBe(refusal);
	});
});
