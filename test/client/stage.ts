/** A chain for clients to pay on: a token, the escrow, the real Permit2, and payers. No server of ours: those are scripted. */

import { type Address, concat, encodeFunctionData, type Hex, type LocalAccount } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { approveCall, type Call, hasCode, readBalance, readChannel } from "../../src/escrow/index.ts";
import { CANONICAL_PERMIT2 } from "../../src/voucher/index.ts";
import permit2 from "../fixtures/permit2.json" with { type: "json" };
import { mined } from "../support/mined.ts";

/** What a new payer has, in base units of the token. */
export const FUNDS = 1_000_000n;

export type Stage = Readonly<{
	chain: LocalChain;
	token: Address;
	escrow: Address;
	/** A new payer with `FUNDS`; with `gas` for transactions of its own, with an allowance for Permit2. */
	payer(options?: Readonly<{ gas?: boolean; permit2?: bigint; funds?: bigint }>): Promise<LocalAccount>;
	giveGas(address: Address): Promise<void>;
	/** Sends a call from an account that has gas, and waits. */
	send(call: Call, from?: LocalAccount): Promise<Hex>;
	balance(holder: Address): Promise<bigint>;
	onChain(channelId: Hex): ReturnType<typeof readChannel>;
	allowance(owner: Address, spender?: Address): Promise<bigint>;
	stop(): Promise<void>;
}>;

export async function createStage(): Promise<Stage> {
	const chain = await startChain();
	const { client, chainId } = chain;
	const deployer = chain.account(0);
	const { token, escrow } = await deployContracts(chain, deployer, deployer.address, 1n);
	const helper = chain.account(1);
	let turn: Promise<unknown> = Promise.resolve();
	const rpc = (method: string, params: readonly unknown[]) => client.request({ method, params } as never);
	const giveGas = async (address: Address) => {
		await rpc("anvil_setBalance", [address, "0x8ac7230489e80000"]);
	};
	const sendOne = async ({ to, data }: Call, from: LocalAccount): Promise<Hex> => {
		const [nonce, fees] = await Promise.all([
			client.getTransactionCount({ address: from.address, blockTag: "pending" }),
			client.estimateFeesPerGas(),
		]);
		const { maxFeePerGas, maxPriorityFeePerGas } = fees;
		const serializedTransaction = await from.signTransaction({
			...{ type: "eip1559", chainId, nonce, to, data, gas: 6_000_000n, maxFeePerGas, maxPriorityFeePerGas },
		} as const);
		const hash = await client.sendRawTransaction({ serializedTransaction });
		const { status } = await mined(client, hash);
		if (status !== "success") throw new Error(`transaction ${hash} reverted`);
		return hash;
	};
	const send = (call: Call, from: LocalAccount = helper): Promise<Hex> => {
		const sent = turn.then(() => sendOne(call, from));
		turn = sent.catch(() => undefined);
		return sent;
	};
	if (!(await hasCode(client, CANONICAL_PERMIT2)))
		await send({ to: permit2.factory as Address, data: concat([permit2.salt as Hex, permit2.initCode as Hex]) });
	return {
		chain,
		token,
		escrow,
		giveGas,
		send,
		async payer({ gas = false, permit2: allowance = 0n, funds = FUNDS } = {}) {
			const account = privateKeyToAccount(generatePrivateKey());
			if (gas || allowance > 0n) await giveGas(account.address);
			const mint = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [account.address, funds] });
			await send({ to: token, data: mint }, deployer);
			if (allowance > 0n) await send(approveCall(token, CANONICAL_PERMIT2, allowance), account);
			if (!gas) await rpc("anvil_setBalance", [account.address, "0x0"]);
			return account;
		},
		balance: (holder) => readBalance(client, token, holder),
		onChain: (channelId) => readChannel(client, escrow, channelId),
		allowance: (owner, spender = CANONICAL_PERMIT2) =>
			client.readContract({ address: token, abi: testUsdcAbi, functionName: "allowance", args: [owner, spender] }),
		stop: () => chain.stop(),
	};
}
