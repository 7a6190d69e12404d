/**
 * Transactions of an account that sends by itself: their hashes are told too late to be on disk before they are sent. What is on
 * disk first is that there may be one; the chain tells what became of it.
 */
import type { Address, Hex, PublicClient } from "viem";
import { type EscrowEvent, readEscrowEvents } from "../escrow/escrowEvents.ts";
import { erc3009Abi } from "../escrow/generated/erc3009.ts";
import type { PayerChannel } from "./channel.ts";
import { NO_NONCE, type SentTransaction } from "./wallet.ts";

/** How far back what an untold transaction did is looked for: nodes refuse wide ranges. */
const LOOKBACK_BLOCKS = 5_000n;

/** Stands for a transaction that may be on its way, and whose hash nobody has told yet. */
export const UNTOLD: SentTransaction = { hash: `0x${"00".repeat(32)}`, nonce: NO_NONCE };

export function isUntold({ hash }: Readonly<{ hash: Hex }>): boolean {
	return hash === UNTOLD.hash;
}

/**
 * Whether an account that was asked to send says by its error that it has sent nothing: `USER_REJECTED`, `TRANSACTION_NOT_SENT`,
 * or `PROVIDER` for want of the account or the chain. All else may have been sent.
 */
export function isNothingSent(error: unknown): boolean {
	const { code, reason } = (error ?? {}) as Readonly<{ code?: unknown; reason?: unknown }>;
	if (code === "PROVIDER") return reason === "account" || reason === "chain";
	return code === "USER_REJECTED" || code === "TRANSACTION_NOT_SENT";
}

/** What the escrow has said of a channel lately, the oldest first. */
export async function readChannelEvents(
	client: PublicClient,
	{ channelId, parameters: { escrow } }: PayerChannel,
): Promise<readonly EscrowEvent[]> {
	const head = await client.getBlockNumber({ cacheTime: 0 });
	const fromBlock = head > LOOKBACK_BLOCKS ? head - LOOKBACK_BLOCKS : 0n;
	return readEscrowEvents(client, escrow, { fromBlock, toBlock: head, channelId });
}

/** A transfer that a charge wants. `amount` in base units. */
export type ChargeTransfer = Readonly<{ token: Address; from: Address; to: Address; amount: bigint }>;

/** The first transaction from `fromBlock` on that has made such a transfer. */
export async function findTransfer(
	client: PublicClient,
	{ token, from, to, amount }: ChargeTransfer,
	fromBlock: number,
): Promise<SentTransaction | undefined> {
	const head = await client.getBlockNumber({ cacheTime: 0 });
	const first = BigInt(fromBlock);
	// A node may be behind the one that was asked before.
	if (head < first) return undefined;
	const last = first + LOOKBACK_BLOCKS;
	const logs = await client.getContractEvents({
		address: token,
		abi: erc3009Abi,
		eventName: "Transfer",
		args: { from, to },
		fromBlock: first,
		toBlock: head < last ? head : last,
	});
	const made = logs.find(({ args }) => args.value === amount);
	return made && { hash: made.transactionHash, nonce: NO_NONCE };
}
