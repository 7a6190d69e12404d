import type { Address, Hex } from "viem";
import type { PayerChannel } from "./channel.ts";
import { keptKey } from "./channelKey.ts";
import { ChannelStateError } from "./state.ts";
import {
	type ChannelRecord,
	type ChannelStatus,
	type Counter,
	type CounterRefusal,
	type HeldChannel,
	HolderLostError,
	type ListedChannel,
	type ListOptions,
	type PayerStore,
	type ReceiptRecord,
} from "./store/store.ts";

/** How long another process may take to give a channel back that this one needs, in ms, before another one is opened. */
export const HAND_OVER_MS = 1_000;

/** How often a channel is given back where the store does not answer. */
const RELEASE_TRIES = 3;

export type KeeperOptions = Readonly<{
	store: PayerStore;
	/** Whose channels they are. */
	payer: Address;
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
	/** It lets money be moved: not while the store is paused. */
	isSpending?: boolean;
}>;

/**
 * Keeps channels on disk. What is written while a channel is in use supposes the worst of it: that all that was ever signed
 * for it was charged. Whoever goes on with it after a crash asks the server first.
 */
export class Keeper {
	readonly #store: PayerStore;
	readonly #payer: Address;
	readonly #restore: (record: ChannelRecord) => PayerChannel;
	readonly #now: () => number;
	/** Given back, and the store has not said yet that it knows: by the fence of their holds. */
	readonly #strays = new Map<Hex, number>();

	constructor({ store, payer, restore, now }: KeeperOptions) {
		this.#store = store;
		this.#payer = payer;
		this.#restore = restore;
		this.#now = now;
	}

	/** Whose channels these are. */
	get payer(): Address {
		return this.#payer;
	}

	/** A kept channel of this key that nobody else uses, or that somebody gives back within `waitMs`. */
	async take(key: string, waitMs: number): Promise<PayerChannel | undefined> {
		await this.giveBackStrays();
		const held = await this.#store.take(keptKey(this.#payer, key), waitMs);
		return held && ((await this.#from(held)) ?? this.#takeAnother(keptKey(this.#payer, key)));
	}

	/** As `take`, for one channel of any status. */
	async takeById(channelId: Hex): Promise<PayerChannel | undefined> {
		await this.giveBackStrays();
		return this.#from(await this.#store.takeById(channelId, HAND_OVER_MS));
	}

	/** Every channel that is kept, whoever has it. */
	list(options?: ListOptions): Promise<readonly ListedChannel[]> {
		return this.#store.list(options);
	}

	/**
	 * Keeps a channel from now on.
	 *
	 * @returns false when as many as `max` may hold a deposit already, or another process has it
	 * @throws HolderLostError when this client has let go of it before
	 */
	async add(key: string, channel: PayerChannel, max: number): Promise<boolean> {
		const held = await this.#store.add(this.#recordOf(key, channel, {}), max);
		if (held === undefined) return false;
		channel.heldAs(held);
		if (!channel.isRetired) return true;
		// Nobody would give it back.
		await this.#release(channel.channelId, held.fence);
		throw new HolderLostError(channel.channelId);
	}

	/**
	 * Writes a channel that is kept.
	 *
	 * @throws HolderLostError when this client has it no more
	 */
	async write(key: string, channel: PayerChannel, change: KeptChange = {}): Promise<CounterRefusal | undefined> {
		const { held } = channel;
		if (held === undefined) throw new HolderLostError(channel.channelId);
		const { counters = [], isSpending = false } = change;
		const record = this.#recordOf(key, channel, change, held);
		const writing = this.#store.write({ channel: { record, fence: held.fence }, counters, isSpending });
		const refusal = await writing.catch((error: unknown) => endedBy(error, channel));
		if (refusal === undefined) channel.written(record);
		return refusal;
	}

	/**
	 * Whether this client may still use what it has signed for a channel.
	 *
	 * @throws HolderLostError, PausedError
	 */
	async confirm(channel: PayerChannel): Promise<void> {
		const { channelId, held } = channel;
		if (held === undefined) throw new HolderLostError(channelId);
		await this.#store.confirm(channelId, held.fence).catch((error: unknown) => endedBy(error, channel));
	}

	/** Counts what is paid without a channel. */
	count(counters: readonly Counter[]): Promise<CounterRefusal | undefined> {
		return this.#store.write({ counters, isSpending: true });
	}

	/**
	 * Uses a channel no more and lets others have it, as its books are now. Nothing is signed for it from the moment of the call;
	 * one that was given to this client by its state alone is kept first.
	 */
	async giveBack(key: string, channel: PayerChannel, change: KeptChange): Promise<void> {
		const isKept = channel.held !== undefined || channel.isRetired;
		if (!isKept) await this.add(key, channel, Number.MAX_SAFE_INTEGER);
		const held = channel.retire();
		if (held === undefined) return;
		const record = this.#recordOf(key, channel, change, held);
		try {
			await this.#store.write({ channel: { record, fence: held.fence } });
		} finally {
			await this.#release(channel.channelId, held.fence);
		}
	}

	/**
	 * As `giveBack`, but whoever calls goes on with the hold: nobody else can take the channel in between. `undefined` when this
	 * client has it no more.
	 */
	async handOver(key: string, channel: PayerChannel, change: KeptChange): Promise<HeldChannel | undefined> {
		const held = channel.retire();
		if (held === undefined) return undefined;
		const record = this.#recordOf(key, channel, change, held);
		try {
			await this.#store.write({ channel: { record, fence: held.fence } });
		} catch (error) {
			await this.#release(channel.channelId, held.fence);
			throw error;
		}
		return { record, fence: held.fence };
	}

	/** Uses a channel no more of which it is not known what is on disk. What was written stands. */
	async drop(channel: PayerChannel): Promise<void> {
		const held = channel.retire();
		if (held !== undefined) await this.#release(channel.channelId, held.fence);
	}

	/** Tries once more to give back what the store was not told of. It is there, and nobody can take it until then. */
	async giveBackStrays(): Promise<void> {
		for (const [channelId, fence] of [...this.#strays]) await this.#release(channelId, fence).catch(() => undefined);
	}

	/** A receipt is no condition for anything: where it can't be kept, the payment stands all the same. */
	note(receipt: Omit<ReceiptRecord, "atMs">): void {
		this.#store.note({ ...receipt, atMs: this.#now() }).catch(() => undefined);
	}

	onWanted(listener: (channelId: Hex) => void): () => void {
		return this.#store.onWanted(listener);
	}

	/** The one with the most left can't be used here; others of its key may be. */
	async #takeAnother(key: string): Promise<PayerChannel | undefined> {
		for (const { record, isHeld } of await this.#store.list({ isClosed: false })) {
			if (isHeld || record.status !== "open" || record.key !== key) continue;
			const channel = await this.#from(await this.#store.takeById(record.state.channelId));
			if (channel !== undefined) return channel;
		}
		return undefined;
	}

	/** One that can't be used here (another key, another policy) is left to who can. */
	async #from(held: HeldChannel | undefined): Promise<PayerChannel | undefined> {
		if (held === undefined) return undefined;
		const { record, fence } = held;
		try {
			const channel = this.#restore(record);
			channel.heldAs(held);
			return channel;
		} catch (error) {
			await this.#release(record.state.channelId, fence);
			if (error instanceof ChannelStateError) return undefined;
			throw error;
		}
	}

	/** Others wait for it: a store that does not answer is asked again. */
	async #release(channelId: Hex, fence: number): Promise<void> {
		for (let triesLeft = RELEASE_TRIES; ; triesLeft--) {
			try {
				await this.#store.release(channelId, fence);
				this.#strays.delete(channelId);
				return;
			} catch (error) {
				if (triesLeft > 1) continue;
				this.#strays.set(channelId, fence);
				throw error;
			}
		}
	}

	#recordOf(
		key: string,
		channel: PayerChannel,
		{ signed = 0n, isIdle = false, status }: KeptChange,
		held?: HeldChannel,
	): ChannelRecord {
		const { challenge, sessionKey } = channel;
		const { createdAtMs = this.#now(), fundableUntilMs: _, ...kept } = held?.record ?? {};
		const { fundableUntil } = channel;
		return {
			...kept,
			...(Number.isFinite(fundableUntil) && { fundableUntilMs: fundableUntil }),
			key: keptKey(this.#payer, key),
			status: status ?? held?.record.status ?? "open",
			state: channel.keptState(signed, isIdle),
			...(challenge !== undefined && { challenge }),
			...(sessionKey !== undefined && { sessionKey: sessionKey.secret() }),
			createdAtMs,
		};
	}
}

/** Nothing more is signed for a channel that another process has by now. */
function endedBy(error: unknown, channel: PayerChannel): never {
	if (error instanceof HolderLostError) channel.retire();
	throw error;
}
