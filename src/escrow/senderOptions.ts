import type { Address, Hex, LocalAccount, PublicClient } from "viem";
import type { Call } from "./calls.ts";
import type { Outbox, OutboxEntry, TransactionPurpose } from "./outbox.ts";

export type SenderOptions = Readonly<{
	client: PublicClient;
	/** Signs and pays the gas. */
	account: LocalAccount;
	chainId: number;
	outbox: Outbox;
	/** Unix milliseconds. */
	now?: () => number;
	/** How often a receipt is looked for, in ms. */
	pollMs?: number;
	/** How long `wait` looks for a receipt before it gives up waiting (the transaction goes on). */
	timeoutMs?: number;
	/** How many blocks deep a transaction has to lie before `wait` says how it ended; its own block counts. Default 1. */
	confirmations?: number;
	/** How deep it has to lie until no reorganization is reckoned with any more, in blocks, counted likewise. Default 64. */
	finality?: number;
	/**
	 * How long a transaction may be passed over by blocks before more is bid for it, in ms; `Infinity`: never more than at
	 * first. Default 30,000.
	 */
	stuckAfterMs?: number;
	/** The most that is ever bid, in wei per gas. Default: any. */
	maxFeePerGas?: bigint;
	/**
	 * The most gas that a call may need; one that needs more is not sent. Default: any. Code of others runs in our transactions
	 * (a contract wallet's `isValidSignature`), and the gas is ours.
	 */
	maxGas?: number;
}>;

export type SendRequest = Call &
	Readonly<{
		purpose: TransactionPurpose;
		/**
		 * The most that is bid for it, in wei per gas: when gas costs more it waits. It is exceeded only for the sake of a later
		 * transaction of the account that may cost more and can't be mined before this one. Default: any.
		 */
		feeLimit?: bigint;
		/** The gas that `feeLimit` was reckoned with. A call that needs more may bid less in proportion. Default: whatever it needs. */
		plannedGas?: bigint;
		/**
		 * Whether nothing is signed, nor shown to a node, while the account can't pay for the gas. Default: the node says so once
		 * it has been given the transaction.
		 */
		checkFunds?: boolean;
		/** Is called once, and waited for, before anything is signed: what it throws keeps it from being signed. */
		onSigning?: () => Promise<void>;
		/** Writes the entry durably, together with what else has to be on disk with it. Default: the outbox alone. */
		record?: (entry: OutboxEntry) => Promise<void>;
	}>;

/** A transaction that another account has signed, to be sent for it. `record` as in {@link SendRequest}. */
export type SignedRequest = Pick<SendRequest, "purpose" | "record"> &
	Readonly<{ signed: Readonly<{ raw: Hex; from: Address; nonce: number }> }>;

export type WaitOptions = Readonly<{
	/** Told of the record with each new bid, or a raised limit, in it: after that is on disk and before a bid is broadcast. */
	onBid?: (entry: OutboxEntry) => void;
	/** Ends the wait soon, with a TransactionPendingError. */
	signal?: AbortSignal;
}>;
