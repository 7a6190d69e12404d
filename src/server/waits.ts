import type { PublicClient } from "viem";

/** The longest that a request waits for a transaction that its client has sent, in ms. */
const LONGEST_WAIT_MS = 10_000;

/** How many requests wait at a time for transactions on one chain: each asks the node again and again. */
const MAX_WAITING = 64;

const waiting = new WeakMap<PublicClient, number>();

/**
 * Runs `work` with the time that it may wait for a client's transaction, in ms: none where too many wait already, so that
 * it looks once and tells its client to come back. Anyone can make up a hash.
 */
export async function withinWaits<T>(
	client: PublicClient,
	{ transactionTimeoutMs }: Readonly<{ transactionTimeoutMs: number }>,
	work: (timeoutMs: number) => Promise<T>,
): Promise<T> {
	const before = waiting.get(client) ?? 0;
	if (before >= MAX_WAITING) return work(0);
	waiting.set(client, before + 1);
	try {
		return await work(Math.min(transactionTimeoutMs, LONGEST_WAIT_MS));
	} finally {
		waiting.set(client, (waiting.get(client) ?? 1) - 1);
	}
}
