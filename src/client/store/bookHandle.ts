import type { Hex } from "viem";
import type { PayerBook } from "./payerBook.ts";
import type {
	ChannelRecord,
	CounterRefusal,
	DamagedChannel,
	HeldChannel,
	ListedChannel,
	ListOptions,
	PayerStore,
	PaymentRecord,
	ReceiptRecord,
	StoreWrite,
} from "./store.ts";

/** A book as one holder uses it. */
export class BookHandle implements PayerStore {
	readonly book: PayerBook;
	/** Who it is among the holders of the book. */
	readonly holder: string;

	constructor(book: PayerBook, holder: string) {
		this.book = book;
		this.holder = holder;
	}

	async take(key: string, waitMs?: number, signal?: AbortSignal): Promise<HeldChannel | undefined> {
		return await this.book.take(this.holder, { key }, { waitMs, signal });
	}

	async takeById(channelId: Hex, waitMs?: number, signal?: AbortSignal): Promise<HeldChannel | undefined> {
		return await this.book.take(this.holder, { channelId }, { waitMs, signal });
	}

	async add(record: ChannelRecord, max: number): Promise<HeldChannel | undefined> {
		return await this.book.add(this.holder, record, max);
	}

	async write(write: StoreWrite): Promise<CounterRefusal | undefined> {
		return await this.book.write(this.holder, write);
	}

	async confirm(channelId: Hex, fence: number): Promise<void> {
		await this.book.confirm(this.holder, channelId, fence);
	}

	async release(channelId: Hex, fence: number): Promise<void> {
		await this.book.release(this.holder, channelId, fence);
	}

	async list(options?: ListOptions): Promise<readonly ListedChannel[]> {
		return await this.book.list(this.holder, options);
	}

	async damaged(): Promise<readonly DamagedChannel[]> {
		return await this.book.damaged(this.holder);
	}

	async counts(keys: readonly string[]): Promise<readonly bigint[]> {
		return await this.book.counts(this.holder, keys);
	}

	async note(receipt: ReceiptRecord): Promise<void> {
		await this.book.note(this.holder, receipt);
	}

	async receipts(limit?: number): Promise<readonly ReceiptRecord[]> {
		return await this.book.receipts(this.holder, limit);
	}

	async keepPayment(key: string, payment: PaymentRecord): Promise<void> {
		await this.book.keepPayment(this.holder, key, payment);
	}

	async takePayment(key: string, call?: string): Promise<PaymentRecord | undefined> {
		return await this.book.takePayment(this.holder, key, call);
	}

	async freePayment(key: string, id: Hex): Promise<void> {
		await this.book.freePayment(this.holder, key, id);
	}

	async dropPayment(key: string, id: Hex): Promise<void> {
		await this.book.dropPayment(this.holder, key, id);
	}

	async setPaused(reason: string | undefined): Promise<void> {
		await this.book.setPaused(this.holder, reason);
	}

	async paused(): Promise<string | undefined> {
		return await this.book.paused(this.holder);
	}

	onWanted(listener: (channelId: Hex) => void): () => void {
		return this.book.onWanted(this.holder, listener);
	}

	/** Gives everything back. The book stays open for its other holders. */
	async close(): Promise<void> {
		await this.book.holderGone(this.holder);
	}
}
