import type { Account, Address, Chain, Hex, PublicClient, Transport, WalletClient } from "viem";
import { type DeploymentCost, DeploymentFailedError } from "./cost.ts";
import { FACTORY_ADDRESS, installFactory } from "./factory.ts";
import type { DeploymentPlan } from "./plan.ts";
import { ChainMismatchError, type Preflight, type PreflightOptions, preflight } from "./preflight.ts";
import { awaitReceipt, DeploymentPendingError, type Waiting, waitingOf } from "./receipt.ts";
import { hasCode, lookUntil } from "./rpc.ts";
import { type VerifiedDeployment, verifyDeployment } from "./verify.ts";

export type DeployOptions = Omit<PreflightOptions, "from"> &
	Waiting &
	Readonly<{
		/** Signs and pays: a wallet client with any account, for example a private key's or a node's own. */
		wallet: WalletClient<Transport, Chain | undefined, Account>;
		/** Called with what was found, before anything is sent. Whatever it throws stops the deployment. */
		before?: (found: Preflight) => void | Promise<void>;
		/** Called with each step, for people. */
		progress?: (text: string) => void;
	}>;

/** What came of it. Fees in wei. */
export type Deployed = VerifiedDeployment &
	Readonly<{
		outcome: "deployed" | "already-there";
		permit2Missing: boolean;
		/** Of our transaction; absent where the escrow was there already, or came by another transaction meanwhile. */
		transactionHash?: Hex;
		blockNumber?: number;
		gasUsed?: bigint;
		/** What the chain took for that gas. */
		fee?: bigint;
	}>;

/** The account can't pay for the deployment. Amounts in wei. */
export class InsufficientFundsError extends Error {
	override readonly name = "InsufficientFundsError";
	readonly code = "INSUFFICIENT_FUNDS";
	readonly address: Address;
	readonly balance: bigint;
	readonly needed: bigint;
	constructor(address: Address, balance: bigint, needed: bigint) {
		super(`${address} has ${balance} wei and needs up to ${needed} wei; fund it and run again`);
		this.address = address;
		this.balance = balance;
		this.needed = needed;
	}
}

/** How long a node may lag behind the one that knew the receipt, in ms. */
const LAG_MS = 15_000;

/**
 * Deploys the escrow through the CREATE2 factory, or finds that it is there, and verifies it. May be run as often as one
 * likes: it looks before it sends, and waits for what an earlier run has sent.
 *
 * @throws {InsufficientFundsError}, {@link DeploymentFailedError}, {@link DeploymentPendingError}, whatever
 * {@link preflight} and {@link verifyDeployment} throw, and viem's errors
 * @example
 * ```ts
 * const transport = http(rpcUrl);
 * const client = createPublicClient({ transport });
 * const wallet = createWalletClient({ account: privateKeyToAccount(key), transport });
 * const { outcome, escrow } = await deployEscrow({ client, wallet, plan: planDeployment(), chainId: 8453 });
 * ```
 */
export async function deployEscrow(options: DeployOptions): Promise<Deployed> {
	const { client, wallet, plan, before, progress = () => undefined } = options;
	const from = wallet.account.address;
	await awaitEarlier(options);
	const found = await preflight({ ...options, from });
	const walletChainId = await wallet.getChainId();
	if (walletChainId !== found.chainId) throw new ChainMismatchError(found.chainId, walletChainId);
	await before?.(found);
	const { existing, cost, permit2Missing } = found;
	if (existing !== undefined) return { ...existing, outcome: "already-there", permit2Missing };
	const balance = await client.getBalance({ address: from });
	if (balance < cost.max) throw new InsufficientFundsError(from, balance, cost.max);

	if (found.factoryMissing) {
		progress(`installing the CREATE2 factory at ${FACTORY_ADDRESS}`);
		await installFactory(options);
	}
	progress(`deploying to ${plan.escrow} on chain ${found.chainId}`);
	const hash = await send(wallet, plan, cost);
	progress(`waiting for transaction ${hash}`);
	const there = () => isThere(client, plan.escrow);
	const receipt = await awaitReceipt(client, hash, { ...options, there });
	if ((await lookUntil(there, { ...waitingOf(options), timeoutMs: LAG_MS })) === undefined) {
		throw new DeploymentFailedError(
			receipt?.status === "reverted"
				? `transaction ${hash} was mined and failed, and there is no escrow; the chain may limit the size of contracts or the gas of a transaction`
				: `transaction ${hash} was mined, but the node shows no escrow; run the same command again, which looks first`,
			hash,
		);
	}
	const verified = await verifyDeployment(client, plan.escrow, plan);
	// Where ours failed or was replaced, somebody else was faster: it is the same contract all the same.
	if (receipt?.status !== "success") return { ...verified, outcome: "already-there", permit2Missing };
	const { gasUsed, effectiveGasPrice, blockNumber } = receipt;
	return {
		...verified,
		outcome: "deployed",
		permit2Missing,
		transactionHash: hash,
		blockNumber: Number(blockNumber),
		gasUsed,
		fee: gasUsed * effectiveGasPrice,
	};
}

function send(wallet: DeployOptions["wallet"], { data }: DeploymentPlan, cost: DeploymentCost): Promise<Hex> {
	const { gasLimit: gas, gasPrice, maxFeePerGas, maxPriorityFeePerGas } = cost;
	const transaction = { account: wallet.account, chain: null, to: FACTORY_ADDRESS, data, gas };
	return gasPrice === undefined
		? wallet.sendTransaction({ ...transaction, maxFeePerGas, maxPriorityFeePerGas })
		: wallet.sendTransaction({ ...transaction, type: "legacy", gasPrice });
}

/**
 * Waits while transactions of this account are on their way and the escrow is not there: the deployment of an earlier run
 * may be among them. A second one would burn its gas, and some nodes estimate upon what is pending.
 */
async function awaitEarlier(options: DeployOptions): Promise<void> {
	const { client, wallet, plan, progress } = options;
	const { address } = wallet.account;
	const count = (blockTag: "latest" | "pending") => client.getTransactionCount({ address, blockTag });
	const waiting = async () => {
		const [mined, known] = await Promise.all([count("latest"), count("pending")]);
		return Math.max(0, known - mined);
	};
	const pending = await waiting();
	if (pending === 0) return;
	progress?.(`waiting for ${pending} earlier transaction(s) of ${address}`);
	const look = async () => ((await waiting()) === 0 ? true : isThere(client, plan.escrow));
	if (await lookUntil(look, waitingOf(options))) return;
	throw new DeploymentPendingError(
		`${pending} transaction(s) of ${address} are not mined yet, and the deployment may be among them; run the same command again later, or replace them in your wallet by some with a higher fee`,
	);
}

async function isThere(client: PublicClient, escrow: Address): Promise<true | undefined> {
	return (await hasCode(client, escrow)) ? true : undefined;
}
