import {
	type Account,
	type Address,
	type Chain,
	type Hex,
	keccak256,
	type PublicClient,
	type Transport,
	type WalletClient,
} from "viem";
import { awaitReceipt, type Waiting } from "./receipt.ts";
import { isNodeFault, refusalOf } from "./rpc.ts";

/** The CREATE2 factory that most chains have at this address (Deterministic Deployment Proxy). Lowercase. */
export const FACTORY_ADDRESS: Address = "0x4e59b44847b379578588920ca78fbf26c0b4956c";

/** Its code. Anything else at the address is not trusted. */
export const FACTORY_RUNTIME: Hex =
	"0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3";

/** Who deploys the factory: nobody has its key, the signature below was made up (Nick's method). */
export const FACTORY_DEPLOYER: Address = "0x3fab184622dc19b6109349b94811493bf2a45362";

/** The presigned transaction that puts the factory at its address: 100,000 gas at 100 gwei, good on every chain. */
export const FACTORY_TRANSACTION: Hex =
	"0xf8a58085174876e800830186a08080b853604580600e600039806000f350fe7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf31ba02222222222222222222222222222222222222222222222222222222222222222a02222222222222222222222222222222222222222222222222222222222222222";

/** The price of a unit of gas in it, and all it can cost, in wei. What its gas does not use stays there for ever. */
export const FACTORY_GAS_PRICE = 100_000_000_000n;
export const FACTORY_COST = 100_000n * FACTORY_GAS_PRICE;

/** The CREATE2 factory is missing, is not what it should be, or could not be installed. */
export class FactoryUnusableError extends Error {
	override readonly name = "FactoryUnusableError";
	readonly code = "FACTORY_UNUSABLE";
	readonly reason: "missing" | "foreign-code" | "not-installed";
	constructor(reason: FactoryUnusableError["reason"], message: string) {
		super(message);
		this.reason = reason;
	}
}

/**
 * Whether the chain has the CREATE2 factory.
 *
 * @throws {FactoryUnusableError} when other code lies at its address
 * @example
 * ```ts
 * if (!(await hasFactory(client))) await installFactory({ client, wallet });
 * ```
 */
export async function hasFactory(client: PublicClient): Promise<boolean> {
	const code = (await client.getCode({ address: FACTORY_ADDRESS })) ?? "0x";
	if (code === "0x") return false;
	if (code === FACTORY_RUNTIME) return true;
	throw new FactoryUnusableError(
		"foreign-code",
		`the code at ${FACTORY_ADDRESS} is not the CREATE2 factory; nothing may be deployed through it on this chain`,
	);
}

/** The refusal where the factory is missing and was not asked for. */
export function factoryMissing(chainId: number): FactoryUnusableError {
	return new FactoryUnusableError(
		"missing",
		`chain ${chainId} has no CREATE2 factory at ${FACTORY_ADDRESS}; run again with --deploy-factory, which puts it there by its presigned transaction for at most 0.01 of the native coin`,
	);
}

/**
 * What stands in the way of the presigned transaction; `undefined` when nothing does.
 *
 * @param baseFeePerGas of the latest block, in wei
 */
export async function factoryObstacle(client: PublicClient, baseFeePerGas: bigint): Promise<string | undefined> {
	if (baseFeePerGas > FACTORY_GAS_PRICE)
		return `its presigned transaction pays 100 gwei, and the base fee is ${baseFeePerGas} wei; wait for a lower one`;
	const used = await client.getTransactionCount({ address: FACTORY_DEPLOYER });
	if (used > 0) return "its presigned transaction was sent and failed, and is good only once; use another chain";
	return undefined;
}

/**
 * Installs the CREATE2 factory by the presigned transaction, whose gas `wallet` pays in advance: 0.01 of the native coin
 * at most, less what its deployer holds already. Does nothing where it is there.
 *
 * @throws {FactoryUnusableError}, {@link DeploymentPendingError}, and viem's errors
 * @example
 * ```ts
 * await installFactory({ client, wallet });
 * ```
 */
export async function installFactory(
	options: Waiting & Readonly<{ client: PublicClient; wallet: WalletClient<Transport, Chain | undefined, Account> }>,
): Promise<void> {
	const { client, wallet } = options;
	if (await hasFactory(client)) return;
	const there = async () => ((await hasFactory(client)) ? true : undefined);
	const held = await client.getBalance({ address: FACTORY_DEPLOYER });
	if (held < FACTORY_COST) {
		const hash = await wallet.sendTransaction({
			account: wallet.account,
			chain: null,
			to: FACTORY_DEPLOYER,
			value: FACTORY_COST - held,
		});
		await awaitReceipt(client, hash, { ...options, there });
	}
	const hash = await sendPresigned(client);
	await awaitReceipt(client, hash, { ...options, there });
	if (await hasFactory(client)) return;
	throw new FactoryUnusableError(
		"not-installed",
		"the factory's presigned transaction was mined and left no factory: the chain prices gas in its own way; use another chain",
	);
}

/** Broadcasts the presigned transaction. That it is on its way already, by an earlier run or somebody else, is just as good. */
async function sendPresigned(client: PublicClient): Promise<Hex> {
	try {
		return await client.sendRawTransaction({ serializedTransaction: FACTORY_TRANSACTION });
	} catch (error) {
		if (isNodeFault(error)) throw error;
		const hash = keccak256(FACTORY_TRANSACTION);
		const known = await client.getTransaction({ hash }).catch(() => undefined);
		if (known !== undefined) return hash;
		throw new FactoryUnusableError(
			"not-installed",
			`the node does not take the factory's presigned transaction (${refusalOf(error)}); some refuse all that are signed for every chain: try another RPC provider, or ask the chain's operator for the factory`,
		);
	}
}
