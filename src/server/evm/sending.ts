/** How transactions of one chain are sent, and what follows from each kind. */
import type { OutboxEntry } from "../../escrow/outbox.ts";
import { TransactionSender } from "../../escrow/sender.ts";
import { chargeConclusions } from "../charge/conclusions.ts";
import { chargeKey } from "../charge/order.ts";
import type { EngineContext, EngineLog, Limits } from "../context.ts";
import type { EngineOptions, TokenSettings } from "../options.ts";
import { closeConclusions, closeKey } from "../session/close.ts";
import { openConclusions, openKey } from "../session/credit.ts";
import { topUpConclusions, topUpKey } from "../session/topUpCredit.ts";
import { retireConclusions, retireKey, settleConclusions, settleKey } from "../settlement/conclusions.ts";
import { type Conclusions, recordEntry, Transactions } from "../transactions.ts";

type SendingOptions = Pick<EngineOptions, "account" | "relayer" | "store" | "now" | "receiptPollMs">;

/**
 * Sends what has to be sent on one chain, and concludes it.
 *
 * @param contextOf where a recorded transaction belongs; `undefined` for one that nothing is known of here
 */
export function transactionsOn(
	{ account, relayer, store, now, receiptPollMs }: SendingOptions,
	{ transactionTimeoutMs, confirmations, maxTransactionGas, finalityBlocks, stuckAfterMs, maxFeePerGas }: Limits,
	{ client, chainId }: Pick<TokenSettings, "client" | "chainId">,
	contextOf: (purpose: OutboxEntry["purpose"]) => EngineContext | undefined,
	log: EngineLog,
): Transactions {
	const sender = new TransactionSender({
		client,
		account: relayer ?? account,
		chainId,
		outbox: { put: (entry) => recordEntry(store, entry) },
		timeoutMs: transactionTimeoutMs,
		confirmations,
		maxGas: maxTransactionGas,
		finality: finalityBlocks,
		stuckAfterMs,
		...(maxFeePerGas !== undefined && { maxFeePerGas }),
		...(now && { now }),
		...(receiptPollMs !== undefined && { pollMs: receiptPollMs }),
	});
	const conclusions = (purpose: OutboxEntry["purpose"]) => {
		const context = contextOf(purpose);
		return context === undefined ? leftPending(log) : conclusionsOf(context, purpose);
	};
	return new Transactions(sender, conclusions, keyOf, log);
}

/**
 * Of a transaction in a token, or on an escrow, that is not used any more: it is sent and bid for, because others wait behind
 * its nonce, and stays in the outbox for whoever knows what follows from it.
 */
function leftPending(log: EngineLog): Conclusions {
	const leave = (outcome: string) => async (entry: OutboxEntry) => {
		const values = { txHash: entry.hash, transaction: entry.purpose.kind, outcome };
		log.warn(values, "a transaction that nothing here can conclude has ended; `sluice rescue` takes it up");
	};
	return { succeeded: leave("confirmed"), failed: (entry, outcome) => leave(outcome)(entry) };
}

function conclusionsOf(context: EngineContext, { kind }: OutboxEntry["purpose"]): Conclusions {
	switch (kind) {
		case "open":
			return openConclusions(context);
		case "topUp":
			return topUpConclusions(context);
		case "close":
			return closeConclusions(context);
		case "charge":
			return chargeConclusions(context);
		case "settle":
			return settleConclusions(context);
		case "retire":
			return retireConclusions(context);
		default:
			throw new Error(`the outbox holds a transaction of unknown kind ${kind}`);
	}
}

function keyOf(purpose: OutboxEntry["purpose"]): string {
	switch (purpose.kind) {
		case "open":
			return openKey(purpose);
		case "topUp":
			return topUpKey(purpose);
		case "close":
			return closeKey(purpose);
		case "settle":
			return settleKey(purpose);
		case "retire":
			return retireKey(purpose);
		default:
			return chargeKey(purpose.proof);
	}
}
