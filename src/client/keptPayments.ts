import type { Address, Hex } from "viem";
import { keptKey } from "./channelKey.ts";
import { randomBytes32 } from "./pending.ts";
import type { PayerStore, PaymentRecord } from "./store/store.ts";
import type { SentTransaction, SignedTransaction } from "./wallet.ts";

/** A transfer of the payer's own, as it is kept: see `PaymentRecord`. */
export type Payment = PaymentRecord;

/** One that can be presented: it is mined or on its way (`hash`), or signed for the server to broadcast (`transaction`). */
export type Presentable = Exclude<Payment, { type: "untold" }>;

/** What is known of a payment that is about to be made. */
export type Made = Readonly<
	| ({ type: "hash" } & SentTransaction)
	| ({ type: "transaction" } & SignedTransaction)
	| { type: "untold"; fromBlock: number }
>;

/**
 * Transfers that are on their way, or were made and not used: their requests got no answer, or an error. They are not bound to
 * a challenge, so the next request with the same terms presents one before another one is made. All are on disk before they
 * leave, and each is used by one request of one process at a time.
 */
export class Payments {
	readonly #store: PayerStore;
	readonly #payer: Address;
	readonly #now: () => number;

	constructor({ store, payer, now }: Readonly<{ store: PayerStore; payer: Address; now: () => number }>) {
		this.#store = store;
		this.#payer = payer;
		this.#now = now;
	}

	/**
	 * Takes one that nobody uses.
	 *
	 * @param key - what it can pay for
	 * @throws PausedError, PayerStoreError
	 */
	take(key: string): Promise<Payment | undefined> {
		return this.#store.takePayment(keptKey(this.#payer, key));
	}

	/** Keeps one, used by whoever has made it from then on, in the place of what was known of it `before`. */
	async keep<Kind extends Made>(key: string, made: Kind, before?: Payment): Promise<Kind & Payment> {
		const { id, atMs } = before ?? { id: randomBytes32(), atMs: this.#now() };
		const payment = { ...made, id, atMs } as Kind & Payment;
		await this.#store.keepPayment(keptKey(this.#payer, key), payment);
		return payment;
	}

	/** The next request may use it. What can't be written is used when this process is gone. */
	async free(key: string, { id }: Readonly<{ id: Hex }>): Promise<void> {
		await this.#store.freePayment(keptKey(this.#payer, key), id).catch(() => undefined);
	}

	/** It was used, or can't be any more. What can't be written is found out when it is presented once more. */
	async drop(key: string, { id }: Readonly<{ id: Hex }>): Promise<void> {
		await this.#store.dropPayment(keptKey(this.#payer, key), id).catch(() => undefined);
	}
}
