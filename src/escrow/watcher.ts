import type { Address, Hex, PublicClient } from "viem";
import { type EscrowEvent, readEscrowEvents } from "./escrowEvents.ts";
import { type RememberedBlock, RememberedBlocks } from "./rememberedBlocks.ts";

/** A block as the watcher knows it. */
export type WatchedBlock = Readonly<{ number: bigint; hash: Hex; timestampSeconds: number }>;

/** What a watcher has found out since its last step. */
export type WatchStep = Readonly<{
	/** The block up to which everything is known after this step. Not the chain's newest while a gap is worked off. */
	head: WatchedBlock;
	/** The chain's newest block when the step began: `head`, unless a gap is worked off. A node may keep no state of older ones. */
	latest: WatchedBlock;
	/** New ones, in order. None of them is from a block that was left behind; some may have been delivered before. */
	events: readonly EscrowEvent[];
	/** Channels of these events, and of those in blocks that a reorganization took away. */
	touched: ReadonlySet<Hex>;
	/** No block below it was replaced. Absent where there was no reorganization. */
	reorganizedFrom?: bigint;
	/** Any channel may have changed: a first run, or a reorganization deeper than what is remembered. */
	everything: boolean;
}>;

/** Where a watcher keeps how far it has come. */
export interface WatchCursor {
	read(): Promise<Readonly<{ number: bigint; hash: Hex }> | undefined>;
	write(block: WatchedBlock): Promise<void>;
}

export type WatcherOptions = Readonly<{
	client: PublicClient;
	escrow: Address;
	cursor: WatchCursor;
	/** Takes a step. Where it rejects, the step comes again, with whatever has come since. */
	onStep(step: WatchStep): Promise<void>;
	/** Hears of every step that failed. The watcher goes on. */
	onFault(error: unknown): void;
	/** How often the chain is asked for its head, in ms. Default 4,000. */
	pollMs?: number;
	/** How many blocks before the cursor, or before the chain's head where there is none, the first step begins. Default 0. */
	overlapBlocks?: number;
	/** How many blocks are worked off in one step at most. Default 2,000. */
	maxBlocksPerStep?: number;
	/** How many blocks are remembered to tell what a reorganization took away. Default 256. */
	rememberedBlocks?: number;
	/** Unix milliseconds. */
	now?: () => number;
}>;

/**
 * The node can't be followed right now.
 * `HEAD_LAGS`: its head is behind what was processed; it catches up, or give another URL.
 * `CHAIN_MOVED`: its chain changed while it was read; the step comes again.
 */
export class WatchFaultError extends Error {
	override readonly name = "WatchFaultError";
	readonly code: "HEAD_LAGS" | "CHAIN_MOVED";
	constructor(code: WatchFaultError["code"], message: string) {
		super(message);
		this.code = code;
	}
}

/** How often in a row `catchUp` may fail. */
const CATCH_UP_ATTEMPTS = 8;

const RETRY_MS = 250;

/** Where the next events are looked for, and what is known to be gone. */
type Plan = Readonly<{
	/** The newest block that is still good; nothing is known without it. */
	base: RememberedBlock | undefined;
	from: bigint;
	taken: ReadonlySet<Hex>;
	reorganizedFrom: bigint | undefined;
}>;

/**
 * Follows an escrow's events from a stored cursor, through gaps, reorganizations and silence of the node. Steps never
 * overlap; the cursor moves only after a step was taken, so that each event is delivered at least once.
 *
 * @example
 * const watcher = new EscrowWatcher({ client, escrow, cursor, onStep: keepCurrent, onFault: report });
 * await watcher.catchUp();
 * watcher.start();
 */
export class EscrowWatcher {
	readonly #options: Required<WatcherOptions>;
	readonly #blocks: RememberedBlocks;
	#cursorRead = false;
	#overlapDue = true;
	#current: Promise<boolean> | undefined;
	/** The step that begins when the current one has ended, because somebody has asked for it meanwhile. */
	#after: Readonly<{ done: Promise<void>; cancel: () => void }> | undefined;
	/** Delivered in a step that did not end: its block, and the channels of its events. */
	#unfinished: { block: WatchedBlock; touched: Set<Hex> } | undefined;
	#lagging = 0;
	#seen: Readonly<{ block: WatchedBlock; at: number }> | undefined;
	#processingTo: bigint | undefined;
	/** Until the next look at the chain, which subscribes again. */
	#subscriptionLost = false;
	#run: AbortController | undefined;
	#loop: Promise<void> = Promise.resolve();

	constructor(options: WatcherOptions) {
		this.#options = {
			pollMs: 4_000,
			overlapBlocks: 0,
			maxBlocksPerStep: 2_000,
			rememberedBlocks: 256,
			now: Date.now,
			...options,
		};
		this.#blocks = new RememberedBlocks(this.#options.rememberedBlocks);
	}

	/** The chain's head that was processed last, and when (Unix ms) the chain was asked for it. */
	get seen(): Readonly<{ block: WatchedBlock; at: number }> | undefined {
		return this.#seen;
	}

	/** The upper block of the step that runs or ran last. */
	get processingTo(): bigint | undefined {
		return this.#processingTo;
	}

	/**
	 * Resolves when the head of the moment was processed.
	 *
	 * @throws what the last of several attempts in a row failed with, and the reason of `signal`
	 */
	async catchUp({ signal }: Readonly<{ signal?: AbortSignal }> = {}): Promise<void> {
		for (let failures = 0; ; ) {
			signal?.throwIfAborted();
			try {
				if (await this.#next()) return;
				failures = 0;
			} catch (error) {
				if (++failures >= CATCH_UP_ATTEMPTS) throw error;
				await sleep(Math.min(RETRY_MS * 2 ** (failures - 1), this.#options.pollMs), { signal, keepsAlive: true });
			}
		}
	}

	/** Goes on by itself until `stop`. */
	start(): void {
		if (this.#run !== undefined) return;
		this.#run = new AbortController();
		this.#loop = this.#poll(this.#run.signal);
	}

	/** Resolves when no step runs and none will begin by itself. */
	async stop(): Promise<void> {
		this.#run?.abort();
		this.#run = undefined;
		this.#after?.cancel();
		await this.#loop;
		await this.#current?.catch(() => undefined);
	}

	/**
	 * One step that begins now, or behind the one that runs, which may have asked for the head before. Never rejects: `onFault`
	 * hears of a failure, `seen` tells of success.
	 */
	poke(): Promise<void> {
		if (this.#current === undefined) return this.#look();
		this.#after ??= this.#lookAfter(this.#current);
		return this.#after.done;
	}

	async #look(): Promise<void> {
		await this.#next().catch(() => undefined);
	}

	#lookAfter(running: Promise<unknown>) {
		let isCancelled = false;
		const look = () => {
			this.#after = undefined;
			return isCancelled ? undefined : this.#look();
		};
		const cancel = () => {
			isCancelled = true;
		};
		return { done: running.then(look, look), cancel };
	}

	async #poll(signal: AbortSignal): Promise<void> {
		let unsubscribe = this.#subscribe();
		while (!signal.aborted) {
			const reached = await this.#next().catch(() => true);
			if (this.#subscriptionLost) {
				unsubscribe();
				unsubscribe = this.#subscribe();
			}
			if (reached) await sleep(this.#options.pollMs, { signal, keepsAlive: false }).catch(() => undefined);
		}
		unsubscribe();
	}

	/** New heads by WebSocket, where there is one. Polling goes on as well: a subscription can go silent. */
	#subscribe(): () => void {
		const { client, onFault } = this.#options;
		this.#subscriptionLost = false;
		if (!subscribes(client)) return () => undefined;
		return client.watchBlockNumber({
			onBlockNumber: () => void this.poke(),
			onError: (error) => {
				this.#subscriptionLost = true;
				onFault(error);
			},
		});
	}

	/** The step that runs, or a new one. `true` when it has reached the chain's head. */
	#next(): Promise<boolean> {
		this.#current ??= this.#attempt().finally(() => {
			this.#current = undefined;
		});
		return this.#current;
	}

	async #attempt(): Promise<boolean> {
		try {
			const reached = await this.#step();
			this.#lagging = 0;
			return reached;
		} catch (error) {
			if (this.#isWorthTelling(error)) this.#options.onFault(error);
			throw error;
		}
	}

	/** A node can lag for long: the first time is told, then ever more rarely. */
	#isWorthTelling(error: unknown): boolean {
		if (!(error instanceof WatchFaultError && error.code === "HEAD_LAGS")) return true;
		this.#lagging++;
		return (this.#lagging & (this.#lagging - 1)) === 0;
	}

	async #step(): Promise<boolean> {
		const { client, escrow, cursor, onStep, maxBlocksPerStep, now } = this.#options;
		const askedAt = now();
		const head = await this.#block();
		const plan = await this.#plan(head);
		const last = plan.from + BigInt(maxBlocksPerStep) - 1n;
		let end = head;
		let events: readonly EscrowEvent[] = [];
		if (plan.from <= head.number) {
			if (last < head.number) end = await this.#block(last);
			events = await readEscrowEvents(client, escrow, { fromBlock: plan.from, toBlock: end.number });
			await this.#assertStillThere(end, events);
			// The end was asked for after the base: they may be of two chains.
			if (end !== head && plan.base !== undefined) await this.#assertStillThere(plan.base);
		}
		const found = new Set(events.map(({ channelId }) => channelId));
		const touched = new Set([...plan.taken, ...(this.#unfinished?.touched ?? []), ...found]);
		this.#processingTo = end.number;
		this.#unfinished = { block: end, touched: new Set([...(this.#unfinished?.touched ?? []), ...found]) };
		await onStep({
			head: end,
			latest: head,
			events,
			touched,
			...(plan.reorganizedFrom !== undefined && { reorganizedFrom: plan.reorganizedFrom }),
			everything: plan.base === undefined,
		});
		if (end.number !== plan.base?.number) await cursor.write(end);
		this.#blocks.replaceAbove(plan.base?.number, blocksOf(events, end));
		this.#unfinished = undefined;
		this.#overlapDue = false;
		if (end === head) this.#seen = { block: head, at: askedAt };
		return end === head;
	}

	async #plan(head: WatchedBlock): Promise<Plan> {
		await this.#readCursor();
		const { newest, oldest } = this.#blocks;
		const none: ReadonlySet<Hex> = new Set();
		if (newest === undefined || oldest === undefined) {
			return { base: undefined, from: this.#overlapped(head.number + 1n), taken: none, reorganizedFrom: undefined };
		}
		const base = await this.#blocks.newestCommon(head.number, (block) => this.#isCanonical(block, head));
		// All that is known up to this head is as it was: nothing says that what lies above is gone.
		const reached = this.#unfinished?.block ?? newest;
		const highest = reached.number > newest.number ? reached.number : newest.number;
		if (head.number < highest && base === this.#blocks.upTo(head.number)) {
			throw new WatchFaultError(
				"HEAD_LAGS",
				`the node's head is block ${head.number}, behind block ${highest} that was processed; it lags, or use another RPC URL`,
			);
		}
		if (base === undefined) {
			const from = oldest.number - BigInt(this.#options.rememberedBlocks);
			const taken = this.#blocks.touchedAbove(undefined);
			return { base, from: from > 0n ? from : 0n, taken, reorganizedFrom: from > 0n ? from : 0n };
		}
		const taken = this.#blocks.touchedAbove(base.number);
		const replaced = base !== newest || (await this.#isUnfinishedGone(head));
		return {
			base,
			from: this.#overlapped(base.number + 1n),
			taken,
			reorganizedFrom: replaced ? base.number + 1n : undefined,
		};
	}

	/** What was delivered in a step that did not end may be gone by now, and nothing else remembers it. */
	async #isUnfinishedGone(head: WatchedBlock): Promise<boolean> {
		return this.#unfinished !== undefined && !(await this.#isCanonical(this.#unfinished.block, head));
	}

	#overlapped(from: bigint): bigint {
		if (!this.#overlapDue) return from;
		const earlier = from - BigInt(this.#options.overlapBlocks);
		return earlier > 0n ? earlier : 0n;
	}

	async #readCursor(): Promise<void> {
		if (this.#cursorRead) return;
		const stored = await this.#options.cursor.read();
		if (stored !== undefined) this.#blocks.replaceAbove(undefined, [{ ...stored, touched: new Set() }]);
		this.#cursorRead = true;
	}

	async #isCanonical({ number, hash }: Pick<WatchedBlock, "number" | "hash">, head: WatchedBlock): Promise<boolean> {
		if (number === head.number) return hash === head.hash;
		return number < head.number && hash === (await this.#block(number)).hash;
	}

	async #assertStillThere(block: Pick<WatchedBlock, "number" | "hash">, events: readonly EscrowEvent[] = []) {
		const { hash } = await this.#block(block.number);
		const isOther = ({ blockNumber, blockHash }: EscrowEvent) =>
			blockNumber === block.number && blockHash !== block.hash;
		if (hash === block.hash && !events.some(isOther)) return;
		throw new WatchFaultError("CHAIN_MOVED", `block ${block.number} was replaced while it was read; it is read again`);
	}

	/** The latest unless a number is given. */
	async #block(blockNumber?: bigint): Promise<WatchedBlock> {
		const { client } = this.#options;
		const { number, hash, timestamp } = await client.getBlock(
			blockNumber === undefined ? { blockTag: "latest" } : { blockNumber },
		);
		return { number, hash, timestampSeconds: Number(timestamp) };
	}
}

/** Whether viem watches blocks by subscription: over a WebSocket, also one that is the first of several endpoints. */
function subscribes({ transport }: PublicClient): boolean {
	const { type, transports } = transport as Readonly<{
		type: string;
		transports?: readonly Readonly<{ config: Readonly<{ type: string }> }>[];
	}>;
	return type === "webSocket" || (type === "fallback" && transports?.[0]?.config.type === "webSocket");
}

/** What is to be remembered of a step: each block with events, and the one it ends with. */
function blocksOf(events: readonly EscrowEvent[], end: WatchedBlock): readonly RememberedBlock[] {
	const blocks = new Map<bigint, { number: bigint; hash: Hex; touched: Set<Hex> }>([
		[end.number, { number: end.number, hash: end.hash, touched: new Set() }],
	]);
	for (const { blockNumber: number, blockHash: hash, channelId } of events) {
		const block = blocks.get(number) ?? { number, hash, touched: new Set() };
		block.touched.add(channelId);
		blocks.set(number, block);
	}
	return [...blocks.values()];
}

/** Rejects when the signal does. A process that only polls may end; one that waits for its start may not. */
function sleep(
	ms: number,
	{ signal, keepsAlive }: Readonly<{ signal: AbortSignal | undefined; keepsAlive: boolean }>,
): Promise<void> {
	const { promise, resolve, reject } = Promise.withResolvers<void>();
	const timer: unknown = setTimeout(resolve, ms);
	if (!keepsAlive) (timer as { unref?: () => void }).unref?.();
	const abort = () => reject(signal?.reason);
	if (signal?.aborted) abort();
	signal?.addEventListener("abort", abort, { once: true });
	return promise.finally(() => {
		clearTimeout(timer as number);
		signal?.removeEventListener("abort", abort);
	});
}
