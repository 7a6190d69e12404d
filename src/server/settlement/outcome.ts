/** What became of the channels of a settlement, for runs, operators and the log. */
import type { Address, Hex, TransactionReceipt } from "viem";
import { findEscrowEvents } from "../../escrow/escrowEvents.ts";
import {
	FeesTooHighError,
	NoFundsError,
	TransactionNotSentError,
	TransactionPendingError,
	TransactionRevertedError,
} from "../../escrow/sender.ts";
import { unsettled } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { describeError } from "../describeError.ts";
import { PayeeNoncesUsedError } from "./relay.ts";
import type { Target } from "./targets.ts";

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

/**
 * What went wrong with a row: itself, the transaction that it was in, what gas costs, a nonce or a node that did not take the
 * transaction, only the way to the chain, or the account that pays.
 */
export type Fault = "row" | "transaction" | "fees" | "unsent" | "node" | "account";

/** A row with what went wrong, for whoever tries it again. `burntWei`: what its gas has cost for nothing. */
export type Result = Readonly<{ row: SettlementRunRow; target: Target; fault?: Fault; burntWei?: bigint }>;

/** A row for an operator. */
export function rowOf(
	{ channel }: Target,
	outcome: SettlementOutcome,
	more: Readonly<{ reason?: string | undefined; txHash?: Hex | undefined }> = {},
): SettlementRunRow {
	const { channelId, payer } = channel;
	const { reason, txHash } = more;
	return {
		channelId,
		payer,
		unsettled: unsettled(channel),
		outcome,
		...(reason !== undefined && { reason }),
		...(txHash !== undefined && { txHash }),
	};
}

export function skipped(target: Target, reason: string): Result {
	return { target, row: rowOf(target, "skipped", { reason }) };
}

/** What the escrow says became of each. */
export function minedResults(
	{ terms }: Pick<EngineContext, "terms">,
	targets: readonly Target[],
	receipt: TransactionReceipt,
): readonly Result[] {
	const events = findEscrowEvents(receipt, terms.escrow);
	const txHash = receipt.transactionHash;
	const burntWei = costInWei(receipt) / BigInt(Math.max(1, targets.length));
	return targets.map((target): Result => {
		const own = events.filter(({ channelId }) => channelId === target.channel.channelId);
		const left = own.find(({ name }) => name === "SettlementSkipped");
		const reason = left?.name === "SettlementSkipped" ? left.reason : undefined;
		if (own.some(({ name }) => name === "ChannelClosed")) return { target, row: rowOf(target, "closed", { txHash }) };
		if (own.some(({ name }) => name === "Settled")) {
			// Where a close was asked for, its refund was refused: the money is here all the same.
			return { target, row: rowOf(target, "settled", { reason, txHash }), ...(left && { fault: "row" }) };
		}
		return { target, row: rowOf(target, "failed", { reason: reason ?? "unknown", txHash }), fault: "row", burntWei };
	});
}

/**
 * What an error says of all channels of a transaction.
 *
 * @param isUnderWay whether it is in the outbox and its outcome is unknown
 */
export function failedResults(
	targets: readonly Target[],
	error: unknown,
	{ isUnderWay = false } = {},
): readonly Result[] {
	const all = (outcome: SettlementOutcome, more: Parameters<typeof rowOf>[2], fault?: Fault, burntWei?: bigint) =>
		targets.map(
			(target): Result => ({
				target,
				row: rowOf(target, outcome, more),
				...(fault && { fault }),
				...(burntWei !== undefined && { burntWei }),
			}),
		);
	if (error instanceof TransactionPendingError) return all("pending", { txHash: error.hash });
	if (isUnderWay) return all("pending", { reason: describeError(error) });
	if (error instanceof FeesTooHighError) return all("uneconomic", { reason: error.message }, "fees");
	if (error instanceof NoFundsError) return all("failed", { reason: error.message }, "account");
	if (error instanceof PayeeNoncesUsedError) return all("failed", { reason: error.message }, "row");
	if (error instanceof TransactionRevertedError) {
		const { reason, hash: txHash, receipt } = error;
		const burntWei = receipt && costInWei(receipt) / BigInt(Math.max(1, targets.length));
		return all("failed", { reason, txHash }, targets.length === 1 ? "row" : "transaction", burntWei);
	}
	if (error instanceof TransactionNotSentError) return all("failed", { reason: error.message }, "unsent");
	return all("failed", { reason: describeError(error) }, "node");
}

function costInWei({ gasUsed, effectiveGasPrice }: TransactionReceipt): bigint {
	return gasUsed * effectiveGasPrice;
}

/**
 * Tells the application of channels whose transaction did not even begin, and looks at what the chain says of them: they
 * may have been closed past this server. Of all others the conclusions tell.
 */
export async function noteUnsent(context: EngineContext, results: readonly Result[], error: unknown): Promise<void> {
	const { listeners, chainState, log } = context;
	// Nothing is wrong with these channels; the account's owner is told by whoever sends.
	if (error instanceof NoFundsError) return;
	const isRefused = error instanceof TransactionRevertedError && error.hash === undefined;
	const reason = isRefused ? error.reason : describeError(error);
	log.warn({ channels: results.length, reason }, "a settlement or close could not be sent");
	if (!isRefused && !(error instanceof PayeeNoncesUsedError)) return;
	for (const { row } of results) {
		const { channelId, payer } = row;
		listeners.tell("onSettlementFailed", { channelId, payer, unsettled: row.unsettled, reason });
	}
	await chainState.observe(results.map(({ row }) => row.channelId)).catch(() => undefined); // Whoever watches it will.
}
