import type { Hex } from "viem";
import type { Challenge } from "../../protocol/index.ts";
import type { PayerChannelState } from "../state.ts";

/**
 * What the payer knows of a channel's end. `open`: vouchers may be signed for it. `forgotten`: they are not any more, and the
 * escrow may still hold its deposit. `closed`: it was paid out, and is kept as evidence.
 */
export type ChannelStatus = "open" | "forgotten" | "closed";

/** A transaction by which the payer gets its deposit back; kept before it is broadcast. */
export type RecoveryTransaction = Readonly<{
	kind: "requestClose" | "withdraw";
	hash: Hex;
	nonce: number;
	atMs: number;
}>;

/** One channel as it is kept. */
export type ChannelRecord = Readonly<{
	/** `keptKey`: the payer, and the origin, chain, escrow, token and payee that it pays. */
	key: string;
	status: ChannelStatus;
	/** `state.signed` is the highest amount that any voucher was ever signed for: written before that voucher leaves (I11). */
	state: PayerChannelState;
	/** The private key of the session key that was made for this channel alone. A secret: it never leaves the store's files. */
	sessionKey?: Hex;
	/** The challenge that its vouchers answer, so that the next process need not ask for one. */
	challenge?: Challenge;
	/** What the payer has sent itself to get the deposit back, the newest last. */
	recovery?: readonly RecoveryTransaction[];
	createdAtMs: number;
	/** Until when what was signed for its deposit may be executed; absent: for ever. */
	fundableUntilMs?: number;
}>;

/**
 * A channel that this holder alone may sign for. `fence` rises with every holder: what is written under an older one is
 * refused, so a process that was taken for dead can't fork the channel's amount.
 */
export type HeldChannel = Readonly<{ record: ChannelRecord; fence: number }>;

/** A channel in a list. */
export type ListedChannel = Readonly<{ record: ChannelRecord; isHeld: boolean }>;

/** Which channels are listed: all of them, unless it says whether the closed ones or the others. */
export type ListOptions = Readonly<{ isClosed?: boolean }>;

/** A channel whose record can't be read any more. It is left as it is, and nothing is signed for it. */
export type DamagedChannel = Readonly<{ channelId: Hex; reason: string }>;

/** Something that is counted, in base units of a token, and may have a limit. The key names what and, if any, its time window. */
export type Counter = Readonly<{
	key: string;
	add: bigint;
	/** The write is refused where the count would rise above it. */
	max?: bigint;
	/** Unix milliseconds after which the count is of no interest any more. */
	untilMs?: number;
}>;

/** What is written at once, or not at all. */
export type StoreWrite = Readonly<{
	/** A held channel's new record. */
	channel?: HeldChannel;
	counters?: readonly Counter[];
	/** What it is for moves money, whether or not it counts any: refused while the store is paused. */
	isSpending?: boolean;
}>;

/** The first counter that would have risen above its limit: nothing was written. */
export type CounterRefusal = Readonly<{ key: string; current: bigint; max: bigint }>;

/** What was paid, as its receipt says. Of a channel's vouchers only the last one's is kept: they are cumulative. */
export type ReceiptRecord = Readonly<{
	kind: "charge" | "open" | "topUp" | "voucher" | "close";
	atMs: number;
	url: string;
	method: string;
	/** What was paid with this one, in base units. */
	amount: string;
	chainId: number;
	token: string;
	payee: string;
	channelId?: Hex;
	challenge: Challenge;
	/** The `Payment-Receipt` as JSON. */
	receipt: Readonly<Record<string, unknown>>;
}>;

/** A transfer of the payer's own that pays for a charge, and may not have been used for one. `id` is chosen at random. */
export type PaymentRecord = Readonly<{ id: Hex; atMs: number }> &
	Readonly<
		| { /** Broadcast by the payer. */ type: "hash"; hash: Hex; nonce: number }
		/** Signed for others to broadcast. `raw` is a secret: it never leaves the store's files but to who is paid. */
		| { type: "transaction"; hash: Hex; nonce: number; raw: Hex }
		/** An account that sends by itself may have sent it, in a block from this one on: its hash was never told. */
		| { type: "untold"; fromBlock: number }
	>;

/**
 * What one payer keeps: its channels, what it has signed, its receipts. Shared by the processes of one agent. Whatever
 * resolves is on disk, but `note`.
 */
export interface PayerStore {
	/**
	 * The open channel of this key with the most left in it that nobody holds; it is held by this holder from then on. Where
	 * others hold all of them they are asked to give one back, for `waitMs` at most. `undefined` when there is none.
	 */
	take(key: string, waitMs?: number, signal?: AbortSignal): Promise<HeldChannel | undefined>;

	/** As `take`, for one channel whatever its status. `undefined` when there is no such channel, or others keep it. */
	takeById(channelId: Hex, waitMs?: number, signal?: AbortSignal): Promise<HeldChannel | undefined>;

	/**
	 * Adds a channel, held from then on. One that is there already is taken instead, as by `takeById`, and keeps the higher `signed`.
	 *
	 * @param max - how many may be open or forgotten, this one included
	 * @returns `undefined` when there are that many already: nothing was written
	 */
	add(record: ChannelRecord, max: number): Promise<HeldChannel | undefined>;

	/**
	 * Writes a held channel and counts, in one: both are on disk when it resolves, or neither. `signed` never falls.
	 *
	 * @throws HolderLostError when the channel is another holder's by now
	 * @throws PausedError when it counts or is spending, and the store is paused
	 */
	write(write: StoreWrite): Promise<CounterRefusal | undefined>;

	/**
	 * Whether more may be paid out of what was signed and written before: nothing is written.
	 *
	 * @throws HolderLostError when the channel is another holder's by now
	 * @throws PausedError when the store is paused
	 */
	confirm(channelId: Hex, fence: number): Promise<void>;

	/**
	 * Gives a channel back. Does nothing where it is another holder's by now. One that was closed before anything was signed for
	 * it is forgotten then; of the other closed ones the last `MAX_CLOSED_CHANNELS` are kept.
	 */
	release(channelId: Hex, fence: number): Promise<void>;

	/** All but the damaged ones. Without the closed ones it costs the same however many of those there are. */
	list(options?: ListOptions): Promise<readonly ListedChannel[]>;
	damaged(): Promise<readonly DamagedChannel[]>;

	/** Current counts, in the order of the keys; 0 for what was never counted. */
	counts(keys: readonly string[]): Promise<readonly bigint[]>;

	/** Keeps a receipt: soon on disk, not at once. At most `MAX_RECEIPTS`, the oldest go first. */
	note(receipt: ReceiptRecord): Promise<void>;

	/** The newest first. */
	receipts(limit?: number): Promise<readonly ReceiptRecord[]>;

	/**
	 * Keeps a payment before it is broadcast, or signed for others: this holder uses it from then on. One of the same `id` is
	 * replaced. Of more than `MAX_PAYMENTS` the oldest that nobody uses goes.
	 *
	 * @param key - what it can pay for
	 */
	keepPayment(key: string, payment: PaymentRecord): Promise<void>;

	/**
	 * The oldest payment of this key that nobody uses: this holder does from then on. When it is gone others may.
	 *
	 * @param call - names the call, where it may have to be repeated: then it takes the same one
	 * @throws PausedError when the store is paused
	 */
	takePayment(key: string, call?: string): Promise<PaymentRecord | undefined>;

	/** Lets others use a payment. */
	freePayment(key: string, id: Hex): Promise<void>;

	/** Forgets a payment: it was used, or can't be any more. */
	dropPayment(key: string, id: Hex): Promise<void>;

	/** Stops, or lets go on, everything that counts, for every process and across restarts. */
	setPaused(reason: string | undefined): Promise<void>;
	paused(): Promise<string | undefined>;

	/** Calls whenever another holder would like to have a channel that this one holds. Returns how to stop that. */
	onWanted(listener: (channelId: Hex) => void): () => void;

	/** Gives everything back and lets go of the files. */
	close(): Promise<void>;
}

/** How many closed channels are kept, the ones that were closed last. */
export const MAX_CLOSED_CHANNELS = 1_000;

/** How many receipts are kept besides the last one of each channel that is kept. */
export const MAX_RECEIPTS = 10_000;

/** How many payments are kept of which it is not known that they were used. */
export const MAX_PAYMENTS = 1_000;

/** Another process of the agent has this channel by now: nothing was written, and nothing may be signed. */
export class HolderLostError extends Error {
	override readonly name = "HolderLostError";
	readonly code = "HOLDER_LOST";
	readonly channelId: Hex;
	constructor(channelId: Hex) {
		super(`channel ${channelId} is used by another process by now; take it again, or another one`);
		this.channelId = channelId;
	}
}

/** Somebody has stopped all spending of this wallet. */
export class PausedError extends Error {
	override readonly name = "PausedError";
	readonly code = "PAUSED";
	readonly reason: string;
	constructor(reason: string) {
		super(`spending is paused: ${reason}; \`sluice wallet unpause\` lets it go on`);
		this.reason = reason;
	}
}

/** The store can't be reached, or its files can't be read or written. Nothing is signed without it. */
export class PayerStoreError extends Error {
	override readonly name = "PayerStoreError";
	readonly code = "PAYER_STORE";
}
