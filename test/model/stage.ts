/** The real world of the reference model: a chain process with the escrow, Permit2, tokens and a fixed cast. */
import {
	type Address,
	concat,
	encodeAbiParameters,
	encodeDeployData,
	encodeFunctionData,
	type Hex,
	maxUint256,
} from "viem";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import { testUsdcAbi, testUsdcBytecode } from "../../src/cli/demo/generated/testUsdc.ts";
import { paymentChannelEscrowAbi, paymentChannelEscrowBytecode } from "../../src/escrow/generated/escrow.ts";
import permit2 from "../fixtures/permit2.json" with { type: "json" };
import {
	blocklistTokenBytecode,
	credulousWalletBytecode,
	erc1271WalletBytecode,
	inexactTokenBytecode,
} from "./generated/doubles.ts";
import { keyOf } from "./signing.ts";
import type { State, Token, Wallet } from "./terms.ts";

/** The reference grace period of the draft. */
const CLOSE_GRACE_SECONDS = 900n;

/** When every sequence begins. */
export const START = 1_900_000_000n;

/** What all but the rich have of each token. */
const FUNDS = 5_000n;

/** Enough for deposits of 2^128 - 1. */
const RICHES = 2n ** 130n;

/** Who plays. Payers have tokens; a wallet's owner has the key that its signatures are made with. */
export type Cast = Readonly<{
	/** Two plain accounts (the second is rich), a contract wallet, and a plain account with code (EIP-7702). */
	payers: readonly Address[];
	/** Two plain accounts and a contract wallet. */
	payees: readonly Address[];
	/** A plain account, a contract wallet, and a contract that agrees to anything. */
	delegates: readonly Address[];
	/** Pays for channels of others. */
	funder: Address;
	/** Submits what others signed; a stranger to all. */
	relayer: Address;
	stranger: Address;
	/** Whose key signs for a wallet. */
	owners: readonly Address[];
}>;

export type Stage = Readonly<{
	chain: LocalChain;
	cast: Cast;
	/** Two like USDC, one with a blocklist, one that takes a fee. */
	tokens: readonly Address[];
	/** What the model begins with, and what `reset` puts the chain back to. */
	initial: State;
	reset(): Promise<void>;
	rpc<T>(method: string, params: readonly unknown[]): Promise<T>;
}>;

export type Transaction = Readonly<{ from: Address; to: Address | null; data: Hex }>;

export async function createStage(): Promise<Stage> {
	// Senders are impersonated and gas is free: nothing but the contracts' own rules decides what goes through.
	const args = ["--auto-impersonate", "--gas-price", "0", "--block-base-fee-per-gas", "0", "--disable-block-gas-limit"];
	const chain = await startChain({ args });
	try {
		return await furnish(chain);
	} catch (error) {
		await chain.stop();
		throw error;
	}
}

async function furnish(chain: LocalChain): Promise<Stage> {
	const rpc = <T>(method: string, params: readonly unknown[]) =>
		chain.client.request({ method, params } as never) as Promise<T>;
	await rpc("anvil_setBlockTimestampInterval", [1]);
	const deployer = keyOf("deployer").address;
	const send = async (to: Address | null, data: Hex) => {
		const receipt = await sendTransaction(rpc, { from: deployer, to, data });
		if (receipt.status !== "0x1") throw new Error("the stage could not be set");
		return (receipt.contractAddress ?? to ?? deployer).toLowerCase() as Address;
	};
	const deployWallet = (owner: Address) =>
		send(null, concat([erc1271WalletBytecode, encodeAbiParameters([{ type: "address" }], [owner])]));

	await send(permit2.factory as Address, concat([permit2.salt as Hex, permit2.initCode as Hex]));
	const permit2Address = permit2.address.toLowerCase() as Address;
	const escrow = await send(
		null,
		encodeDeployData({
			abi: paymentChannelEscrowAbi,
			bytecode: paymentChannelEscrowBytecode,
			args: [CLOSE_GRACE_SECONDS, permit2Address],
		}),
	);
	const fee = encodeAbiParameters([{ type: "int256" }], [-1n]);
	const skewed = await send(null, concat([inexactTokenBytecode, fee]));
	const tokens = [
		await send(null, testUsdcBytecode),
		await send(null, testUsdcBytecode),
		await send(null, blocklistTokenBytecode),
		skewed,
	];

	const owners = ["owner of a wallet", "owner of code"].map((name) => keyOf(name).address) as [Address, Address];
	const wallet = () => deployWallet(owners[0]);
	const credulous = await send(null, credulousWalletBytecode);
	const smart = keyOf("payer with code").address;
	const lent = await deployWallet(owners[1]);
	await rpc("anvil_setCode", [smart, await rpc<Hex>("eth_getCode", [lent, "latest"])]);
	const [payerWallet, payeeWallet, delegateWallet] = [await wallet(), await wallet(), await wallet()];
	const cast: Cast = {
		payers: [keyOf("payer").address, keyOf("rich payer").address, payerWallet, smart],
		payees: [keyOf("payee").address, keyOf("other payee").address, payeeWallet],
		delegates: [keyOf("delegate").address, delegateWallet, credulous],
		funder: keyOf("funder").address,
		relayer: keyOf("relayer").address,
		stranger: keyOf("stranger").address,
		owners,
	};
	const wallets: Record<Address, Wallet> = {
		[payerWallet]: { owner: owners[0] },
		[payeeWallet]: { owner: owners[0] },
		[delegateWallet]: { owner: owners[0] },
		[smart]: { owner: owners[1] },
		[credulous]: { credulous: true },
	};

	const [, rich] = cast.payers;
	const holders = [...cast.payers, cast.funder];
	const balances: Record<Address, bigint> = {};
	const allowances: Record<string, bigint> = {};
	for (const holder of holders) {
		const amount = holder === rich ? RICHES : FUNDS;
		balances[holder] = amount;
		for (const token of tokens) {
			await send(token, encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [holder, amount] }));
			for (const spender of [escrow, permit2Address]) {
				const data = encodeFunctionData({ abi: testUsdcAbi, functionName: "approve", args: [spender, maxUint256] });
				await sendTransaction(rpc, { from: holder, to: token, data });
				allowances[`${holder}:${spender}`] = maxUint256;
			}
		}
	}
	const fresh: Token = { balances, allowances, blocked: {}, usedAuthorizations: {}, skew: 0n };
	const initial: State = {
		chainId: chain.chainId,
		escrow,
		permit2: permit2Address,
		closeGracePeriod: CLOSE_GRACE_SECONDS,
		time: START,
		wallets,
		tokens: Object.fromEntries(tokens.map((token) => [token, token === skewed ? { ...fresh, skew: -1n } : fresh])),
		channels: {},
		usedPermits: {},
		usedPayeeNonces: {},
	};

	let snapshot = await rpc<Hex>("evm_snapshot", []);
	return {
		chain,
		cast,
		tokens,
		initial,
		rpc,
		async reset() {
			await rpc("evm_revert", [snapshot]);
			snapshot = await rpc("evm_snapshot", []);
			await rpc("evm_setNextBlockTimestamp", [Number(START)]);
		},
	};
}

export type MinedReceipt = Readonly<{
	status: Hex;
	contractAddress: Address | null;
	logs: readonly Readonly<{ address: Address; topics: [Hex, ...Hex[]]; data: Hex }>[];
}>;

/** Mined when this resolves. The gas is given, so nothing is estimated and a call that is refused is mined too. */
export function sendTransaction(rpc: Stage["rpc"], { from, to, data }: Transaction): Promise<MinedReceipt> {
	const gas = "0x989680";
	return rpc("eth_sendTransactionSync", [{ from, ...(to && { to }), data, gas, gasPrice: "0x0" }]);
}
