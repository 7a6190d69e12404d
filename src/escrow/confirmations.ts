import {
	BlockNotFoundError,
	type Hex,
	type PublicClient,
	type TransactionReceipt,
	TransactionReceiptNotFoundError,
} from "viem";
import { type OutboxEntry, versionsOf } from "./outbox.ts";

/** How deep a transaction has to lie, and how long it is waited for. */
export type AwaitReceiptOptions = Readonly<{
	/** Blocks from the transaction's own to the latest, both counted: 1 (the default) is the block it is in. */
	confirmations?: number;
	/** How long it is looked for, in ms; at least once. Default 60,000. */
	timeoutMs?: number;
	/** How long to wait between two looks, in ms. Default 1,000. */
	pollMs?: number;
}>;

/**
 * Waits until a transaction lies `confirmations` blocks deep. A receipt is read anew with each look, so that one that
 * vanishes or moves in a reorganization is waited for again.
 *
 * @returns its receipt, of success or failure; `undefined` when the time is up first, which says nothing about later.
 * @throws {RangeError} unless `confirmations` is a positive integer, and viem's errors when the node could not be asked.
 * @example
 * const receipt = await awaitReceipt(client, payload.hash, { confirmations: 3, timeoutMs: 30_000 });
 */
export async function awaitReceipt(
	client: PublicClient,
	hash: Hex,
	options: AwaitReceiptOptions = {},
): Promise<TransactionReceipt | undefined> {
	const { confirmations = 1, timeoutMs = 60_000, pollMs = 1_000 } = options;
	assertConfirmations(confirmations);
	const deadline = Date.now() + timeoutMs;
	for (;;) {
		const { receipt, deepEnough } = await lookForReceipt(client, [hash], confirmations);
		if (deepEnough) return receipt;
		const left = deadline - Date.now();
		if (left <= 0) return undefined;
		await new Promise((resolve) => setTimeout(resolve, Math.min(pollMs, left)));
	}
}

/**
 * One look at the versions of a transaction, of which one at most is mined: its receipt if there is one, and whether its
 * block is deep enough and in the chain of that moment. Internal.
 */
export async function lookForReceipt(
	client: PublicClient,
	versions: readonly Hex[],
	confirmations: number,
): Promise<
	Readonly<{ receipt: TransactionReceipt; deepEnough: boolean }> | Readonly<{ receipt: undefined; deepEnough: false }>
> {
	// The height first: a receipt read after it lies at least as deep as the two together say.
	const latest = confirmations === 1 ? 0n : await client.getBlockNumber({ cacheTime: 0 });
	const found = await Promise.all(versions.map((hash) => readReceipt(client, hash)));
	const receipts = found.filter((receipt) => receipt !== undefined);
	const [first] = receipts;
	if (first === undefined) return { receipt: undefined, deepEnough: false };
	if (confirmations === 1) return { receipt: first, deepEnough: true };
	for (const receipt of receipts) {
		if (latest - receipt.blockNumber + 1n < BigInt(confirmations)) continue;
		// A node, or another one behind the same URL, may still know a receipt of a block that was left behind.
		if ((await readBlockHash(client, receipt.blockNumber)) === receipt.blockHash) return { receipt, deepEnough: true };
	}
	return { receipt: first, deepEnough: false };
}

/**
 * The receipt of whichever version of a recorded transaction is mined; `undefined` when none is, as far as the node knows.
 *
 * @example
 * const receipt = await findReceipt(client, entry);
 */
export async function findReceipt(client: PublicClient, entry: OutboxEntry): Promise<TransactionReceipt | undefined> {
	const hashes = versionsOf(entry).map(({ hash }) => hash);
	return (await lookForReceipt(client, hashes, 1)).receipt;
}

/** `undefined` when it is in no block. Internal. */
export async function readReceipt(client: PublicClient, hash: Hex): Promise<TransactionReceipt | undefined> {
	try {
		return await client.getTransactionReceipt({ hash });
	} catch (error) {
		if (error instanceof TransactionReceiptNotFoundError) return undefined;
		throw error;
	}
}

/** `undefined` when the chain is not that high. Internal. */
export async function readBlockHash(client: PublicClient, blockNumber: bigint): Promise<Hex | undefined> {
	try {
		return (await client.getBlock({ blockNumber })).hash ?? undefined;
	} catch (error) {
		if (error instanceof BlockNotFoundError) return undefined;
		throw error;
	}
}

/** @throws {RangeError} unless a positive integer. Internal. */
export function assertConfirmations(confirmations: number, name = "confirmations"): void {
	if (Number.isSafeInteger(confirmations) && confirmations >= 1) return;
	throw new RangeError(`${name} must be a positive integer, not ${confirmations}`);
}
