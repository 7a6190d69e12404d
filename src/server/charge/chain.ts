import {
	type Hex,
	type PublicClient,
	TransactionNotFoundError,
	type TransactionReceipt,
	TransactionReceiptNotFoundError,
} from "viem";

/** Whether the node has heard of a transaction: in a block, or in its pool. */
export async function isKnown(client: PublicClient, hash: Hex): Promise<boolean> {
	try {
		await client.getTransaction({ hash });
		return true;
	} catch (error) {
		if (error instanceof TransactionNotFoundError) return false;
		throw error;
	}
}

/** The receipt of a transaction; `undefined` when it is in no block. */
export async function readReceipt(client: PublicClient, hash: Hex): Promise<TransactionReceipt | undefined> {
	try {
		return await client.getTransactionReceipt({ hash });
	} catch (error) {
		if (error instanceof TransactionReceiptNotFoundError) return undefined;
		throw error;
	}
}
