import type { Hex } from "viem";
import type { PayerChannel } from "./channel.ts";
import {
	type ChannelRecord,
	type ChannelStatus,
	type Counter,
	type CounterRefusal,
	type HeldChannel,
	HolderLostError,
	type PayerStore,
	type ReceiptRecord,
} from "./store/store.ts";

/** How long another process may take to give a channel back that this one needs, in ms, before another one is opened. */
export const HAND_OVER_MS = 1_000;

export type KeeperOptions = Readonly<{
	store: PayerStore;
	/** Makes a channel of what was kept of it. */
	restore: (record: ChannelRecord) => PayerChannel;
	now: () => number;
}>;

/** What is written with a channel. */
export type KeptChange = Readonly<{
	/** The highest amount that a voucher is about to be signed for, in base units. */
	signed?: bigint;
	counters?: readonly Counter[];
	/** Nobody uses the channel right now: its books are exact. */
	isIdle?: boolean;
	status?: ChannelStatus;
}>;

/**
 * Keeps channels on disk. What is written while a channel is in use supposes the worst of it: that all that was ever signed
 * for it was charged. Whoever goes on with it after a crash asks the server first.
 */
export class Keeper {
	readonly #store: PayerStore;
	readonly #restore: (record: ChannelRecord) => PayerChannel;
	readonly #now: () => number;

	constructor({ store, restore, now }: KeeperOptions) {
		this.#store = store;
		this.#restore = restore;
		this.#now = now;
	}

	/** A kept channel of this key that nobody else uses, or that somebody gives back within `waitMs`. */
	async take(key: string, waitMs: number): Promise<PayerChannel | undefined> {
		return this.#from(await this.#store.take(key, waitMs));
	}

	/** As `take`, for one channel of any status. */
	async takeById(channelId: Hex): Promise<PayerChannel | undefined> {
		return this.#from(await this.#store.takeById(channelId, HAND_OVER_MS));
	}

	/** Every channel that is kept, with what holds of its deposit is known. */
	list(): ReturnType<PayerStore["list"]> {
		return this.#store.list();
	}

	/**
	 * Keeps a channel from now on.
	 *
	 * @returns false when as many as `max` may hold a deposit already
	 */
	async add(key: string, channel: PayerChannel, max: number): Promise<boolean> {
		const held = await this.#store.add(this.#recordOf(key, channel, {}), max);
		if (held === undefined) return false;
		channel.heldAs(held);
		return true;
	}

	/**
	 * Writes a channel that is kept. One that was given to this client by its state alone is kept from then on.
	 *
	 * @throws HolderLostError when another process has it by now
	 */
	async write(key: string, channel: PayerChannel, change: KeptChange = {}): Promise<CounterRefusal | undefined> {
		if (channel.held === undefined) await this.add(key, channel, Number.MAX_SAFE_INTEGER);
		const { held } = channel;
		if (held === undefined) throw new HolderLostError(channel.channelId);
		const { counters = [] } = change;
		const record = this.#recordOf(key, channel, change);
		const refusal = await this.#store.write({ channel: { record, fence: held.fence }, counters });
		if (refusal === undefined) channel.held = { record, fence: held.fence };
		return refusal;
	}

	/** Counts what is paid without a channel. */
	count(counters: readonly Counter[]): Promise<CounterRefusal | undefined> {
		return this.#store.write({ counters });
	}

	/** Lets others have a channel, as its books are now. */
	async giveBack(key: string, channel: PayerChannel, change: KeptChange): Promise<void> {
		const { held } = channel;
		if (held === undefined) return;
		try {
			await this.write(key, channel, change);
		} finally {
			channel.held = undefined;
			await this.#store.release(channel.channelId, held.fence);
		}
	}

	/** A receipt is no condition for anything: where it can't be kept, the payment stands all the same. */
	note(receipt: Omit<ReceiptRecord, "atMs">): void {
		this.#store.note({ ...receipt, atMs: this.#now() }).catch(() => undefined);
	}

	onWanted(listener: (channelId: Hex) => void): () => void {
		return this.#store.onWanted(listener);
	}

	#from(held: HeldChannel | undefined): PayerChannel | undefined {
		if (held === undefined) return undefined;
		const channel = this.#restore(held.record);
		channel.heldAs(held);
		return channel;
	}

	#recordOf(key: string, channel: PayerChannel, { signed = 0n, isIdle = false, status }: KeptChange): ChannelRecord {
		const { held, challenge, sessionKey } = channel;
		const { createdAtMs = this.#now(), fundableUntilMs: _, ...kept } = held?.record ?? {};
		const { fundableUntil } = channel;
		return {
			...kept,
			...(Number.isFinite(fundableUntil) && { fundableUntilMs: fundableUntil }),
			key,
			status: status ?? held?.record.status ?? "open",
			state: channel.keptState(signed, isIdle),
			...(challenge !== undefined && { challenge }),
			...(sessionKey !== undefined && { sessionKey: sessionKey.secret() }),
			createdAtMs,
		};
	}
}
