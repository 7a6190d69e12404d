import {
	type Address,
	encodeDeployData,
	encodeFunctionData,
	getContractAddress,
	type Hex,
	type LocalAccount,
} from "viem";
import { paymentChannelEscrowAbi, paymentChannelEscrowBytecode } from "../../escrow/generated/escrow.ts";
import { TransactionSender } from "../../escrow/sender.ts";
import type { LocalChain } from "./chain.ts";
import { testUsdcAbi, testUsdcBytecode } from "./generated/testUsdc.ts";

/** The reference grace period of the draft. */
const CLOSE_GRACE_SECONDS = 900n;

/** Permit2's address on every chain that has it. The demo does not use it. */
const PERMIT2: Address = "0x000000000022D473030F116dDEE9F6B43aC78BA3";

/** Deploys a USDC-like token and the escrow, and gives `payer` some of the token. */
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
	const args = [CLOSE_GRACE_SECONDS, PERMIT2] as const;
	const escrow = await send(
		null,
		encodeDeployData({ abi: paymentChannelEscrowAbi, bytecode: paymentChannelEscrowBytecode, args }),
	);
	await send(token, encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [payer, funds] }));
	return { token: token.toLowerCase() as Address, escrow: escrow.toLowerCase() as Address };
}
