import type { Address, Hex } from "viem";

/** What makes a channel this channel: fixed when it opens, hashed into `channelId` (draft-evm-session-00, Channel State). */
export type ChannelIdentity = Readonly<{
	channelId: Hex;
	chainId: number;
	escrow: Address;
	payer: Address;
	payee: Address;
	token: Address;
	/** As given at opening; the zero address means the payer signs (D13). */
	authorizedSigner: Address;
}>;

/** The part of a channel that the chain decides. Amounts in base units of the token. */
export type ChainState = Readonly<{
	deposit: bigint;
	settledOnChain: bigint;
	/** Unix seconds of the payer's close request, 0 when there is none. */
	closeRequestedAt: number;
	finalized: boolean;
	/** The block as of which the chain says so. */
	blockNumber: number;
}>;

/**
 * One channel as the server keeps it. Amounts are base units of the token.
 * Invariant I1: `0 <= spent + reserved <= acceptedCumulative <= deposit < 2^128` and `settledOnChain <= deposit`.
 */
export type Channel = ChannelIdentity &
	ChainState &
	Readonly<{
		/** Unix milliseconds of the chain state above (D2). */
		chainReadAt: number;
		/**
		 * What the chain shows since a reorganization took back part of the chain state above, which was relied on. The channel is
		 * frozen until the chain has caught up: nothing is sold on it. `null`: the chain is not behind.
		 */
		behind: ChainState | null;
		/** Highest voucher accepted, and its signature. */
		acceptedCumulative: bigint;
		voucherSignature: Hex;
		/** Only the signer's contract says that this signature is good (ERC-1271): it may change its mind before it is settled. */
		contractSigner: boolean;
		/** Delivered, cumulative. */
		spent: bigint;
		/** Promised to requests that have not finished, by the process that runs them. A process that is gone promised nothing. */
		reservations: Readonly<Record<string, bigint>>;
		/** Grows when open reservations are abandoned, so that a late capture of an abandoned one is refused. */
		generation: number;
		/** Highest amount that stood in a transaction of ours: from then on its signature is public (D7). `null`: none did. */
		publishedCumulative: bigint | null;
		/** The challenges under which this channel advanced last, newest first, bounded (D7, D9). */
		challengeIds: readonly string[];
		/** The transaction that closed it cooperatively. */
		closeTxHash: Hex | null;
		/** The process that is closing it cooperatively, if any: no new voucher and no new reservation meanwhile (D6). */
		closingBy: string | null;
		/** Unix milliseconds. */
		openedAt: number;
		lastActivityAt: number;
		/** Unix milliseconds since when something is owed on chain; `null` when nothing is. */
		unsettledSince: number | null;
		/** Unix milliseconds of the last time it was found not worth a transaction; 0: never. */
		deferredAt: number;
	}>;

/** What is promised to running requests, by all processes together. */
export function reserved(channel: Channel): bigint {
	let sum = 0n;
	// On every request's way: no list is made of them.
	for (const owner in channel.reservations) sum += channel.reservations[owner] ?? 0n;
	return sum;
}

/** What can still be spent: `acceptedCumulative - spent - reserved`. */
export function available(channel: Channel): bigint {
	return channel.acceptedCumulative - channel.spent - reserved(channel);
}

/** What the chain shows now, also where that is less than was relied on. */
export function chainNow(channel: Channel): ChainState {
	return channel.behind ?? channel;
}

/**
 * Whether the escrow would take the highest voucher now: it is the only one kept, and the escrow refuses one above the
 * deposit, which a reorganization may have taken away.
 */
export function isRedeemable(channel: Channel): boolean {
	const { deposit, finalized } = chainNow(channel);
	return !finalized && channel.acceptedCumulative <= deposit;
}

/** Whether there is anything that the payee could capture on chain now and has not. */
export function owes(channel: Channel): boolean {
	return isRedeemable(channel) && chainNow(channel).settledOnChain < channel.acceptedCumulative;
}

/** What the payee could capture on chain now and has not. */
export function unsettled(channel: Channel): bigint {
	return owes(channel) ? channel.acceptedCumulative - chainNow(channel).settledOnChain : 0n;
}
