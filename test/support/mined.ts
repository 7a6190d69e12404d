import { type Hex, type PublicClient, type TransactionReceipt, TransactionReceiptNotFoundError } from "viem";

/** How long a development chain may take to mine one transaction. */
const MINING_MS = 30_000;

/**
 * The receipt of a transaction once it is mined, looked for until it is there. viem's `waitForTransactionReceipt` looks with
 * each new block only, and passes a block over that comes while it still asks about the one before: where each transaction
 * has a block of its own no other follows, and it waits for ever.
 */
export async function mined(
	client: Pick<PublicClient, "getTransactionReceipt">,
	hash: Hex,
): Promise<TransactionReceipt> {
	const deadline = Date.now() + MINING_MS;
	for (;;) {
		try {
			return await client.getTransactionReceipt({ hash });
		} catch (error) {
			if (!(error instanceof TransactionReceiptNotFoundError) || Date.now() >= deadline) throw error;
		}
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
}
