import { randomUUID } from "node:crypto";
import type { Hex } from "viem";
import { orAborted } from "../orAborted.ts";
import {
	type ChannelRecord,
	type CounterRefusal,
	type DamagedChannel,
	type HeldChannel,
	HolderLostError,
	type ListedChannel,
	type ListOptions,
	type PayerStore,
	PayerStoreError,
	type PaymentRecord,
	type ReceiptRecord,
	type StoreWrite,
} from "../store/store.ts";
import { type Link, reachOwner } from "./election.ts";
import { prepareFolder, type WalletFolder } from "./folder.ts";
import { OnceWrites } from "./once.ts";
import { dropHolder, newHolder } from "./processes.ts";
import { OwnerGoneError } from "./remote.ts";

const HOLDER_GRACE_MS = 5_000;
const OWNER_MS = 10_000;
/** How many owners may be gone while one call waits. */
const MAX_OWNERS = 8;
/** What keeps a process alive while it waits needs no other purpose. */
const LONG_MS = 3_600_000;

export type WalletOptions = Readonly<{
	/**
	 * How long, in milliseconds, a process may be silent, or away after the owner's end, until others may use its channels:
	 * 5,000 unless given. One that ends gives them back at once.
	 */
	holderGraceMs?: number;
	/** How long, in milliseconds, a call may wait for the process that has the files open: 10,000 unless given. */
	ownerMs?: number;
}>;

/**
 * Opens the wallet in `folder`, and makes it if there is none: what all processes of one agent share. The first one has
 * the files open; the others ask it, over a socket that this user alone can reach. When it goes, another takes over.
 * Nothing waits longer than `ownerMs` for whoever has it, and nothing is signed without it. A wallet keeps no process alive.
 *
 * @throws PayerStoreError when the folder is no wallet or can't be used, or the process that has it open does not answer
 * @example
 * const store = await openWallet(defaultWalletFolder(process.env));
 * const client = new PaymentClient({ account, policy, clients, store });
 */
export async function openWallet(folder: string, options: WalletOptions = {}): Promise<PayerStore> {
	const wallet = new SharedWallet(await prepareFolder(folder), options);
	await wallet.open();
	return wallet;
}

/** One holder of a wallet, whoever has its files open. */
class SharedWallet implements PayerStore {
	readonly #folder: WalletFolder;
	readonly #options: Required<WalletOptions>;
	readonly #holder = newHolder();
	readonly #once = new OnceWrites(this.#holder);
	/** What it has, by its fence: the next owner is told. */
	readonly #held = new Map<Hex, number>();
	readonly #wanted = new Set<(channelId: Hex) => void>();
	#link: Promise<Link> | undefined;
	#calls = 0;
	#alive: NodeJS.Timeout | undefined;
	#closing: Promise<void> | undefined;

	constructor(folder: WalletFolder, { holderGraceMs = HOLDER_GRACE_MS, ownerMs = OWNER_MS }: WalletOptions) {
		this.#folder = folder;
		this.#options = { holderGraceMs, ownerMs };
	}

	async open(): Promise<void> {
		await this.#with(async () => undefined);
	}

	async take(key: string, waitMs?: number, signal?: AbortSignal): Promise<HeldChannel | undefined> {
		return this.#keep(await this.#with((store) => store.take(key, waitMs, signal), signal));
	}

	async takeById(channelId: Hex, waitMs?: number, signal?: AbortSignal): Promise<HeldChannel | undefined> {
		return this.#keep(await this.#with((store) => store.takeById(channelId, waitMs, signal), signal));
	}

	async add(record: ChannelRecord, max: number): Promise<HeldChannel | undefined> {
		return this.#keep(await this.#with((store) => store.add(record, max)));
	}

	async write(write: StoreWrite): Promise<CounterRefusal | undefined> {
		try {
			return await this.#once.write(write, (whole) => this.#with((store) => store.write(whole)));
		} catch (error) {
			this.#noteLost(error, write.channel?.fence);
			throw error;
		}
	}

	async confirm(channelId: Hex, fence: number): Promise<void> {
		try {
			await this.#with((store) => store.confirm(channelId, fence));
		} catch (error) {
			this.#noteLost(error, fence);
			throw error;
		}
	}

	async release(channelId: Hex, fence: number): Promise<void> {
		// From now on no new owner is told of it.
		if (this.#held.get(channelId) === fence) this.#held.delete(channelId);
		await this.#with((store) => store.release(channelId, fence));
	}

	list(options?: ListOptions): Promise<readonly ListedChannel[]> {
		return this.#with((store) => store.list(options));
	}

	damaged(): Promise<readonly DamagedChannel[]> {
		return this.#with((store) => store.damaged());
	}

	counts(keys: readonly string[]): Promise<readonly bigint[]> {
		return this.#with((store) => store.counts(keys));
	}

	note(receipt: ReceiptRecord): Promise<void> {
		return this.#with((store) => store.note(receipt));
	}

	receipts(limit?: number): Promise<readonly ReceiptRecord[]> {
		return this.#with((store) => store.receipts(limit));
	}

	keepPayment(key: string, payment: PaymentRecord): Promise<void> {
		return this.#with((store) => store.keepPayment(key, payment));
	}

	takePayment(key: string, call: string = randomUUID()): Promise<PaymentRecord | undefined> {
		return this.#with((store) => store.takePayment(key, call));
	}

	freePayment(key: string, id: Hex): Promise<void> {
		return this.#with((store) => store.freePayment(key, id));
	}

	dropPayment(key: string, id: Hex): Promise<void> {
		return this.#with((store) => store.dropPayment(key, id));
	}

	setPaused(reason: string | undefined): Promise<void> {
		return this.#with((store) => store.setPaused(reason));
	}

	paused(): Promise<string | undefined> {
		return this.#with((store) => store.paused());
	}

	onWanted(listener: (channelId: Hex) => void): () => void {
		const own = (channelId: Hex) => listener(channelId);
		this.#wanted.add(own);
		return () => this.#wanted.delete(own);
	}

	close(): Promise<void> {
		this.#closing ??= this.#close();
		return this.#closing;
	}

	/** What another has by now is announced to nobody any more. */
	#noteLost(error: unknown, fence: number | undefined): void {
		if (error instanceof HolderLostError && this.#held.get(error.channelId) === fence)
			this.#held.delete(error.channelId);
	}

	async #close(): Promise<void> {
		this.#stayAlive(1);
		try {
			const link = await this.#link?.catch(() => undefined);
			await link?.close();
		} finally {
			dropHolder(this.#holder);
			this.#stayAlive(-1);
		}
	}

	#keep(held: HeldChannel | undefined): HeldChannel | undefined {
		if (held !== undefined) this.#held.set(held.record.state.channelId, held.fence);
		return held;
	}

	/** Asks whoever has the files open, and whoever has them next when that one is gone before it answers. */
	async #with<T>(ask: (store: PayerStore) => Promise<T>, signal?: AbortSignal): Promise<T> {
		this.#stayAlive(1);
		try {
			for (let owners = 0; owners < MAX_OWNERS; owners++) {
				signal?.throwIfAborted();
				if (this.#closing !== undefined) throw new PayerStoreError("this wallet is closed: open it again");
				const link = this.#reach();
				try {
					return await ask((await orAborted(link, signal)).store);
				} catch (error) {
					if (!(error instanceof OwnerGoneError)) throw error;
					this.#lost(link);
				}
			}
			throw new PayerStoreError(
				`the wallet in ${this.#folder.path} loses one owner after another: look why its processes end`,
			);
		} finally {
			this.#stayAlive(-1);
		}
	}

	#reach(): Promise<Link> {
		if (this.#link !== undefined) return this.#link;
		const link = reachOwner({
			folder: this.#folder,
			holder: this.#holder,
			held: () => [...this.#held].map(([channelId, fence]) => ({ channelId, fence })),
			...this.#options,
		});
		this.#link = link;
		link.then(
			({ store, gone }) => {
				store.onWanted((channelId) => {
					for (const listener of this.#wanted) listener(channelId);
				});
				void gone.then(() => this.#lost(link));
			},
			() => {
				if (this.#link === link) this.#link = undefined;
			},
		);
		return link;
	}

	/** Its channels have to be announced to the next owner, and somebody has to be it, even when nobody asks anything. */
	#lost(link: Promise<Link>): void {
		if (this.#link !== link) return;
		this.#link = undefined;
		if (this.#closing === undefined) this.#reach().catch(() => undefined);
	}

	/** A process may end while nothing is asked, not while somebody waits for an answer. */
	#stayAlive(calls: 1 | -1): void {
		this.#calls += calls;
		if (this.#calls === 0) {
			clearInterval(this.#alive);
			this.#alive = undefined;
		} else this.#alive ??= setInterval(() => undefined, LONG_MS);
	}
}
