import type { Hex } from "viem";

/** A block that was processed, and the channels whose events it held, or that were read as of it. */
export type RememberedBlock = Readonly<{ number: bigint; hash: Hex; touched: ReadonlySet<Hex> }>;

/**
 * The newest blocks that a watcher has processed: its heads, and every block with events. Above the oldest one no block
 * with events is missing, so that what a reorganization took away is known. Internal.
 */
export class RememberedBlocks {
	readonly #most: number;
	/** In ascending order. */
	#blocks: readonly RememberedBlock[] = [];

	constructor(most: number) {
		this.#most = most;
	}

	get newest(): RememberedBlock | undefined {
		return this.#blocks.at(-1);
	}

	get oldest(): RememberedBlock | undefined {
		return this.#blocks[0];
	}

	/** The newest one that is not above `number`. */
	upTo(number: bigint): RememberedBlock | undefined {
		return this.#blocks.findLast((block) => block.number <= number);
	}

	/** Channels with events in blocks above `number`; in all of them unless it is given. */
	touchedAbove(number: bigint | undefined): ReadonlySet<Hex> {
		const above = this.#blocks.filter((block) => number === undefined || block.number > number);
		return new Set(above.flatMap(({ touched }) => [...touched]));
	}

	/** The newest block up to `number` that the chain still has. Whoever has a block has all before it: hence by halves. */
	async newestCommon(
		number: bigint,
		isCanonical: (block: RememberedBlock) => Promise<boolean>,
	): Promise<RememberedBlock | undefined> {
		const blocks = this.#blocks.filter((block) => block.number <= number);
		const newest = blocks.at(-1);
		if (newest === undefined || (await isCanonical(newest))) return newest;
		let known = 0;
		let gone = blocks.length - 1;
		while (known < gone) {
			const middle = (known + gone) >> 1;
			const block = blocks[middle];
			if (block !== undefined && (await isCanonical(block))) known = middle + 1;
			else gone = middle;
		}
		return blocks[known - 1];
	}

	/** Forgets what lies above `base` (all, without one), and remembers these blocks. */
	replaceAbove(base: bigint | undefined, blocks: readonly RememberedBlock[]): void {
		const kept = this.#blocks.filter(({ number }) => base !== undefined && number <= base);
		const byNumber = new Map(kept.map((block) => [block.number, block]));
		for (const block of blocks) {
			const touched = new Set([...(byNumber.get(block.number)?.touched ?? []), ...block.touched]);
			byNumber.set(block.number, { ...block, touched });
		}
		const sorted = [...byNumber.values()].sort((a, b) => (a.number < b.number ? -1 : 1));
		this.#blocks = sorted.slice(-this.#most);
	}
}
