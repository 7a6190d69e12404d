import type { Address, Hex } from "viem";

/** Why a transaction was sent: a kind and whatever its owner needs to go on after a restart, all strings. */
export type TransactionPurpose = Readonly<{ kind: string } & Record<string, string>>;

/** What a transaction offers for its gas, in wei, decimal. */
export type Fees = Readonly<{ maxFeePerGas: string; maxPriorityFeePerGas: string }>;

/** A later version of a transaction, with higher fees. All versions have one nonce, so that one at most is ever mined. */
export type Bid = Fees &
	Readonly<{
		hash: Hex;
		raw: Hex;
		/** Unix milliseconds. */
		signedAt: number;
	}>;

/** The block that a transaction was found in. */
export type MinedIn = Readonly<{
	blockNumber: number;
	blockHash: Hex;
	/** Which version it was. */
	transactionHash: Hex;
	/** So deep that no reorganization is reckoned with any more. */
	final: boolean;
}>;

/**
 * A transaction of ours from before its first broadcast until its outcome is final. Kept on disk, so that a restart
 * finds it again and neither repeats nor forgets it.
 */
export type OutboxEntry = Readonly<{
	/** Hash of the first version: the entry's identity, whichever version is mined. */
	hash: Hex;
	/** The first version, signed and ready to be broadcast again. */
	raw: Hex;
	chainId: number;
	from: Address;
	nonce: number;
	purpose: TransactionPurpose;
	/** `dropped`: another transaction took its nonce, or no node ever took it, so it can never be mined. */
	state: "pending" | "confirmed" | "reverted" | "dropped";
	/** Unix milliseconds. */
	createdAt: number;
	/** Of the first version. Absent where another account signed it, and in entries of earlier releases. */
	fees?: Fees;
	/** Wei per gas, decimal: what is never bid more than for its own sake. */
	feeLimit?: string;
	/** Later versions, newest last. */
	bids?: readonly Bid[];
	/** Where it was found when it was concluded. Absent before that, and in entries of earlier releases. */
	minedIn?: MinedIn;
}>;

/** Where the sender keeps its transactions. Every write is durable when its promise resolves. */
export interface Outbox {
	put(entry: OutboxEntry): Promise<void>;
}

/** All versions of a transaction that were ever signed, newest first. Internal. */
export function versionsOf({ hash, raw, bids = [] }: OutboxEntry): readonly Readonly<{ hash: Hex; raw: Hex }>[] {
	return [...bids.toReversed(), { hash, raw }];
}

/** Whether a reorganization may still take back what was concluded of it. Internal. */
export function isUnfinal({ state, minedIn }: OutboxEntry): boolean {
	return (state === "confirmed" || state === "reverted") && minedIn?.final === false;
}
