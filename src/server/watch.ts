import type { Address, Hex, PublicClient } from "viem";
import type { WatchStep } from "../escrow/stepReader.ts";
import { EscrowWatcher } from "../escrow/watcher.ts";
import type { ChainStateReader } from "./chainState.ts";
import { type Channel, chainNow } from "./channel.ts";
import type { EngineLog } from "./context.ts";
import { describeError } from "./describeError.ts";
import { rarely } from "./rarely.ts";
import { type ChannelStore, CorruptRecordError, StoreUnavailableError } from "./store/store.ts";
import { Sweep } from "./sweep.ts";

export type ChannelWatchOptions = Readonly<{
	client: PublicClient;
	chainId: number;
	escrow: Address;
	store: ChannelStore;
	chainState: ChainStateReader;
	/** How deep a deposit must be in the chain before it counts. */
	confirmations: number;
	pollMs: number;
	/** The escrow's: how long after a close request the payer can take the rest back. */
	closeGraceSeconds: number;
	/**
	 * Everything up to a block is in the ledger.
	 *
	 * @param reorganized Blocks were replaced: transactions of ours may have to be sent again.
	 */
	onStep: (reorganized: boolean) => void;
	now: () => number;
	log: EngineLog;
	/** How long a start waits for the next blocks before it fails, in ms. Default 120,000. */
	stallMs?: number;
	/** See `WatcherOptions`. */
	maxBlocksPerStep?: number;
}>;

/** A start can't learn what has happened on the chain: it sells nothing rather than what was closed meanwhile (I9, I10). */
export class CatchUpError extends Error {
	override readonly name = "CatchUpError";
	readonly code = "CATCH_UP";
	readonly chainId: number;
	constructor(chainId: number, reason: string) {
		super(
			`the escrow's events on chain ${chainId} can't be followed (${reason}); check the RPC endpoint of option client, or give it several (connectChain), and start again: it goes on where it was`,
		);
		this.chainId = chainId;
	}
}

/** How many channels are read at a time when any may have changed. */
const PAGE = 500;

/** How often the same trouble with the node is logged, in ms. */
const FAULT_LOG_MS = 60_000;

/** In which part of the grace period each channel that matters is read at least once, whatever its events say (I9). */
const PART_OF_GRACE = 8;

/** How long before the last cursor a run may have taken in what it had not followed yet, in ms. */
const RECENT_MS = 60_000;

/** How long a start waits for the next blocks before it fails, in ms. A long absence takes many steps. */
const STALL_MS = 120_000;

/** How often a start that takes long says how far it has come, in ms. */
const PROGRESS_LOG_MS = 5_000;

/** A channel is read again with every step that ends in these blocks, and with the first one that ends above. */
type Visit = Readonly<{ from: bigint; to: bigint }>;

/**
 * Keeps every channel of one escrow current from the escrow's events, across restarts (D2): what the escrow has said
 * something about is read as of the block that was reached, and put into the ledger.
 */
export class ChannelWatch {
	readonly #options: ChannelWatchOptions;
	readonly #watcher: EscrowWatcher;
	readonly #sweep: Sweep;
	readonly #cursorName: string;
	/** Channels to be read again: for deposits that are not deep enough yet, and see `Follower.revisit`. */
	readonly #visits = new Map<Hex, Visit>();
	readonly #stopping = new AbortController();
	readonly #tell: (work: () => void) => void;
	/** Told of each step at its end, which comes again where this throws. */
	#onProgress: (step: WatchStep) => void = () => undefined;

	constructor(options: ChannelWatchOptions) {
		const { client, chainId, escrow, store, chainState, confirmations, pollMs, maxBlocksPerStep, now, log } = options;
		this.#options = options;
		this.#tell = rarely(FAULT_LOG_MS, now);
		const name = `watcher:${chainId}:${escrow}`;
		this.#cursorName = name;
		this.#watcher = new EscrowWatcher({
			client,
			escrow,
			pollMs,
			...(maxBlocksPerStep !== undefined && { maxBlocksPerStep }),
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
		const isHere = (channel: Channel) => this.#isHere(channel);
		const everyMs = (options.closeGraceSeconds * 1_000) / PART_OF_GRACE;
		this.#sweep = new Sweep({ chainId, store, chainState, isHere, everyMs, pollMs, now, log });
		chainState.followedBy({
			seen: () => this.#watcher.seen,
			processingTo: () => this.#watcher.processingTo,
			revisit: (channelIds, block, from) => {
				for (const channelId of channelIds) this.#revisit(channelId, block, from);
			},
			relied: (channel) => this.#sweep.relied(channel),
		});
	}

	/**
	 * Resolves when everything that has happened up to now is in the ledger.
	 *
	 * @throws CatchUpError when the chain can't be followed, or nothing comes of it for long
	 */
	async catchUp(): Promise<void> {
		const { chainId, chainState, stallMs = STALL_MS, now, log } = this.#options;
		const end = new AbortController();
		const { promise: ended, reject } = Promise.withResolvers<never>();
		ended.catch(() => undefined);
		const giveUp = (reason: string) => {
			const error = new CatchUpError(chainId, reason);
			end.abort(error);
			reject(error);
		};
		const onStop = () => giveUp("it was stopped");
		const stalled = setTimeout(() => giveUp(`nothing came of it for ${stallMs} ms`), stallMs);
		let toldAt = now();
		this.#onProgress = ({ head, latest }) => {
			stalled.refresh();
			// Whoever begins to sell by this has to know that it is of now.
			chainState.assertFollowing(latest);
			if (head.number === latest.number || now() - toldAt < PROGRESS_LOG_MS) return;
			toldAt = now();
			const values = { chainId, block: String(head.number), latest: String(latest.number) };
			log.info(values, "catching up with the escrow's events");
		};
		this.#stopping.signal.addEventListener("abort", onStop, { once: true });
		try {
			await this.#revisitRecent();
			await Promise.race([this.#watcher.catchUp({ signal: end.signal }), ended]);
		} catch (error) {
			if (error instanceof StoreUnavailableError) throw error;
			// Without its cause: that may hold the endpoint's URL, and whoever started this prints it all.
			throw error instanceof CatchUpError ? error : new CatchUpError(chainId, describeError(error));
		} finally {
			clearTimeout(stalled);
			this.#onProgress = () => undefined;
			this.#stopping.signal.removeEventListener("abort", onStop);
		}
	}

	/** What the last run took in, perhaps from blocks that were replaced before it followed them. */
	async #revisitRecent(): Promise<void> {
		const { store } = this.#options;
		const cursor = await store.cursor(this.#cursorName);
		if (cursor === undefined) return;
		const recent = new Set<Hex>();
		for await (const { channelId } of store.audit({ afterMs: Math.max(0, cursor.updatedAt - RECENT_MS) })) {
			if (channelId !== undefined) recent.add(channelId);
		}
		for (const channel of await this.#ours(recent)) {
			const { blockNumber } = chainNow(channel);
			const readAt = BigInt(blockNumber);
			this.#revisit(channel.channelId, readAt > cursor.blockNumber ? readAt : cursor.blockNumber);
		}
	}

	#revisit(channelId: Hex, to: bigint, from = to): void {
		const planned = this.#visits.get(channelId) ?? { from, to };
		// A new one each time: what is asked for while a step runs is not done by that step.
		this.#visits.set(channelId, {
			from: from < planned.from ? from : planned.from,
			to: to > planned.to ? to : planned.to,
		});
	}

	start(): void {
		if (this.#stopping.signal.aborted) return;
		this.#watcher.start();
		this.#sweep.start();
	}

	/** Looks at the chain now. */
	poke(): Promise<void> {
		return this.#watcher.poke();
	}

	/** Resolves when nothing is being looked at any more. */
	async stop(): Promise<void> {
		this.#stopping.abort();
		await Promise.all([this.#watcher.stop(), this.#sweep.stop()]);
	}

	async #step(step: WatchStep): Promise<void> {
		const { chainState, confirmations, onStep } = this.#options;
		const { head, latest, events, everything, reorganizedFrom } = step;
		// What it shows counts all the same: a close request does not wait for our clock (I9).
		const fault = chainState.faultOf(latest);
		if (fault !== undefined) this.#fault(fault);
		const reorganized = everything || reorganizedFrom !== undefined;
		if (everything) await this.#observeAll(step);
		const due = [...this.#visits].filter(([, { from }]) => from <= head.number);
		const touched = [...(everything ? [] : step.touched), ...due.map(([channelId]) => channelId)];
		const ours = (await this.#ours(new Set(touched))).map(({ channelId }) => channelId);
		await this.#observe(ours, step, reorganized);
		for (const [channelId, visit] of due) {
			if (visit.to <= head.number && this.#visits.get(channelId) === visit) this.#visits.delete(channelId);
		}
		for (const { name, channelId, blockNumber } of events) {
			const deepAt = blockNumber + BigInt(confirmations - 1);
			if (name === "ToppedUp" && deepAt > latest.number) this.#revisit(channelId, deepAt, 0n);
		}
		// A block that was replaced before it was followed shows only by the channels that it took back.
		onStep(reorganizedFrom !== undefined || (await this.#ours(ours)).some(({ behind }) => behind !== null));
		this.#onProgress(step);
	}

	/**
	 * Reads channels as of the chain's newest block, also while a gap is worked off: of older ones a node may keep no state. What
	 * was read ahead is read again when its block is reached, for that may be another one by then.
	 */
	async #observe(channelIds: readonly Hex[], { head, latest }: WatchStep, reorganized: boolean): Promise<void> {
		if (channelIds.length === 0) return;
		await this.#options.chainState.observe(channelIds, { head: latest, reorganized });
		if (latest.number > head.number) for (const channelId of channelIds) this.#revisit(channelId, latest.number);
	}

	/** Those that this store knows: others are somebody else's, or not taken in yet. */
	async #ours(channelIds: Iterable<Hex>): Promise<readonly Channel[]> {
		const { store } = this.#options;
		const ours: Channel[] = [];
		for (const channelId of channelIds) {
			const channel = await store.channel(channelId).catch((error: unknown) => {
				// A damaged one is out of use as it is.
				if (error instanceof CorruptRecordError) return undefined;
				throw error;
			});
			if (channel !== undefined && this.#isHere(channel)) ours.push(channel);
		}
		return ours;
	}

	/** All that can still change: on the first run, and after a reorganization that is deeper than what is remembered. */
	async #observeAll(step: WatchStep): Promise<void> {
		const { reorganizedFrom } = step;
		let page: Hex[] = [];
		const observe = async () => {
			await this.#observe(page, step, true);
			page = [];
		};
		for await (const channel of this.#options.store.channels()) {
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
		const { log, chainId } = this.#options;
		const values = { chainId, reason: describeError(error) };
		this.#tell(() => log.warn(values, "the escrow's events can't be followed right now"));
	}
}
