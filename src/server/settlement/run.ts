import type { Address, Hex } from "viem";
import type { Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";

/** What a run did with one channel. */
export type SettlementOutcome =
	| "settled"
	| "closed"
	/** It is on its way; its outcome will be known later. */
	| "pending"
	/** Nothing is owed, or somebody else is at it. */
	| "skipped"
	| "failed"
	/** Bringing it in costs more than it is worth, by the policy. */
	| "uneconomic"
	| "would-settle"
	| "would-close";

/** `unsettled` in base units: what was owed before. */
export type SettlementRunRow = Readonly<{
	channelId: Hex;
	payer: Address;
	unsettled: bigint;
	outcome: SettlementOutcome;
	/** Why, where that is not plain. For logs and operators. */
	reason?: string;
	txHash?: Hex;
}>;

/** What a run did. */
export type SettlementRun = Readonly<{
	rows: readonly SettlementRunRow[];
	/** How many transactions were sent. */
	transactions: number;
	/** How many channels were settled or closed. */
	settled: number;
	/** How many were not. */
	skipped: number;
}>;

export type SettleChannelsOptions = Readonly<{
	/** Only says what would be done. */
	dryRun?: boolean;
	/** Whatever it costs. */
	force?: boolean;
	/** Closes them, which also gives payers the rest of their deposits. */
	close?: boolean;
	/** Is told of each channel as soon as its outcome is known. */
	progress?: (row: SettlementRunRow) => void;
}>;

/** Settles or closes these channels because somebody wants it. */
export async function settleChannels(
	_context: EngineContext,
	_channels: readonly Channel[],
	_options: SettleChannelsOptions = {},
): Promise<SettlementRun> {
	throw new Error("not written yet");
}
