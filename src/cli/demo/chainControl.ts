/** What only a development chain can be told: whose coins, which clock, which blocks. */
import type { Address, PublicClient } from "viem";

/** 10 of the native coin, in wei. */
const GAS_MONEY = 10n ** 19n;

/** One call to the node that viem has no name for. */
export function rpc(client: PublicClient, method: string, params: readonly unknown[] = []): Promise<unknown> {
	return client.request({ method, params } as never);
}

/** Gives an account coins to pay gas with. */
export async function fundGas(client: PublicClient, address: Address): Promise<void> {
	await rpc(client, "anvil_setBalance", [address, toQuantity(GAS_MONEY)]);
}

/** Sets the chain's clock ahead, by a block that nothing happens in. */
export async function advance(client: PublicClient, seconds: number): Promise<void> {
	await rpc(client, "evm_increaseTime", [seconds]);
	await rpc(client, "evm_mine");
}

/** Makes a block whose base fee is `wei`. Each empty block after it costs an eighth less. */
export async function mineAtBaseFee(client: PublicClient, wei: bigint): Promise<void> {
	await rpc(client, "anvil_setNextBlockBaseFeePerGas", [toQuantity(wei)]);
	await rpc(client, "evm_mine");
}

/**
 * Replaces the block `fromBlock` and all after it by empty ones. What was in them is in no block and in no pool any more,
 * and nothing is mined until the function that this resolves to is called.
 */
export async function takeOut(client: PublicClient, fromBlock: bigint): Promise<() => Promise<void>> {
	await rpc(client, "evm_setAutomine", [false]);
	const head = await client.getBlockNumber({ cacheTime: 0 });
	await rpc(client, "anvil_reorg", [Number(head - fromBlock) + 1, []]);
	return async () => {
		await rpc(client, "evm_setAutomine", [true]);
		await rpc(client, "evm_mine");
	};
}

/** How many transactions wait to be mined. */
export async function pooled(client: PublicClient): Promise<number> {
	const { pending } = (await rpc(client, "txpool_status")) as Readonly<{ pending: string }>;
	return Number(pending);
}

function toQuantity(value: bigint): string {
	return `0x${value.toString(16)}`;
}
