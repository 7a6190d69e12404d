import type { Address, PublicClient } from "viem";
import { type DeploymentCost, estimateCost } from "./cost.ts";
import { FactoryUnusableError, factoryMissing, factoryObstacle, hasFactory } from "./factory.ts";
import { assertOpcodes } from "./opcodes.ts";
import { hasPermit2, Permit2UnusableError } from "./permit2.ts";
import type { DeploymentPlan } from "./plan.ts";
import { hasCode } from "./rpc.ts";
import { type VerifiedDeployment, verifyDeployment } from "./verify.ts";

export type PreflightOptions = Readonly<{
	client: PublicClient;
	plan: DeploymentPlan;
	/** The chain that is meant; without it, whatever chain the RPC serves. */
	chainId?: number;
	/** Go on although there is no Permit2 (default false). */
	allowMissingPermit2?: boolean;
	/** The factory is to be installed where it is missing (default false). */
	installFactory?: boolean;
	/** Who would send it, for the estimate. Default: nobody in particular. */
	from?: Address;
}>;

/** What was found, and what is left to do. */
export type Preflight = Readonly<{
	chainId: number;
	/** The factory has to be installed first. */
	factoryMissing: boolean;
	permit2Missing: boolean;
}> &
	(
		| Readonly<{
				/** The escrow as it lies at its address already: nothing is left to do. */ existing: VerifiedDeployment;
				cost?: never;
		  }>
		| Readonly<{ existing?: never /** Of what is left to do. */; cost: DeploymentCost }>
	);

/** The RPC serves another chain than the one that was meant. */
export class ChainMismatchError extends Error {
	override readonly name = "ChainMismatchError";
	readonly code = "CHAIN_MISMATCH";
	readonly expected: number;
	readonly actual: number;
	constructor(expected: number, actual: number) {
		super(`the RPC serves chain ${actual}, not ${expected}; fix the RPC URL or the chain id`);
		this.expected = expected;
		this.actual = actual;
	}
}

/**
 * Everything that can be known before money is spent: the chain, its instructions, factory and Permit2, whether the
 * escrow is there already, what it costs. Sends nothing.
 *
 * @throws {ChainMismatchError}, {@link DeploymentMismatchError}, {@link OpcodesMissingError},
 * {@link FactoryUnusableError}, {@link Permit2UnusableError}, {@link DeploymentFailedError}, and viem's errors when the
 * node can't be asked
 * @example
 * ```ts
 * const { existing, cost } = await preflight({ client, plan: planDeployment(), chainId: 8453 });
 * ```
 */
export async function preflight(options: PreflightOptions): Promise<Preflight> {
	const { client, plan, allowMissingPermit2 = false, installFactory = false, from } = options;
	const chainId = await client.getChainId();
	if (options.chainId !== undefined && options.chainId !== chainId)
		throw new ChainMismatchError(options.chainId, chainId);

	if (await hasCode(client, plan.escrow)) {
		const existing = await verifyDeployment(client, plan.escrow, plan);
		const permit2Missing = !(await hasPermit2(client, plan.permit2, chainId));
		return { chainId, existing, factoryMissing: false, permit2Missing };
	}

	await assertOpcodes(client, chainId);
	const isFactoryMissing = !(await hasFactory(client));
	if (isFactoryMissing && !installFactory) throw factoryMissing(chainId);
	const permit2Missing = !(await hasPermit2(client, plan.permit2, chainId));
	if (permit2Missing && !allowMissingPermit2) throw new Permit2UnusableError("missing", plan.permit2, chainId);
	const cost = await estimateCost({ client, plan, factoryMissing: isFactoryMissing, ...(from && { from }) });
	if (isFactoryMissing) {
		const obstacle = await factoryObstacle(client, cost.baseFeePerGas);
		if (obstacle !== undefined)
			throw new FactoryUnusableError("not-installed", `the CREATE2 factory can't be installed: ${obstacle}`);
	}
	return { chainId, factoryMissing: isFactoryMissing, permit2Missing, cost };
}
