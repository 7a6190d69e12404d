/** What can happen to a channel, and what comes of it: the words that the ledger and the shell around it share. */
import type { Hex } from "viem";
import type { Problem } from "../protocol/index.ts";
import type { ChainState, Channel, ChannelIdentity } from "./channel.ts";

/** A voucher whose signature was verified. */
export type VerifiedVoucher = Readonly<{
	cumulativeAmount: bigint;
	signature: Hex;
	challengeId: string;
	/** Only the signer's contract says that it is good (ERC-1271). */
	byContract?: boolean;
}>;

/** A promise to one running request: the right to capture up to `amount` once. */
export type Reservation = Readonly<{ owner: string; generation: number; amount: bigint }>;

export type LedgerEvent =
	/** The chain shows the channel as funded and its first voucher is good. Only for an unknown channel. */
	| Readonly<{
			type: "opened";
			identity: ChannelIdentity;
			chain: ChainState;
			voucher: VerifiedVoucher;
			minimum: bigint;
			/**
			 * This channel may have been served here before, and nothing is known of it (D10): all that was signed counts as spent,
			 * but `price`, which this request asks for. Absent: it is new.
			 */
			unaccounted?: Readonly<{ price: bigint }>;
	  }>
	/** A voucher arrived. Stale and equal ones change nothing and are no problem. */
	| Readonly<{ type: "voucher"; voucher: VerifiedVoucher; minVoucherDelta: bigint }>
	/** A request wants `amount` held for it; `voucher` is the one it came with. */
	| Readonly<{
			type: "reserve";
			amount: bigint;
			owner: string;
			voucher: Pick<VerifiedVoucher, "cumulativeAmount" | "challengeId">;
			minVoucherDelta: bigint;
	  }>
	/** A request that was admitted before wants `amount` more held for it, out of what vouchers have brought since. */
	| Readonly<{ type: "extend"; amount: bigint; owner: string }>
	/** The request was served and cost `used`; the rest of its reservation is free again. */
	| Readonly<{ type: "capture"; reservation: Reservation; used: bigint }>
	/** The request failed or was aborted: it costs nothing (I7). */
	| Readonly<{ type: "release"; reservation: Reservation }>
	/** These processes are gone, and with them what they had promised: nothing of it was captured. */
	| Readonly<{ type: "recovered"; gone: readonly string[] }>
	/**
	 * The chain was read. What it showed at an earlier block than the one known is old news, unless the blocks from there on
	 * were `reorganized`.
	 */
	| Readonly<{ type: "chain-observed"; chain: ChainState; closeTxHash?: Hex; reorganized?: boolean }>
	/** The client asked to close: no new vouchers and reservations from here on (D6). */
	| Readonly<{ type: "close-begun"; owner: string; voucher: Pick<VerifiedVoucher, "cumulativeAmount" | "challengeId"> }>
	/** The server closes the channel by its own decision: no new vouchers and reservations from here on. */
	| Readonly<{ type: "retire-begun"; owner: string }>
	/** A restart found a close of ours on its way to the chain. */
	| Readonly<{ type: "close-resumed"; owner: string }>
	/** The drain is over: what is still open is abandoned, and this voucher is the last. */
	| Readonly<{ type: "close-decided" } & Omit<VerifiedVoucher, "challengeId">>
	/** A transaction with this voucher is about to be broadcast: from now on anyone may know its signature (D7). */
	| Readonly<{ type: "publishing"; cumulativeAmount: bigint }>
	/** It is not worth a transaction now: it is looked at again when it has been due once more. */
	| Readonly<{ type: "deferred" }>
	/** The close did not happen; the channel takes vouchers again. Where it names an `owner`, only that process's close ends. */
	| Readonly<{ type: "close-failed"; owner?: string }>;

/** What the shell around the ledger has to do after the new state is stored. */
export type Effect =
	/** Nothing is running on a closing channel: the close can go on. */
	| "drained"
	/** The payer asked the chain to close: what is owed has to be settled within the grace period (I9). */
	| "close-requested"
	/** A reorganization took back what was relied on: nothing is sold until the chain has caught up (I10). */
	| "frozen"
	/** The chain shows again what was relied on. */
	| "thawed"
	/** The channel is finalized on chain. */
	| "closed";

export type Transition =
	| Readonly<{ ok: true; channel: Channel; effects: readonly Effect[] }>
	| Readonly<{ ok: false; problem: Problem }>;
