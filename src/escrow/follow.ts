/** Where a concluded transaction stands in the chain of this moment: reads only. */
import type { Hex, PublicClient, TransactionReceipt } from "viem";
import { readBlockHash, readReceipt } from "./confirmations.ts";
import { type MinedIn, type OutboxEntry, versionsOf } from "./outbox.ts";

/** The chain as it is looked at for many transactions: each block is asked for once. */
export type ChainView = Readonly<{
	/** Number of the latest block. */
	head: bigint;
	/** Hash of the block at that height; `undefined` where there is none. */
	hashAt(blockNumber: number): Promise<Hex | undefined>;
}>;

export async function viewChain(client: PublicClient): Promise<ChainView> {
	const head = await client.getBlockNumber({ cacheTime: 0 });
	const hashes = new Map<number, Promise<Hex | undefined>>();
	return {
		head,
		hashAt(blockNumber) {
			const known = hashes.get(blockNumber);
			if (known !== undefined) return known;
			const reading = readBlockHash(client, BigInt(blockNumber));
			hashes.set(blockNumber, reading);
			return reading;
		},
	};
}

/** How a concluded transaction stands. `entry` is its record as it has to be from now on. */
export type Standing = Readonly<
	/** So deep that it is not followed any more. */
	| { kind: "final"; entry: OutboxEntry }
	/** Where it was, and not final yet; or this can't be told now. */
	| { kind: "there"; entry: OutboxEntry }
	/** In another block, or as another version; it may have ended in another way there (`entry.state`). */
	| { kind: "moved"; entry: OutboxEntry }
	/** In no block: it is being sent again, perhaps with a new bid. */
	| { kind: "missing"; entry: OutboxEntry }
	/** Another transaction has its nonce: it can never be mined. */
	| { kind: "lost"; entry: OutboxEntry }
>;

/** What the chain alone says; `undefined` when it shows no version of it in any block. */
export async function lookWhereItIs(
	client: PublicClient,
	view: ChainView,
	entry: OutboxEntry,
	finality: number,
): Promise<Extract<Standing, { kind: "final" | "there" | "moved" }> | undefined> {
	const { minedIn } = entry;
	if (minedIn === undefined || minedIn.final) return { kind: "final", entry };
	if ((await view.hashAt(minedIn.blockNumber)) === minedIn.blockHash) {
		if (!isDeep(view, minedIn.blockNumber, finality)) return { kind: "there", entry };
		return { kind: "final", entry: { ...entry, minedIn: { ...minedIn, final: true } } };
	}
	const receipts = await Promise.all(versionsOf(entry).map(({ hash }) => readReceipt(client, hash)));
	let isUnsure = false;
	for (const receipt of receipts) {
		if (receipt === undefined) continue;
		const blockNumber = Number(receipt.blockNumber);
		// A node may still know the receipt of a block that was left behind.
		if ((await readBlockHash(client, receipt.blockNumber)) === receipt.blockHash) {
			const state = receipt.status === "success" ? "confirmed" : "reverted";
			const moved = minedInOf(receipt, isDeep(view, blockNumber, finality));
			return { kind: "moved", entry: { ...entry, state, minedIn: moved } };
		}
		isUnsure = true;
	}
	return isUnsure ? { kind: "there", entry } : undefined;
}

export function minedInOf({ blockNumber, blockHash, transactionHash }: TransactionReceipt, final: boolean): MinedIn {
	return { blockNumber: Number(blockNumber), blockHash, transactionHash, final };
}

function isDeep({ head }: ChainView, blockNumber: number, finality: number): boolean {
	return head - BigInt(blockNumber) + 1n >= BigInt(finality);
}
