/** What the chain has on record since a scenario began. */
import type { Address, Hex, PublicClient } from "viem";
import { type EscrowEvent, readEscrowEvents } from "../../escrow/escrowEvents.ts";

/** What to look at: the escrow's events and the chain's transactions from a block on. */
export type ChainRecords = Readonly<{
	/** The escrow's events about one channel, in order. */
	eventsOf(channelId: Hex): Promise<readonly EscrowEvent[]>;
	/** Transactions that were sent to `address`, counted in the chain's blocks, from `fromBlock` on (default: the set-up's end). */
	transactionsTo(address: Address, fromBlock?: bigint): Promise<number>;
	/** Unix seconds of a block. */
	timestamp(blockNumber: bigint): Promise<number>;
	/** Number of the latest block. */
	head(): Promise<bigint>;
}>;

export function chainRecords(client: PublicClient, escrow: Address, firstBlock: bigint): ChainRecords {
	const head = () => client.getBlockNumber({ cacheTime: 0 });
	return {
		head,
		async eventsOf(channelId) {
			const events = await readEscrowEvents(client, escrow, { fromBlock: firstBlock, toBlock: await head() });
			return events.filter((event) => event.channelId === channelId);
		},
		async transactionsTo(address, fromBlock = firstBlock) {
			const lastBlock = await head();
			let count = 0;
			for (let blockNumber = fromBlock; blockNumber <= lastBlock; blockNumber++) {
				const { transactions } = await client.getBlock({ blockNumber, includeTransactions: true });
				count += transactions.filter(({ to }) => to?.toLowerCase() === address).length;
			}
			return count;
		},
		async timestamp(blockNumber) {
			return Number((await client.getBlock({ blockNumber })).timestamp);
		},
	};
}
