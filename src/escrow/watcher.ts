import type { Address, Hex, PublicClient } from "viem";
import { StepReader, type WatchedBlock, WatchFaultError, type WatchStep } from "./stepReader.ts";

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
	/**
	 * How many blocks before its own each step reads again, for logs that a node which lags did not show: another one behind
	 * the same URL may have shown the head. Also from before the cursor, in the first step after a restart. Default 64.
	 */
	rereadBlocks?: number;
	/** How many new blocks are worked off in one step at most. Default 1,936: with those read again 2,000. */
	maxBlocksPerStep?: number;
	/** How many blocks are remembered to tell what a reorganization took away. Default 256. */
	rememberedBlocks?: number;
	/** Unix milliseconds. */
	now?: () => number;
}>;

/** How often in a row `catchUp` may fail. */
const CATCH_UP_ATTEMPTS = 8;

const RETRY_MS = 250;

/**
 * Follows an escrow's events from a stored cursor, through gaps, reorganizations and silence of the node. Steps never
 * overlap; the cursor moves only after a step was taken, so that each event is delivered at least once. An event that
 * a node kept to itself is delivered when one shows it, up to `rereadBlocks` later.
 *
 * @example
 * const watcher = new EscrowWatcher({ client, escrow, cursor, onStep: keepCurrent, onFault: report });
 * await watcher.catchUp();
 * watcher.start();
 */
export class EscrowWatcher {
	readonly #options: Required<WatcherOptions>;
	readonly #reader: StepReader;
	#current: Promise<boolean> | undefined;
	/** The step that begins when the current one has ended, because somebody has asked for it meanwhile. */
	#after: Readonly<{ done: Promise<void>; cancel: () => void }> | undefined;
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
			rereadBlocks: 64,
			maxBlocksPerStep: 1_936,
			rememberedBlocks: 256,
			now: Date.now,
			...options,
		};
		const { cursor } = this.#options;
		this.#reader = new StepReader({ ...this.#options, readCursor: () => cursor.read() });
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
		const { cursor, onStep, now } = this.#options;
		const askedAt = now();
		const reading = await this.#reader.next();
		const { head, latest } = reading.step;
		this.#processingTo = head.number;
		await onStep(reading.step);
		if (reading.moves) await cursor.write(head);
		this.#reader.taken(reading);
		const reached = head.number === latest.number;
		if (reached) this.#seen = { block: head, at: askedAt };
		return reached;
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
