import type { Address, Hex, PublicClient } from "viem";
import { FACTORY_ADDRESS, FACTORY_COST, FACTORY_DEPLOYER } from "./factory.ts";
import { type DeploymentPlan, initCodeBytes } from "./plan.ts";
import { isNodeFault, refusalOf } from "./rpc.ts";

/** What a deployment costs its sender. Amounts in wei of the native coin; a rollup's fee for L1 data comes on top. */
export type DeploymentCost = Readonly<{
	/** What it is expected to use, and what it is allowed to. */
	gas: bigint;
	gasLimit: bigint;
	/** Per unit of gas: of the latest block, as a tip, and the most that is paid. */
	baseFeePerGas: bigint;
	maxPriorityFeePerGas: bigint;
	maxFeePerGas: bigint;
	/** On a chain without EIP-1559: what a unit of gas is paid with. There is no base fee then, and the other two are this. */
	gasPrice?: bigint;
	/** What has to be given to the factory's deployer, gas of that transfer included; 0 where the factory is there. */
	factory: bigint;
	/** What it will cost at the latest block's fees, and the most that it can cost. `factory` is in both. */
	expected: bigint;
	max: bigint;
}>;

/** The deployment would fail, or failed on chain: there is no escrow at the address. */
export class DeploymentFailedError extends Error {
	override readonly name = "DeploymentFailedError";
	readonly code = "DEPLOYMENT_FAILED";
	/** Absent when nothing was sent. */
	readonly hash: Hex | undefined;
	constructor(message: string, hash?: Hex) {
		super(message);
		this.hash = hash;
	}
}

/** Head-room over the estimate: the state may move a little between estimate and execution. */
const GAS_MARGIN_PERCENT = 20n;

const TRANSFER_GAS = 21_000n;

/**
 * Estimates what a plan costs by `eth_estimateGas` and the chain's present fees. Without a factory, which is then to be
 * installed first, the gas is that of a plain creation, which differs by a few thousand.
 *
 * @throws {DeploymentFailedError} when the chain would not take it
 */
export async function estimateCost(
	options: Readonly<{ client: PublicClient; plan: DeploymentPlan; factoryMissing: boolean; from?: Address }>,
): Promise<DeploymentCost> {
	const { client, plan, factoryMissing, from } = options;
	const sender = from && { account: from };
	const call = factoryMissing ? { data: plan.initCode } : { to: FACTORY_ADDRESS, data: plan.data };
	const [gas, fees, held] = await Promise.all([
		client.estimateGas({ ...sender, ...call, blockTag: "latest" }).catch((error: unknown) => {
			if (isNodeFault(error)) throw error;
			throw new DeploymentFailedError(
				`the chain would not take the deployment: ${refusalOf(error)}; it may limit the size of contracts (creation code: ${initCodeBytes(plan)} bytes) or the gas of a transaction: use another chain`,
			);
		}),
		estimateFees(client),
		factoryMissing ? client.getBalance({ address: FACTORY_DEPLOYER }) : FACTORY_COST,
	]);
	const { baseFeePerGas, maxFeePerGas, maxPriorityFeePerGas } = fees;
	const gasLimit = gas + (gas * GAS_MARGIN_PERCENT) / 100n;
	const gift = held < FACTORY_COST ? FACTORY_COST - held : 0n;
	const feePerGas = baseFeePerGas + maxPriorityFeePerGas;
	const factoryAt = (fee: bigint) => (gift > 0n ? gift + TRANSFER_GAS * fee : 0n);
	return {
		gas,
		gasLimit,
		...fees,
		factory: factoryAt(maxFeePerGas),
		expected: gas * feePerGas + factoryAt(feePerGas),
		max: gasLimit * maxFeePerGas + factoryAt(maxFeePerGas),
	};
}

type Fees = Pick<DeploymentCost, "baseFeePerGas" | "maxPriorityFeePerGas" | "maxFeePerGas" | "gasPrice">;

/** The chain's present fees. A chain whose blocks have no base fee knows only a price of gas. */
async function estimateFees(client: PublicClient): Promise<Fees> {
	const { baseFeePerGas } = await client.getBlock();
	if (baseFeePerGas === null || baseFeePerGas === undefined) {
		const gasPrice = await client.getGasPrice();
		return { baseFeePerGas: 0n, maxPriorityFeePerGas: gasPrice, maxFeePerGas: gasPrice, gasPrice };
	}
	const { maxFeePerGas, maxPriorityFeePerGas } = await client.estimateFeesPerGas();
	return { baseFeePerGas, maxPriorityFeePerGas, maxFeePerGas };
}
