import type { Address, Hex, PublicClient } from "viem";
import { type EscrowEvent, type LogPlace, readEscrowEvents } from "./escrowEvents.ts";
import { type RememberedBlock, RememberedBlocks } from "./rememberedBlocks.ts";
import { SeenLogs } from "./seenLogs.ts";

/** A block as the watcher knows it. */
export type WatchedBlock = Readonly<{ number: bigint; hash: Hex; timestampSeconds: number }>;

/** What a watcher has found out since its last step. */
export type WatchStep = Readonly<{
	/** The block up to which everything is known after this step. Not the chain's newest while a gap is worked off. */
	head: WatchedBlock;
	/** The chain's newest block when the step began: `head`, unless a gap is worked off. A node may keep no state of older ones. */
	latest: WatchedBlock;
	/**
	 * New ones, in order; also of blocks before the last step's, where a node had not shown them. None of them is from a block
	 * that was left behind; some may have been delivered before.
	 */
	events: readonly EscrowEvent[];
	/** Channels of these events, and those touched by what a reorganization took away, or read as of it. */
	touched: ReadonlySet<Hex>;
	/** No block below it was replaced. Absent where there was no reorganization. */
	reorganizedFrom?: bigint;
	/** Any channel may have changed: a first run, or a reorganization deeper than what is remembered. */
	everything: boolean;
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

export type StepReaderOptions = Readonly<{
	client: PublicClient;
	escrow: Address;
	readCursor(): Promise<Pick<WatchedBlock, "number" | "hash"> | undefined>;
	/** See `WatcherOptions` for these. */
	overlapBlocks: number;
	rereadBlocks: number;
	maxBlocksPerStep: number;
	rememberedBlocks: number;
}>;

/** A step that was read, and what it was read from. */
export type Reading = Readonly<{
	step: WatchStep;
	/** Whether it ends in another block than the one before. */
	moves: boolean;
	base: RememberedBlock | undefined;
}>;

/** How many logs of the blocks that are read again are told apart. Beyond that some are delivered more than once. */
const MOST_SEEN_LOGS = 100_000;

/** Where the next events are looked for, and what is known to be gone. */
type Plan = Readonly<{
	/** The newest block that is still good; nothing is known without it. */
	base: RememberedBlock | undefined;
	from: bigint;
	taken: ReadonlySet<Hex>;
	reorganizedFrom: bigint | undefined;
}>;

/**
 * Reads one step after the other for a watcher: what the chain shows since the last one that was taken. Behind one URL
 * there may be several nodes, and one that is behind the head that another has shown gives the logs it has, without an
 * error. So with every step the blocks before it are read again, and of those what was not shown before is news. Internal.
 */
export class StepReader {
	readonly #options: StepReaderOptions;
	readonly #blocks: RememberedBlocks;
	readonly #seen = new SeenLogs(MOST_SEEN_LOGS);
	#cursorRead = false;
	#overlapDue = true;
	/** What lies below is not read again: this run began there. */
	#lowest: bigint | undefined;
	/** Delivered in a step that did not end: its block, and the channels of its events. */
	#unfinished: { block: WatchedBlock; touched: Set<Hex> } | undefined;

	constructor(options: StepReaderOptions) {
		this.#options = options;
		this.#blocks = new RememberedBlocks(options.rememberedBlocks);
	}

	/** The step from what was taken last to the chain's head. Whoever has taken it says so: `taken`. */
	async next(): Promise<Reading> {
		const { client, escrow, maxBlocksPerStep } = this.#options;
		const head = await this.#block();
		const plan = await this.#plan(head);
		const { base } = plan;
		const last = (base === undefined ? plan.from : base.number + 1n) + BigInt(maxBlocksPerStep) - 1n;
		let end = head;
		let events: readonly EscrowEvent[] = [];
		if (plan.from <= head.number) {
			if (last < head.number) end = await this.#block(last);
			const isNew = (place: LogPlace) => this.#isNew(place, base);
			events = await readEscrowEvents(client, escrow, { fromBlock: plan.from, toBlock: end.number, isNew });
			if (end.number !== base?.number || events.length > 0) await this.#assertStillThere(end, events);
			// The end was asked for after the base: they may be of two chains.
			if (end !== head && base !== undefined) await this.#assertStillThere(base);
		}
		const found = [...(this.#unfinished?.touched ?? []), ...events.map(({ channelId }) => channelId)];
		this.#unfinished = { block: end, touched: new Set(found) };
		const step: WatchStep = {
			head: end,
			latest: head,
			events,
			touched: new Set([...plan.taken, ...found]),
			...(plan.reorganizedFrom !== undefined && { reorganizedFrom: plan.reorganizedFrom }),
			everything: base === undefined,
		};
		return { step, moves: end.number !== base?.number, base };
	}

	/** The step is over: the next one begins behind it. */
	taken({ step, base }: Reading): void {
		const { head, events } = step;
		this.#blocks.replaceAbove(base?.number, blocksOf(step));
		this.#seen.keepWithin(head.number + 1n - BigInt(this.#options.rereadBlocks), base?.number ?? -1n);
		this.#seen.add(events);
		this.#unfinished = undefined;
		this.#overlapDue = false;
	}

	/** Above the base nothing counts as delivered: it may have been taken away and be there again. */
	#isNew(place: LogPlace, base: RememberedBlock | undefined): boolean {
		return base === undefined || place.blockNumber > base.number || !this.#seen.has(place);
	}

	async #plan(head: WatchedBlock): Promise<Plan> {
		await this.#readCursor();
		const { newest, oldest } = this.#blocks;
		const none: ReadonlySet<Hex> = new Set();
		if (newest === undefined || oldest === undefined) {
			return { base: undefined, from: this.#from(head.number + 1n, 0), taken: none, reorganizedFrom: undefined };
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
			const from = atLeast(0n, oldest.number - BigInt(this.#options.rememberedBlocks));
			if (this.#lowest !== undefined && from < this.#lowest) this.#lowest = from;
			return { base, from, taken: this.#blocks.touchedAbove(undefined), reorganizedFrom: from };
		}
		const taken = this.#blocks.touchedAbove(base.number);
		const replaced = base !== newest || (await this.#isUnfinishedGone(head));
		return {
			base,
			from: this.#from(base.number + 1n, this.#options.rereadBlocks),
			taken,
			reorganizedFrom: replaced ? base.number + 1n : undefined,
		};
	}

	/** What was delivered in a step that did not end may be gone by now, and nothing else remembers it. */
	async #isUnfinishedGone(head: WatchedBlock): Promise<boolean> {
		return this.#unfinished !== undefined && !(await this.#isCanonical(this.#unfinished.block, head));
	}

	/** From where on a step reads whose own blocks begin at `next`: some earlier, but not before this run began. */
	#from(next: bigint, reread: number): bigint {
		if (this.#overlapDue) {
			const earliest = atLeast(0n, next - BigInt(Math.max(reread, this.#options.overlapBlocks)));
			if (this.#lowest === undefined || earliest < this.#lowest) this.#lowest = earliest;
			return this.#lowest;
		}
		const from = atLeast(this.#lowest ?? 0n, next - BigInt(reread));
		return from < next ? from : next;
	}

	async #readCursor(): Promise<void> {
		if (this.#cursorRead) return;
		const stored = await this.#options.readCursor();
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

function atLeast(least: bigint, value: bigint): bigint {
	return value < least ? least : value;
}

/**
 * What is to be remembered of a step: each block with events, and the one it ends with. As of that one the channels were
 * read: they may show what a node has kept to itself, and that goes with the block, too.
 */
function blocksOf({ head, events, touched, everything }: WatchStep): readonly RememberedBlock[] {
	const { number, hash } = head;
	// All were read: when this block goes, any may change again.
	if (everything) return [{ number, hash, touched }];
	const blocks = new Map<bigint, { number: bigint; hash: Hex; touched: Set<Hex> }>([
		[number, { number, hash, touched: new Set(touched) }],
	]);
	for (const { blockNumber, blockHash, channelId } of events) {
		const block = blocks.get(blockNumber) ?? { number: blockNumber, hash: blockHash, touched: new Set() };
		block.touched.add(channelId);
		blocks.set(blockNumber, block);
	}
	return [...blocks.values()];
}
