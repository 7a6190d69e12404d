/** Payers that are contracts: a wallet on a real chain, and the accounts that stand for it. */
import { type Address, encodeDeployData, encodeFunctionData, type Hex, type LocalAccount } from "viem";
import { generatePrivateKey, privateKeyToAccount, toAccount } from "viem/accounts";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import type { SendingAccount } from "../../src/client/index.ts";
import { smartAccountAbi, smartAccountBytecode } from "../support/generated/smartAccount.ts";
import { mined } from "../support/mined.ts";
import type { Stage } from "./stage.ts";

export type ContractPayer = Readonly<{
	address: Address;
	/** Its owner, whose signatures of 65 bytes its contract accepts. */
	owner: LocalAccount;
	/** Signs for it, and sends nothing. */
	signing: LocalAccount;
	/** Has its owner send for it; signs for it, too, where it says so. */
	sending(options?: Readonly<{ contractSignatures?: boolean }>): SendingAccount & { readonly sent: readonly Hex[] };
	/** What was signed for it. */
	signed: string[];
}>;

/** A contract wallet with `funds` of the token. */
export async function contractPayer(stage: Stage, funds = 1_000_000n): Promise<ContractPayer> {
	const owner = privateKeyToAccount(generatePrivateKey());
	await stage.giveGas(owner.address);
	const address = await deployWallet(stage, owner.address);
	const mint = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [address, funds] });
	await stage.send({ to: stage.token, data: mint }, stage.chain.account(0));
	const signed: string[] = [];
	const signTypedData: LocalAccount["signTypedData"] = (typedData) => {
		signed.push(String(typedData.primaryType));
		return owner.signTypedData(typedData);
	};
	const signing = toAccount({
		address,
		signTypedData,
		signMessage: (message) => owner.signMessage(message),
		signTransaction: async () => {
			throw new Error("a contract signs no transactions");
		},
	});
	return {
		address,
		owner,
		signing,
		signed,
		sending({ contractSignatures = false } = {}) {
			const sent: Hex[] = [];
			return {
				address,
				signTypedData,
				contractSignatures,
				sent,
				async sendTransaction({ to, data }) {
					const execute = encodeFunctionData({ abi: smartAccountAbi, functionName: "execute", args: [[{ to, data }]] });
					const hash = await stage.send({ to: address, data: execute }, owner);
					sent.push(hash);
					return hash;
				},
			};
		},
	};
}

/** The contract alone. */
export async function deployWallet(stage: Stage, owner: Address): Promise<Address> {
	const data = encodeDeployData({ abi: smartAccountAbi, bytecode: smartAccountBytecode, args: [owner] });
	const { contractAddress } = await mined(stage.chain.client, await stage.send({ to: null, data }));
	if (!contractAddress) throw new Error("the wallet was not deployed");
	return contractAddress.toLowerCase() as Address;
}
