import { type Address, encodeFunctionData, type Hex, type PublicClient } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import { deployContracts } from "../../src/cli/demo/deploy.ts";
import type { Call } from "../../src/escrow/calls.ts";
import { erc3009Abi } from "../../src/escrow/generated/erc3009.ts";
import type { OutboxEntry } from "../../src/escrow/outbox.ts";
import { TransactionSender } from "../../src/escrow/sender.ts";

export const FUNDS = 1_000_000n;

export type Stage = Readonly<{
	chain: LocalChain;
	token: Address;
	escrow: Address;
	/** Holds tokens; `gas` of the native coin too. */
	payer: ReturnType<typeof privateKeyToAccount>;
}>;

/** A chain process with token, escrow and a payer who has tokens and gas. */
export async function createStage(): Promise<Stage> {
	const chain = await startChain();
	try {
		const payer = privateKeyToAccount(generatePrivateKey());
		const contracts = await deployContracts(chain, chain.account(0), payer.address, FUNDS);
		await setBalance(chain.client, payer.address, 10n ** 18n);
		return { chain, payer, ...contracts };
	} catch (error) {
		await chain.stop();
		throw error;
	}
}

/** A call of the development chain that viem's types do not know. */
export function rpc(client: PublicClient, method: string, params: readonly unknown[] = []): Promise<unknown> {
	return client.request({ method, params } as never);
}

export async function setAutomine(client: PublicClient, on: boolean): Promise<void> {
	await rpc(client, "evm_setAutomine", [on]);
}

/** Mines one block with everything that is in the pool. */
export async function mine(client: PublicClient): Promise<void> {
	await rpc(client, "evm_mine");
}

/** Runs `work` while nothing is mined unless it says so; then mines what is left. */
export async function withoutMining<T>(client: PublicClient, work: () => Promise<T>): Promise<T> {
	await setAutomine(client, false);
	try {
		return await work();
	} finally {
		await setAutomine(client, true);
		await mine(client);
	}
}

export async function drop(client: PublicClient, hash: Hex): Promise<void> {
	await rpc(client, "anvil_dropTransaction", [hash]);
}

export async function setBalance(client: PublicClient, address: Address, wei: bigint): Promise<void> {
	await rpc(client, "anvil_setBalance", [address, `0x${wei.toString(16)}`]);
}

export async function poolSize(client: PublicClient): Promise<number> {
	const { pending, queued } = (await rpc(client, "txpool_status")) as Record<"pending" | "queued", Hex>;
	return Number(pending) + Number(queued);
}

export async function isInPool(client: PublicClient, hash: Hex): Promise<boolean> {
	const { blockNumber } = await client.getTransaction({ hash }).catch(() => ({ blockNumber: 0n }));
	return blockNumber === null;
}

const PATIENCE_MS = 15_000;

/** Resolves when `holds` does. */
export async function until(holds: () => Promise<boolean>): Promise<void> {
	const deadline = Date.now() + PATIENCE_MS;
	while (!(await holds())) {
		if (Date.now() > deadline) throw new Error(`waited ${PATIENCE_MS} ms in vain`);
		await new Promise((resolve) => setTimeout(resolve, 10));
	}
}

export function transferCall(token: Address, to: Address, value: bigint): Call {
	return { to: token, data: encodeFunctionData({ abi: erc3009Abi, functionName: "transfer", args: [to, value] }) };
}

/** An outbox in memory: what was written, in order. */
export function recordingOutbox() {
	const written: OutboxEntry[] = [];
	return { written, put: async (entry: OutboxEntry) => void written.push(entry) };
}

/** Sends what has to be there before a test begins; resolves to the receipt. */
export async function sendAs(
	chain: LocalChain,
	account: Stage["payer"] | ReturnType<LocalChain["account"]>,
	call: Call,
) {
	const { client, chainId } = chain;
	const sender = new TransactionSender({ client, account, chainId, outbox: recordingOutbox(), pollMs: 10 });
	return sender.wait(await sender.broadcast({ ...call, purpose: { kind: "test" } }));
}
