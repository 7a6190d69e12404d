import type { Hex } from "viem";
import { BookHandle } from "./bookHandle.ts";
import { readChannels } from "./channelList.ts";
import { type ClosedBounds, pruneClosed } from "./closed.ts";
import { countAll, pruneCounts, readCounts } from "./counts.ts";
import { Holders, type Neighbours } from "./holders.ts";
import { type ClaimedHold, confirmHold, freeAll, heldRow, keepHeld } from "./holds.ts";
import { LIVE } from "./keys.ts";
import type { Kv } from "./kv.ts";
import { readPause, recallPause, writePause } from "./pause.ts";
import { dropPayment, freePayment, keepPayment, takePayment } from "./paymentBook.ts";
import { keepReceipt, readReceipts } from "./receiptBook.ts";
import { Recent } from "./recent.ts";
import { type Exclusive, Rounds, type View } from "./rounds.ts";
import { changed, free, hold, readRow, writeRow } from "./rows.ts";
import {
	type ChannelRecord,
	type CounterRefusal,
	type DamagedChannel,
	type HeldChannel,
	type ListedChannel,
	type ListOptions,
	MAX_CLOSED_CHANNELS,
	MAX_PAYMENTS,
	MAX_RECEIPTS,
	PausedError,
	type PayerStore,
	PayerStoreError,
	type PaymentRecord,
	type ReceiptRecord,
	type StoreWrite,
} from "./store.ts";
import { type Patience, Takers, type Wish } from "./takers.ts";

/** How many writes count something before old counts are looked for again. */
const COUNTED_BETWEEN_PRUNES = 1_000;
const GRACE_MS = 2_000;

export type PayerBookOptions = Readonly<{
	/** Runs a task while nobody else who shares the database runs one. To be left out where this book alone has it: that is quicker. */
	exclusive?: Exclusive;
	/** Those who share the database without sharing this book. */
	neighbours?: Neighbours;
	/** How long, in milliseconds, a channel stays with a holder of which only the files know: 2,000 unless given. */
	graceMs?: number;
	/** The wall clock, in Unix milliseconds. */
	now?: () => number;
	/** `MAX_RECEIPTS` unless given. */
	maxReceipts?: number;
	/** `MAX_CLOSED_CHANNELS` unless given. */
	maxClosed?: number;
	/** `MAX_PAYMENTS` unless given. */
	maxPayments?: number;
}>;

/**
 * All that a payer keeps, for any number of holders, over any database: the one place for what a write checks. Each turn is
 * alone from its first read to its write, and what resolves is on disk.
 *
 * @example
 * const book = await PayerBook.open(new LevelKv(db));
 * const store = book.as("process 7");
 * const held = await store.take(key);
 */
export class PayerBook {
	readonly #kv: Kv;
	readonly #rounds: Rounds;
	readonly #holders: Holders;
	readonly #takers: Takers;
	readonly #neighbours: Neighbours | undefined;
	readonly #now: () => number;
	readonly #maxReceipts: number;
	readonly #closedBounds: ClosedBounds;
	readonly #maxPayments: number;
	readonly #stopListening: (() => void) | undefined;
	#countedSincePrune = 0;
	#closing: Promise<void> | undefined;

	constructor(kv: Kv, options: PayerBookOptions = {}) {
		const { exclusive = (task) => task(), neighbours, graceMs = GRACE_MS, now = Date.now } = options;
		this.#kv = kv;
		// Others who write into the same database tell nobody here: then everything is read.
		this.#rounds = new Rounds(kv, exclusive, options.exclusive === undefined ? new Recent() : undefined);
		this.#holders = new Holders({ graceMs, neighbours });
		this.#takers = new Takers(this.#rounds, this.#holders, (holder, { record, fence }) => {
			// What can't be given back now is given back by closing, or by the grace of the next owner.
			this.release(holder, record.state.channelId, fence).catch(() => {});
		});
		this.#neighbours = neighbours;
		this.#now = now;
		this.#maxReceipts = options.maxReceipts ?? MAX_RECEIPTS;
		this.#closedBounds = {
			maxClosed: options.maxClosed ?? MAX_CLOSED_CHANNELS,
			maxReceipts: this.#maxReceipts,
			isBusy: (row) => this.#holders.isBusy(row),
		};
		this.#maxPayments = options.maxPayments ?? MAX_PAYMENTS;
		this.#stopListening = neighbours?.listen({
			wanted: (holder, channelId) => {
				if (this.#holders.isHere(holder)) this.#holders.ask(holder, channelId);
			},
			freed: () => this.#takers.serve(),
		});
	}

	/**
	 * A book over what is there, without the counts that nobody asks for any more.
	 *
	 * @throws PayerStoreError when the database can't be used: it is closed then
	 */
	static async open(kv: Kv, options: PayerBookOptions = {}): Promise<PayerBook> {
		const book = new PayerBook(kv, options);
		try {
			await book.#rounds.run(async (view) => {
				await pruneCounts(view, book.#now());
				await recallPause(view);
			});
			return book;
		} catch (error) {
			await book.close().catch(() => {});
			throw error;
		}
	}

	/** The book as this holder uses it, which is there until `holderGone`. Closing what is returned does the same. */
	as(holder: string): PayerStore {
		this.arrive(holder);
		return new BookHandle(this, holder);
	}

	/** This holder is there. */
	arrive(holder: string): void {
		this.#checkOpen();
		this.#holders.arrive(holder);
	}

	/** What this holder has is free again, at once. */
	async holderGone(holder: string): Promise<void> {
		this.#leave(holder);
		// Once closed, everybody is gone already.
		if (this.#closing === undefined) await this.#rounds.run((view) => freeAll(view, holder, this.#tellFreed));
	}

	/**
	 * A holder is there again, after its connection or the owner of the files was lost. It keeps what it says it has, if
	 * nobody had that since; whatever else is recorded as its own is free.
	 *
	 * @returns the channels that it has lost
	 */
	async holderBack(holder: string, held: readonly ClaimedHold[]): Promise<readonly Hex[]> {
		this.arrive(holder);
		return await this.#rounds.run(async (view) => {
			const kept = await keepHeld(view, holder, held);
			await freeAll(view, holder, this.#tellFreed, kept);
			return held.map(({ channelId }) => channelId).filter((channelId) => !kept.has(channelId));
		});
	}

	/** @throws PayerStoreError */
	async take(holder: string, wish: Wish, patience: Patience): Promise<HeldChannel | undefined> {
		this.#check(holder);
		return await this.#takers.take(holder, wish, patience);
	}

	add(holder: string, record: ChannelRecord, max: number): Promise<HeldChannel | undefined> {
		return this.#turn(holder, async (view) => {
			const row = await readRow(view, record.state.channelId);
			if (row === undefined) {
				const isCounted = record.status !== "closed";
				if (isCounted && (await this.#liveCount(view)) >= max) return undefined;
				const held = hold(view, changed({ record, fence: 0 }, record, this.#now()), holder, undefined);
				if (!isCounted) await pruneClosed(view, this.#closedBounds);
				return held;
			}
			if (await this.#holders.isBusy(row)) return undefined;
			const { state } = row.record;
			const { signed } = record.state;
			const isHigher = BigInt(signed) > BigInt(state.signed);
			const raised = isHigher ? { ...row, record: { ...row.record, state: { ...state, signed } } } : row;
			return hold(view, raised, holder, row);
		});
	}

	/**
	 * @throws HolderLostError
	 * @throws PausedError
	 * @throws SignedLoweredError
	 */
	write(holder: string, { channel, counters = [], isSpending }: StoreWrite): Promise<CounterRefusal | undefined> {
		return this.#turn(holder, async (view) => {
			const row = channel === undefined ? undefined : await heldRow(view, holder, channel);
			if (counters.length > 0 || isSpending === true) {
				const reason = await readPause(view);
				if (reason !== undefined) throw new PausedError(reason);
			}
			if (counters.length > 0) {
				const refusal = await countAll(view, counters);
				if (refusal !== undefined) return refusal;
				await this.#pruneNowAndThen(view);
			}
			if (channel !== undefined && row !== undefined) {
				const { status } = channel.record;
				writeRow(view, changed(row, channel.record, this.#now()), row);
				if (status === row.record.status) return undefined;
				// Whoever waits for one that is open now, or is no longer, need not wait on.
				this.#tellFreed(view);
				if (status === "closed") await pruneClosed(view, this.#closedBounds);
			}
			return undefined;
		});
	}

	/**
	 * @throws HolderLostError
	 * @throws PausedError
	 */
	async confirm(holder: string, channelId: Hex, fence: number): Promise<void> {
		this.#check(holder);
		await confirmHold(this.#rounds.look(), holder, { channelId, fence });
	}

	release(holder: string, channelId: Hex, fence: number): Promise<void> {
		return this.#turn(holder, async (view) => {
			const row = await readRow(view, channelId);
			if (row?.holder !== holder || row.fence !== fence) return;
			free(view, row);
			this.#tellFreed(view);
		});
	}

	async list(holder: string, options?: ListOptions): Promise<readonly ListedChannel[]> {
		this.#check(holder);
		const { rows } = await readChannels(this.#kv, options);
		return await Promise.all(
			rows.map(async (row) => ({ record: row.record, isHeld: await this.#holders.isBusy(row) })),
		);
	}

	async damaged(holder: string): Promise<readonly DamagedChannel[]> {
		this.#check(holder);
		return (await readChannels(this.#kv)).damaged;
	}

	async counts(holder: string, keys: readonly string[]): Promise<readonly bigint[]> {
		this.#check(holder);
		const counts = await readCounts(this.#rounds.look(), keys);
		return counts.map((count) => count?.sum ?? 0n);
	}

	note(holder: string, receipt: ReceiptRecord): Promise<void> {
		return this.#turn(holder, async (view) => {
			view.isSynced = false;
			await keepReceipt(view, receipt, this.#maxReceipts);
		});
	}

	async receipts(holder: string, limit?: number): Promise<readonly ReceiptRecord[]> {
		this.#check(holder);
		return await readReceipts(this.#rounds.look(), limit);
	}

	keepPayment(holder: string, key: string, payment: PaymentRecord): Promise<void> {
		const bounds = { max: this.#maxPayments, isThere: this.#isThere };
		return this.#turn(holder, (view) => keepPayment(view, holder, { key, payment }, bounds));
	}

	/** @throws PausedError */
	takePayment(holder: string, key: string, call?: string): Promise<PaymentRecord | undefined> {
		return this.#turn(holder, (view) => takePayment(view, holder, { key, call }, this.#isThere));
	}

	freePayment(holder: string, key: string, id: Hex): Promise<void> {
		return this.#turn(holder, (view) => freePayment(view, holder, key, id));
	}

	dropPayment(holder: string, key: string, id: Hex): Promise<void> {
		return this.#turn(holder, (view) => dropPayment(view, key, id));
	}

	setPaused(holder: string, reason: string | undefined): Promise<void> {
		return this.#turn(holder, async (view) => writePause(view, reason));
	}

	async paused(holder: string): Promise<string | undefined> {
		this.#check(holder);
		return await readPause(this.#rounds.look());
	}

	onWanted(holder: string, listener: (channelId: Hex) => void): () => void {
		this.#check(holder);
		return this.#holders.onWanted(holder, listener);
	}

	/** Frees what everybody here has, then closes the database. */
	close(): Promise<void> {
		this.#closing ??= this.#close();
		return this.#closing;
	}

	#leave(holder: string): void {
		this.#holders.leave(holder);
		this.#takers.leave(holder);
	}

	async #close(): Promise<void> {
		const gone = this.#holders.all;
		for (const holder of gone) this.#leave(holder);
		try {
			if (gone.length > 0) {
				await this.#rounds.run(async (view) => {
					for (const holder of gone) await freeAll(view, holder, this.#tellFreed);
				});
			}
			await this.#rounds.idle();
		} finally {
			this.#stopListening?.();
			await this.#kv.close();
		}
	}

	#turn<T>(holder: string, turn: (view: View) => Promise<T>): Promise<T> {
		this.#check(holder);
		return this.#rounds.run(async (view) => {
			// It may have been taken for gone since: what it had may be another's by now.
			this.#holders.check(holder);
			return await turn(view);
		});
	}

	#check(holder: string): void {
		this.#checkOpen();
		this.#holders.check(holder);
	}

	#checkOpen(): void {
		if (this.#closing !== undefined) throw new PayerStoreError("this wallet is closed: open it again");
	}

	/** How many channels are open or forgotten. */
	async #liveCount(view: View): Promise<number> {
		return (await view.entries(LIVE)).length;
	}

	readonly #isThere = (holder: string) => this.#holders.isThere(holder);

	/** Whoever waits is told as soon as it is written. */
	readonly #tellFreed = (view: View): void => {
		view.afterwards.push(() => {
			this.#takers.serve();
			this.#neighbours?.tellFreed();
		});
	};

	async #pruneNowAndThen(view: View): Promise<void> {
		if (++this.#countedSincePrune < COUNTED_BETWEEN_PRUNES) return;
		this.#countedSincePrune = 0;
		await pruneCounts(view, this.#now());
	}
}
