import type { Hex, PublicClient, TransactionReceipt } from "viem";
import { lookUntil } from "./rpc.ts";

/** How long a transaction is waited for. */
export type Waiting = Readonly<{
	/** In ms, for each transaction (default 180,000). */
	timeoutMs?: number;
	/** How often is looked for it, in ms (default 1,000). */
	pollMs?: number;
}>;

/** The transaction's outcome is not known yet. Running the deployment again is safe: it looks first, and sends nothing twice. */
export class DeploymentPendingError extends Error {
	override readonly name = "DeploymentPendingError";
	readonly code = "DEPLOYMENT_PENDING";
	/** Absent when it is an earlier transaction of the account that is waited for. */
	readonly hash: Hex | undefined;
	constructor(message: string, hash?: Hex) {
		super(message);
		this.hash = hash;
	}
}

/** The waiting times, with their defaults. */
export function waitingOf({ timeoutMs = 180_000, pollMs = 1_000 }: Waiting): Required<Waiting> {
	return { timeoutMs, pollMs };
}

/**
 * Waits for a transaction, or for what it was to bring about: it may be replaced by a faster one.
 *
 * @param there whether that is there now
 * @returns `undefined` when it is there by another transaction
 * @throws {DeploymentPendingError} when the time is up
 */
export async function awaitReceipt(
	client: PublicClient,
	hash: Hex,
	{ there, ...waiting }: Waiting & Readonly<{ there: () => Promise<true | undefined> }>,
): Promise<TransactionReceipt | undefined> {
	const receipt = () => client.getTransactionReceipt({ hash }).catch(() => undefined);
	// The receipt is looked for once more where only its effect was seen: it may have come in between.
	const look = async () => (await receipt()) ?? ((await there()) && ((await receipt()) ?? "replaced"));
	const found = await lookUntil(look, waitingOf(waiting));
	if (found === undefined) {
		throw new DeploymentPendingError(
			`transaction ${hash} is not mined yet; run the same command again later (nothing is sent twice), or replace it in your wallet by one with a higher fee`,
			hash,
		);
	}
	return found === "replaced" ? undefined : found;
}
