/** Records for the tests of the shared wallet. */
import type { Hex } from "viem";
import type { ChannelRecord, ReceiptRecord } from "../../../src/client/store/store.ts";

export const KEY = "api.example.com one payee";

export function idOf(number: number): Hex {
	return `0x${number.toString(16).padStart(64, "0")}`;
}

/** An open channel with a deposit of 1,000. */
export function recordOf(number: number, signed = 0n, key = KEY): ChannelRecord {
	const channelId = idOf(number);
	const address = (digit: string): Hex => `0x${digit.repeat(40)}`;
	return {
		key,
		status: "open",
		state: {
			channelId,
			chainId: 31_337,
			escrow: address("1"),
			payer: address("2"),
			payee: address("3"),
			token: address("4"),
			authorizedSigner: address("5"),
			deposit: "1000",
			signed: String(signed),
			consumed: "0",
			uncertain: "0",
			resource: { url: "https://api.example.com/", method: "GET" },
		},
		sessionKey: `0x${"ab".repeat(32)}`,
		createdAtMs: 1_700_000_000_000,
	};
}

export function receiptOf(number: number): ReceiptRecord {
	return {
		kind: "charge",
		atMs: number,
		url: "https://api.example.com/",
		method: "GET",
		amount: "100",
		chainId: 31_337,
		token: `0x${"4".repeat(40)}`,
		payee: `0x${"3".repeat(40)}`,
		challenge: { id: "1", realm: "r", method: "evm", intent: "charge", request: "e30" },
		receipt: { number, text: "x".repeat(2_000) },
	};
}
