import { MemoryKv } from "./memoryKv.ts";
import { PayerBook, type PayerBookOptions } from "./payerBook.ts";
import { SharedStore } from "./sharedStore.ts";

/**
 * Keeps everything in memory: it is gone with the process, and a channel that was not closed has to be got back by a
 * transaction of the payer's own. For tests, and for a client that closes its channels before it ends.
 *
 * @example
 * const client = new PaymentClient({ ...options, store: new MemoryPayerStore() });
 */
export class MemoryPayerStore extends SharedStore {
	constructor(options: PayerBookOptions = {}) {
		super(new PayerBook(new MemoryKv(), options));
	}
}
