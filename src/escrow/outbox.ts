import type { Address, Hex } from "viem";

/** Why a transaction was sent: a kind and whatever its owner needs to go on after a restart, all strings. */
export type TransactionPurpose = Readonly<{ kind: string } & Record<string, string>>;

/**
 * A transaction of ours from before its first broadcast until its outcome is known. Kept on disk, so that a restart
 * finds it again and neither repeats nor forgets it.
 */
export type OutboxEntry = Readonly<{
	/** Hash of the signed transaction: its identity. */
	hash: Hex;
	/** The signed transaction, ready to be broadcast again. */
	raw: Hex;
	chainId: number;
	from: Address;
	nonce: number;
	purpose: TransactionPurpose;
	/** `dropped`: another transaction took its nonce, so it can never be mined. */
	state: "pending" | "confirmed" | "reverted" | "dropped";
	/** Unix milliseconds. */
	createdAt: number;
}>;

/** Where the sender keeps its transactions. Every write is durable when its promise resolves. */
export interface Outbox {
	put(entry: OutboxEntry): Promise<void>;
}
