import type { PublicClient } from "viem";

/** The first block that is not older than a moment, in Unix seconds of the chain; `head` where all are older. */
export async function blockAt(client: PublicClient, unixSeconds: number, head: bigint): Promise<bigint> {
	let low = 0n;
	let high = head;
	while (low < high) {
		const middle = (low + high) / 2n;
		const { timestamp } = await client.getBlock({ blockNumber: middle });
		if (timestamp < BigInt(Math.max(0, unixSeconds))) low = middle + 1n;
		else high = middle;
	}
	return low;
}
