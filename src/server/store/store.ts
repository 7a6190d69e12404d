import type { Hex } from "viem";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import type { SessionReceipt } from "../../protocol/index.ts";
import type { Channel } from "../channel.ts";
import type { Holder } from "./holder.ts";
import { DIGITS, sortable } from "./sortable.ts";

/**
 * Something that may be used once: a credential, a challenge, a funding transaction, an authorization's nonce (I4).
 * Absent means never used. `held` is a use that has begun: it ends as `used`, or its record is deleted. What money moves
 * for is `held` until the money has moved, then `paid`, then `serving` while a request is served for it, then `used`.
 */
export type ProofRecord = Readonly<{
	/** One made by `datedProof` says by itself when it may be deleted. */
	key: string;
	state: "held" | "paid" | "serving" | "used";
	/** The process that holds it (`ChannelStore.owner`). */
	owner: string;
	/** Who used it: a channel id, a payer. */
	usedBy: string;
	/** What it led to, for example a transaction hash. */
	reference?: string;
	/** Unix milliseconds after which the record may be deleted; `null`: never. */
	expiresAt: number | null;
}>;

const DATED = "dated:";

/**
 * The key of a proof that may be deleted from `expiresAt` on, in Unix milliseconds: for what each request brings, such as its
 * credential. Its place is ordered by that time, so that it needs no entry in an index, and is deleted without being read.
 */
export function datedProof(expiresAt: number, name: string): string {
	return dated(expiresAt) + name;
}

/** Whether `key` is a dated one of another time than `expiresAt`. */
export function isMisdated(key: string, expiresAt: number | null): boolean {
	return isDatedProof(key) && (expiresAt === null || !key.startsWith(dated(expiresAt)));
}

function dated(expiresAt: number): string {
	let prefix = PREFIXES.get(expiresAt);
	if (prefix === undefined) {
		prefix = `${DATED}${sortable(expiresAt)}:`;
		if (PREFIXES.size >= MOST_PREFIXES) PREFIXES.clear();
		PREFIXES.set(expiresAt, prefix);
	}
	return prefix;
}

// A request asks several times for proofs of the time at which its challenge expires, and so does the next one for it.
const PREFIXES = new Map<number, string>();
const MOST_PREFIXES = 1_000;

export function isDatedProof(key: string): boolean {
	return key.startsWith(DATED);
}

/** When a dated proof expires, by its key; `undefined` of any other. */
export function dateOf(key: string): number | undefined {
	return isDatedProof(key) ? Number(key.slice(DATED.length, DATED.length + DIGITS)) : undefined;
}

/** An answer kept so that a retry gets it again. */
export type StoredResponse = Readonly<{
	status: number;
	/** Several values where a field stands several times, as Set-Cookie may. */
	headers: Readonly<Record<string, string | readonly string[]>>;
	/** A session's receipt, whose field is not among `headers`: as text it would be two thirds of the record. */
	receipt?: SessionReceipt;
	/** `null` when the body was a stream or longer than what is kept: then a retry can't be answered with it. */
	body: Uint8Array | null;
}>;

/** What became of one `Idempotency-Key` (I6). */
export type IdempotencyRecord = Readonly<{
	key: string;
	/** Of the request that came with the key first: another one with the same key is refused. */
	fingerprint: string;
	/** `running` of an owner that is gone means that nothing was captured: it counts as absent, unless it says `paidBy`. */
	state: "running" | "done";
	owner: string;
	/** The proof that pays for it: money that moves, or has moved, for this request, whoever began it. */
	paidBy?: string;
	response?: StoredResponse;
	/** Unix milliseconds. */
	expiresAt: number;
}>;

/** How far a follower of the chain has come. */
export type CursorRecord = Readonly<{ name: string; blockNumber: bigint; blockHash: Hex; updatedAt: number }>;

/** One line of the audit log: what happened to money, when. No secrets, no signatures. */
export type AuditEntry = Readonly<{
	/** Unix milliseconds. */
	at: number;
	kind: string;
	channelId?: Hex;
	/** Amounts as decimal strings, hashes, ids. */
	values: Readonly<Record<string, string>>;
}>;

/** A record that could not be read back: its place, and why. Nothing is repaired silently. */
export type QuarantinedRecord = Readonly<{ key: string; reason: string }>;

/** What a turn reads and may write. Turns that name a common key run one after the other. */
export type TurnKeys = Readonly<{
	channel?: Hex;
	proofs?: readonly string[];
	/** The one of them that the turn will most likely look at: a store may read it before. */
	sought?: string | undefined;
	idempotency?: string;
}>;

export type TurnView = Readonly<{
	channel: Channel | undefined;
	proof(key: string): ProofRecord | undefined;
	idempotency: IdempotencyRecord | undefined;
}>;

/** Idempotency records are deleted by `null`. Channels, outbox entries and audit lines are never deleted. */
export type TurnWrites = Readonly<{
	channel?: Channel;
	/** Each once, here or among those that are deleted. A list: V8 keeps the shapes of objects whose names are their own for long. */
	proofs?: readonly ProofRecord[];
	/** The keys of proofs that are deleted. */
	deletedProofs?: readonly string[];
	idempotency?: IdempotencyRecord | null;
	/** New or changed transactions, keyed by hash: any, whatever the keys. */
	outbox?: readonly OutboxEntry[];
	audit?: readonly AuditEntry[];
}>;

export type Turn<T> = Readonly<{ value: T; writes?: TurnWrites }>;

/**
 * The outcome of a turn. `value` is there as soon as the turn ran; `durable` resolves when its writes, and those of
 * every turn before it on the same keys, are on disk (I5). Nothing may be acknowledged before. A store sees to it that nobody
 * has to listen to its rejection: not every turn is acknowledged.
 */
export type Committed<T> = Readonly<{ value: T; durable: Promise<void> }>;

/** Which channels are due for settlement or close. */
export type DueOrder =
	/** Highest unsettled value first (to within a factor of two). */
	| "unsettled"
	/** Longest idle first (to within a minute), counted anew from when it was deferred. */
	| "idle"
	/** What has been owed longest first (to within a minute), counted anew from when it was deferred. */
	| "age"
	/** The same, of those whose highest voucher only a contract vouches for. */
	| "contract"
	/** Owed, and the payer has asked the chain to close: the earliest request first (to within a minute). */
	| "closing";

/** Which transactions of ours. */
export type OutboxState =
	/** Their outcome is unknown. */
	| "pending"
	/** Their outcome is known, and a reorganization may still change it. */
	| "unfinal"
	| "any";

/**
 * Where the server keeps what it has promised. Small on purpose, and free of anything only one process can do: a turn
 * is a transaction over the records it names. One conformance suite (`test/server/store/conformance.ts`) runs over
 * every implementation.
 */
export interface ChannelStore {
	/** Names this process's reservations and held records; new at every start. */
	readonly owner: string;

	/** Whether the process of that name is gone for ever, and with it what it had promised. */
	isGone(owner: string): boolean;

	/**
	 * Runs `turn` alone on the records that `keys` name: no other turn sees them between its reads and its writes.
	 * `turn` is synchronous and pure: it may run again, or never.
	 *
	 * @throws CorruptRecordError when a record can't be read back: the channel is out of use until someone looks
	 * @throws StoreUnavailableError when the store is closed or a write failed; what was not durable is lost
	 */
	transact<T>(keys: TurnKeys, turn: (view: TurnView) => Turn<T>): Promise<Committed<T>>;

	/** The same, where it is at hand without waiting; `undefined` says nothing: ask `channel`. */
	peek(channelId: Hex): Channel | undefined;

	/** The channel as the last turn left it. */
	channel(channelId: Hex): Promise<Channel | undefined>;

	/** Channels that have something to settle or were long idle, in order. A snapshot: turns may change them meanwhile. */
	due(order: DueOrder, options?: { limit?: number }): AsyncIterable<Channel>;

	/** All channels, in the order of their ids, for operators and recovery. */
	channels(options?: { after?: Hex }): AsyncIterable<Channel>;

	/** Transactions of ours, ordered by creation. */
	outbox(options: { state: OutboxState }): AsyncIterable<OutboxEntry>;

	cursor(name: string): Promise<CursorRecord | undefined>;
	putCursor(cursor: CursorRecord): Promise<void>;

	audit(options?: { afterMs?: number }): AsyncIterable<AuditEntry>;

	/** Records found unreadable since the start. */
	quarantined(): readonly QuarantinedRecord[];

	/** Deletes proofs and idempotency records that expired before `now` (Unix ms). Resolves to how many. */
	prune(now: number): Promise<number>;

	/** Waits for what is being written, then lets go of the store. */
	close(): Promise<void>;
}

/** A stored value is damaged. Its channel is quarantined: refused until an operator has looked. */
export class CorruptRecordError extends Error {
	override readonly name = "CorruptRecordError";
	readonly code = "CORRUPT_RECORD";
	readonly key: string;
	constructor(key: string, reason: string) {
		super(`store record ${key} is damaged (${reason}); restore it from a backup, nothing was repaired`);
		this.key = key;
	}
}

/** The store can't be used: closed, in use by another process, not there, or its disk failed. */
export class StoreUnavailableError extends Error {
	override readonly name = "StoreUnavailableError";
	readonly code = "STORE_UNAVAILABLE";
	/** `held`: this or another process has it open; `missing`: there is none; `failed`: everything else. */
	readonly reason: "held" | "missing" | "failed";
	/** The other process that has it open, if it said so. */
	readonly holder?: Holder;
	constructor(
		message: string,
		{
			reason = "failed",
			holder,
			...options
		}: ErrorOptions & { reason?: "held" | "missing" | "failed"; holder?: Holder } = {},
	) {
		super(message, options);
		this.reason = reason;
		if (holder !== undefined) this.holder = holder;
	}
}
