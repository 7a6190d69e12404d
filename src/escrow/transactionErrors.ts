import type { Hex, TransactionReceipt } from "viem";
import type { OutboxEntry } from "./outbox.ts";

/** The call would revert, or was mined and reverted: nothing changed on chain (draft-evm-session-00, Transaction Outcome Checks). */
export class TransactionRevertedError extends Error {
	override readonly name = "TransactionRevertedError";
	readonly code = "TRANSACTION_REVERTED";
	/** Name of the contract's error, `unknown` when it gave none. For logs, never for the wire. */
	readonly reason: string;
	/** Of the version that was mined; absent when the simulation reverted and nothing was sent. */
	readonly hash: Hex | undefined;
	readonly receipt: TransactionReceipt | undefined;
	constructor(reason: string, mined?: TransactionReceipt | Hex, cause?: unknown) {
		const hash = typeof mined === "object" ? mined.transactionHash : mined;
		super(hash ? `transaction ${hash} reverted` : `the call would revert: ${reason}`, { cause });
		this.reason = reason;
		this.hash = hash;
		this.receipt = typeof mined === "object" ? mined : undefined;
	}
}

/** The transaction's outcome is unknown yet: it is in the outbox and is followed there. Ask again later. */
export class TransactionPendingError extends Error {
	override readonly name = "TransactionPendingError";
	readonly code = "TRANSACTION_PENDING";
	readonly hash: Hex;
	constructor(hash: Hex) {
		super(`transaction ${hash} is not mined, or not deep enough, yet`);
		this.hash = hash;
	}
}

/** The transaction can't be had: refused by the node, or its nonce was taken by another one. */
export class TransactionNotSentError extends Error {
	override readonly name = "TransactionNotSentError";
	readonly code = "TRANSACTION_NOT_SENT";
	readonly #entry: OutboxEntry;
	constructor(message: string, entry: OutboxEntry) {
		super(message);
		this.#entry = entry;
	}

	/** Its record, which nobody has marked as dropped yet. No printing of the error shows it: it can be sent by whoever has it. */
	get entry(): OutboxEntry {
		return this.#entry;
	}
}

/** The account that sends can't pay for the gas: nothing was signed, and nothing is wrong with the call. Fund the account. */
export class NoFundsError extends Error {
	override readonly name = "NoFundsError";
	readonly code = "NO_FUNDS";
	/** Wei: what it has, and what the transaction may cost at most. */
	readonly balance: bigint;
	readonly needed: bigint;
	constructor(address: string, balance: bigint, needed: bigint) {
		super(`account ${address} has ${balance} wei, and the transaction may cost ${needed}: fund it`);
		this.balance = balance;
		this.needed = needed;
	}
}

/** Gas costs more than may be bid: nothing was signed. Send it when gas is cheaper, or raise the limit. */
export class FeesTooHighError extends Error {
	override readonly name = "FeesTooHighError";
	readonly code = "FEES_TOO_HIGH";
	/** Wei per gas, as of the latest block. */
	readonly baseFeePerGas: bigint;
	/** Wei per gas. */
	readonly limit: bigint;
	constructor(baseFeePerGas: bigint, limit: bigint) {
		super(`gas costs ${baseFeePerGas} wei, and no more than ${limit} may be bid: wait until it is cheaper`);
		this.baseFeePerGas = baseFeePerGas;
		this.limit = limit;
	}
}
