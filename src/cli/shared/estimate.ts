import type { PublicClient } from "viem";
import type { Channel } from "../../server/channel.ts";
import { unsettled } from "../../server/channel.ts";
import { DEFAULT_LIMITS } from "../../server/options.ts";
import { gasOf, planSteps, type Way } from "../../server/settlement/economics.ts";
import { groupKey } from "../../server/settlement/operator.ts";
import { settlementSchema } from "../../server/settlement/policy.ts";

/** What settling would take, roughly: gas from contracts/GAS.md, its price from the chain, both decimal strings; wei. */
export type Estimate = Readonly<{ transactions: number; gas: string; gasPrice: string; cost: string }>;

/** What it would take to settle or close these channels. What a rollup asks for its data on top of gas is not in it. */
export async function estimate(
	client: PublicClient,
	way: Way,
	channels: readonly Channel[],
	relayed: boolean,
): Promise<Estimate> {
	const { batchSize } = settlementSchema.parse({});
	const limits = { batchSize, maxGas: BigInt(DEFAULT_LIMITS.maxTransactionGas), relayed };
	let transactions = 0;
	let gas = 0n;
	for (const group of Map.groupBy(channels, groupKey).values()) {
		const rows = group.map((channel) => {
			const { contractSigner } = channel;
			return { value: unsettled(channel), single: contractSigner, byContract: contractSigner };
		});
		for (const step of planSteps(way, rows, { kind: "any" }, undefined, limits).steps) {
			transactions++;
			for (const row of step.rows) gas += gasOf(way, row, step.rows.length, relayed);
		}
	}
	const gasPrice = await client.getGasPrice();
	return { transactions, gas: String(gas), gasPrice: String(gasPrice), cost: String(gas * gasPrice) };
}
