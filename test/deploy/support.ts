import {
	type Address,
	concat,
	createPublicClient,
	createWalletClient,
	type Hex,
	http,
	type LocalAccount,
	type PublicClient,
} from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import permit2Code from "../fixtures/permit2.json" with { type: "json" };
import { mined } from "../support/mined.ts";

/** Waits of tests: the chains are on this machine. */
export const QUICK = { timeoutMs: 20_000, pollMs: 20 } as const;

/** A call of the development chain that viem's types do not know. */
export function rpc(client: PublicClient, method: string, params: readonly unknown[] = []): Promise<unknown> {
	return client.request({ method, params } as never);
}

/** Deploys the real Permit2 to its address, through the factory, from an account of the node's own. */
async function placePermit2(client: PublicClient): Promise<void> {
	const [from] = (await rpc(client, "eth_accounts")) as [Address];
	const data = concat([permit2Code.salt as Hex, permit2Code.initCode as Hex]);
	const hash = (await rpc(client, "eth_sendTransaction", [{ from, to: permit2Code.factory, data }])) as Hex;
	const { status } = await mined(client, hash);
	if (status !== "success") throw new Error("Permit2 could not be deployed");
}

/** A development chain of another id, with the factory, and Permit2 unless it is not wanted. */
export async function startDeployChain(
	chainId: number,
	{ permit2 = true, args = [] }: Readonly<{ permit2?: boolean; args?: readonly string[] }> = {},
): Promise<LocalChain> {
	const chain = await startChain({ args: ["--chain-id", String(chainId), ...args] });
	if (permit2) await placePermit2(chain.client);
	return chain;
}

/** A new account with one of the native coin. */
export async function fundedAccount(client: PublicClient): Promise<Readonly<{ account: LocalAccount; key: Hex }>> {
	const key = generatePrivateKey();
	const account = privateKeyToAccount(key);
	await rpc(client, "anvil_setBalance", [account.address, `0x${(10n ** 18n).toString(16)}`]);
	return { account, key };
}

/** What `deployEscrow` sends with. */
export function walletOf(url: string, account: LocalAccount) {
	return createWalletClient({ account, transport: http(url) });
}

export function clientOf(url: string): PublicClient {
	return createPublicClient({ transport: http(url), cacheTime: 0 });
}

/** How many transactions are in the blocks of a chain. */
export async function transactionsOf(client: PublicClient): Promise<number> {
	const last = await client.getBlockNumber();
	let count = 0;
	for (let blockNumber = 0n; blockNumber <= last; blockNumber++) {
		count += await client.getBlockTransactionCount({ blockNumber });
	}
	return count;
}
