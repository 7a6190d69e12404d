import type { PublicClient, TransactionReceipt } from "viem";

/** How much a chain's clock may be behind ours before what was mined just now looks old. */
const CLOCK_MARGIN_MS = 60_000;

/** Whether a transaction was mined before `time` (Unix milliseconds), however the clocks differ. */
export async function isMinedBefore(
	client: PublicClient,
	{ blockHash }: Pick<TransactionReceipt, "blockHash">,
	time: number,
): Promise<boolean> {
	const { timestamp } = await client.getBlock({ blockHash });
	return Number(timestamp) * 1_000 + CLOCK_MARGIN_MS < time;
}
