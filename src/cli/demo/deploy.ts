import {
	type Address,
	encodeDeployData,
	encodeFunctionData,
	getContractAddress,
	type Hex,
	type LocalAccount,
} from "viem";
import { CANONICAL_PERMIT2, FACTORY_ADDRESS, REFERENCE_GRACE_SECONDS } from "../../../deploy/index.ts";
import { paymentChannelEscrowAbi, paymentChannelEscrowBytecode } from "../../escrow/generated/escrow.ts";
import { hasCode } from "../../escrow/reads.ts";
import { TransactionSender } from "../../escrow/sender.ts";
import type { LocalChain } from "./chain.ts";
import { permit2Deployment } from "./generated/permit2Code.ts";
import { testUsdcAbi, testUsdcBytecode } from "./generated/testUsdc.ts";

/** Deploys a USDC-like token, Permit2 and the escrow, and gives `payer` some of the token. */
export async function deployContracts(
	{ client, chainId }: LocalChain,
	deployer: LocalAccount,
	payer: Address,
	funds: bigint,
): Promise<Readonly<{ token: Address; escrow: Address }>> {
	const sender = new TransactionSender({
		client,
		account: deployer,
		chainId,
		outbox: { put: async () => undefined },
		pollMs: 20,
	});
	const send = async (to: Address | null, data: Hex) => {
		const entry = await sender.broadcast({ to, data, purpose: { kind: "deploy" } });
		const receipt = await sender.wait(entry);
		return receipt.contractAddress ?? getContractAddress({ from: entry.from, nonce: BigInt(entry.nonce) });
	};
	const token = await send(null, encodeDeployData({ abi: testUsdcAbi, bytecode: testUsdcBytecode }));
	// The development chain has the factory from its start.
	if (!(await hasCode(client, CANONICAL_PERMIT2))) await send(FACTORY_ADDRESS, permit2Deployment);
	const args = [BigInt(REFERENCE_GRACE_SECONDS), CANONICAL_PERMIT2] as const;
	const escrow = await send(
		null,
		encodeDeployData({ abi: paymentChannelEscrowAbi, bytecode: paymentChannelEscrowBytecode, args }),
	);
	await send(token, encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [payer, funds] }));
	return { token: token.toLowerCase() as Address, escrow: escrow.toLowerCase() as Address };
}
