import { toHex } from "viem";
import { BookHandle } from "./bookHandle.ts";
import type { PayerBook } from "./payerBook.ts";

/** How many stores of this process use a book: the last one to close closes it. */
type Users = { count: number };

/** A store that can be shared by several clients of one process, each of which holds channels of its own. */
export class SharedStore extends BookHandle {
	readonly #users: Users;
	#closing: Promise<void> | undefined;

	constructor(book: PayerBook, holder: string = newHolder(), users: Users = { count: 0 }) {
		super(book, holder);
		book.arrive(holder);
		users.count++;
		this.#users = users;
	}

	/**
	 * Another store over the same channels, counts and receipts, which holds channels of its own.
	 *
	 * @example
	 * const store = new MemoryPayerStore();
	 * const clients = [new PaymentClient({ ...options, store }), new PaymentClient({ ...options, store: store.share() })];
	 */
	share(): SharedStore {
		return new SharedStore(this.book, newHolder(), this.#users);
	}

	override close(): Promise<void> {
		this.#closing ??= this.#close();
		return this.#closing;
	}

	async #close(): Promise<void> {
		await super.close();
		if (--this.#users.count === 0) await this.book.close();
	}
}

/** A name that no other holder has. */
export function newHolder(): string {
	return toHex(crypto.getRandomValues(new Uint8Array(16)));
}
