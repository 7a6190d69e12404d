import type { Address, Hex, PublicClient } from "viem";
import { EscrowWatcher, type WatchStep } from "../escrow/watcher.ts";
import { type ChainStateReader, ChainUnavailableError } from "./chainState.ts";
import { type Channel, chainNow } from "./channel.ts";
import type { EngineLog } from "./context.ts";
import { describeError } from "./describeError.ts";
import { type ChannelStore, CorruptRecordError } from "./store/store.ts";

export type ChannelWatchOptions = Readonly<{
	client: PublicClient;
	chainId: number;
	escrow: Address;
	store: ChannelStore;
	chainState: ChainStateReader;
	/** How deep a deposit must be in the chain before it counts. */
	confirmations: number;
	pollMs: number;
	/** Blocks were replaced, and what they showed is in the ledger as it is now: transactions may have to be sent again. */
	onReorganized: () => void;
	now: () => number;
	log: EngineLog;
}>;

/** How many channels are read at a time when any may have changed. */
const PAGE = 500;

/** How often the same trouble with the node is logged, in ms. */
const FAULT_LOG_MS = 60_000;

/** How long before the last cursor a run may have taken in what it had not followed yet, in ms. */
const RECENT_MS = 60_000;

/** How long a start waits for the chain before it fails, in ms. */
const CATCH_UP_MS = 120_000;

/**
 * Keeps every channel of one escrow current from the escrow's events, across restarts (D2): what the escrow has said
 * something about is read as of the block that was reached, and put into the ledger.
 */
export class ChannelWatch {
	readonly #options: ChannelWatchOptions;
	readonly #watcher: EscrowWatcher;
	readonly #cursorName: string;
	/** Channels that are read with every step up to a block: for deposits that are not deep enough yet, and see `Follower.revisit`. */
	readonly #revisited = new Map<Hex, bigint>();
	#faultLoggedAt = Number.NEGATIVE_INFINITY;

	constructor(options: ChannelWatchOptions) {
		const { client, chainId, escrow, store, chainState, confirmations, pollMs, now } = options;
		this.#options = options;
		const name = `watcher:${chainId}:${escrow}`;
		this.#cursorName = name;
		this.#watcher = new EscrowWatcher({
			client,
			escrow,
			pollMs,
			now,
			// A start looks again at the deposits that were too young when the last run ended.
			overlapBlocks: confirmations,
			cursor: {
				async read() {
					const cursor = await store.cursor(name);
					return cursor && { number: cursor.blockNumber, hash: cursor.blockHash };
				},
				write: ({ number, hash }) => store.putCursor({ name, blockNumber: number, blockHash: hash, updatedAt: now() }),
			},
			onStep: (step) => this.#step(step),
			onFault: (error) => this.#fault(error),
		});
		chainState.followedBy({
			seen: () => this.#watcher.seen,
			processingTo: () => this.#watcher.processingTo,
			revisit: (channelIds, block) => {
				for (const channelId of channelIds) this.#revisit(channelId, block);
			},
		});
	}

	/** Resolves when everything that has happened up to now is in the ledger. */
	async catchUp(): Promise<void> {
		await this.#revisitRecent();
		await this.#watcher.catchUp({ signal: AbortSignal.timeout(CATCH_UP_MS) });
	}

	/** What the last run took in, perhaps from blocks that were replaced before it followed them. */
	async #revisitRecent(): Promise<void> {
		const { store } = this.#options;
		const cursor = await store.cursor(this.#cursorName);
		if (cursor === undefined) return;
		for await (const { channelId } of store.audit({ afterMs: Math.max(0, cursor.updatedAt - RECENT_MS) })) {
			if (channelId !== undefined) this.#revisit(channelId, cursor.blockNumber);
		}
	}

	#revisit(channelId: Hex, block: bigint): void {
		if (block > (this.#revisited.get(channelId) ?? -1n)) this.#revisited.set(channelId, block);
	}

	start(): void {
		this.#watcher.start();
	}

	/** Looks at the chain now. */
	poke(): Promise<void> {
		return this.#watcher.poke();
	}

	stop(): Promise<void> {
		return this.#watcher.stop();
	}

	async #step(step: WatchStep): Promise<void> {
		const { chainState, onReorganized } = this.#options;
		const { head, events, everything, reorganizedFrom } = step;
		if (chainState.isStale(head)) {
			throw new ChainUnavailableError(
				`the node's latest block, ${head.number}, is too old: it has stopped following the chain`,
			);
		}
		const reorganized = everything || reorganizedFrom !== undefined;
		if (everything) await this.#observeAll(step);
		const ids = new Set(everything ? [] : await this.#ours(step.touched));
		const revisited = [...this.#revisited];
		for (const channelId of await this.#ours(revisited.map(([channelId]) => channelId))) ids.add(channelId);
		if (ids.size > 0) await chainState.observe([...ids], { head, reorganized });
		for (const [channelId, block] of revisited) {
			if (block <= head.number && this.#revisited.get(channelId) === block) this.#revisited.delete(channelId);
		}
		// Of a block that was replaced before it was followed nothing tells but what it took along.
		if (reorganizedFrom !== undefined || (await this.#isAnyBehind(ids))) onReorganized();
		const { confirmations } = this.#options;
		for (const { name, channelId, blockNumber } of events) {
			const deepAt = blockNumber + BigInt(confirmations - 1);
			if (name === "ToppedUp" && deepAt > head.number) this.#revisit(channelId, deepAt);
		}
	}

	async #isAnyBehind(channelIds: Iterable<Hex>): Promise<boolean> {
		for (const channelId of channelIds) {
			const channel = await this.#options.store.channel(channelId);
			if (channel !== undefined && channel.behind !== null) return true;
		}
		return false;
	}

	/** Those that this store knows: others are somebody else's, or not taken in yet. */
	async #ours(channelIds: Iterable<Hex>): Promise<readonly Hex[]> {
		const { store } = this.#options;
		const ours: Hex[] = [];
		for (const channelId of channelIds) {
			const channel = await store.channel(channelId).catch((error: unknown) => {
				// A damaged one is out of use as it is.
				if (error instanceof CorruptRecordError) return undefined;
				throw error;
			});
			if (channel !== undefined && this.#isHere(channel)) ours.push(channelId);
		}
		return ours;
	}

	/** All that can still change: on the first run, and after a reorganization that is deeper than what is remembered. */
	async #observeAll({ head, reorganizedFrom }: WatchStep): Promise<void> {
		const { store, chainState } = this.#options;
		let page: Hex[] = [];
		const observe = async () => {
			if (page.length > 0) await chainState.observe(page, { head, reorganized: true });
			page = [];
		};
		for await (const channel of store.channels()) {
			if (!this.#isHere(channel)) continue;
			// Finalized is for ever, unless the block that said so is gone.
			const { finalized, blockNumber } = chainNow(channel);
			if (finalized && (reorganizedFrom === undefined || blockNumber < reorganizedFrom)) continue;
			page.push(channel.channelId);
			if (page.length === PAGE) await observe();
		}
		await observe();
	}

	#isHere({ chainId, escrow }: Channel): boolean {
		return chainId === this.#options.chainId && escrow === this.#options.escrow;
	}

	#fault(error: unknown): void {
		const { log, now, chainId } = this.#options;
		const at = now();
		if (at - this.#faultLoggedAt < FAULT_LOG_MS) return;
		this.#faultLoggedAt = at;
		log.warn({ chainId, reason: describeError(error) }, "the escrow's events can't be followed right now");
	}
}
