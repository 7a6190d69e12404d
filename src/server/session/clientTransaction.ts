import type { Hex, PublicClient, TransactionReceipt } from "viem";
import { awaitReceipt } from "../../escrow/confirmations.ts";
import { problem } from "../../protocol/index.ts";
import { type Refused, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import { withinWaits } from "../waits.ts";

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
	const receipt = await withinWaits(client, limits, (timeoutMs) =>
		lookFor(client, hash, limits.confirmations, timeoutMs),
	);
	if (receipt === undefined) {
		const detail = "The transaction is not mined, or not deep enough, yet; send the same request again.";
		return refused(problem("service-unavailable", detail, { channelId, hash }), PENDING_RETRY_SECONDS);
	}
	if (receipt.status === "success") return receipt;
	const detail = "The transaction reverted: nothing changed on chain.";
	return refused(problem("session/transaction-reverted", detail, { channelId, hash }));
}

/** A revert is final enough: whoever sent it can send another one. */
async function lookFor(
	client: PublicClient,
	hash: Hex,
	confirmations: number,
	timeoutMs: number,
): Promise<TransactionReceipt | undefined> {
	const deadline = Date.now() + timeoutMs;
	const pollMs = Math.min(client.pollingInterval, LONGEST_POLL_MS);
	const look = (depth: number) =>
		awaitReceipt(client, hash, { confirmations: depth, pollMs, timeoutMs: Math.max(0, deadline - Date.now()) });
	const receipt = await look(1);
	return receipt?.status === "success" && confirmations > 1 ? look(confirmations) : receipt;
}
