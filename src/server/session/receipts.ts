import type { Hex, TransactionReceipt } from "viem";
import { awaitReceipt } from "../../escrow/confirmations.ts";
import { problem } from "../../protocol/index.ts";
import { type Refused, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";

/** How long a request waits for a transaction that only the client has seen. */
const HASH_WAIT_MS = 10_000;

/** When to ask again for a transaction that is not there, or not deep enough. */
const PENDING_RETRY_SECONDS = 5;

const LONGEST_POLL_MS = 1_000;

/**
 * The receipt of a transaction that the client names (draft-evm-session-00, Transaction Outcome Checks): a revert is
 * refused at once, a success counts once it is as deep as `limits.confirmations`, and the wait for both is bounded.
 */
export async function clientReceipt(
	{ client, limits }: EngineContext,
	channelId: Hex,
	hash: Hex,
): Promise<TransactionReceipt | Refused> {
	const deadline = Date.now() + Math.min(limits.transactionTimeoutMs, HASH_WAIT_MS);
	const pollMs = Math.min(client.pollingInterval, LONGEST_POLL_MS);
	const look = (confirmations: number) =>
		awaitReceipt(client, hash, { confirmations, pollMs, timeoutMs: Math.max(0, deadline - Date.now()) });
	let receipt = await look(1);
	if (receipt?.status === "success" && limits.confirmations > 1) receipt = await look(limits.confirmations);
	if (receipt === undefined) {
		const detail = "The transaction is not mined, or not deep enough, yet; send the same request again.";
		return refused(problem("service-unavailable", detail, { channelId, hash }), PENDING_RETRY_SECONDS);
	}
	if (receipt.status === "success") return receipt;
	const detail = "The transaction reverted: nothing changed on chain.";
	return refused(problem("session/transaction-reverted", detail, { channelId, hash }));
}
