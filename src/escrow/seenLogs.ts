import type { Hex } from "viem";
import type { LogPlace } from "./escrowEvents.ts";

/**
 * Which logs of the newest blocks a watcher has delivered, by the hash of their block and their index in it. What is
 * forgotten counts as not delivered. Internal.
 */
export class SeenLogs {
	readonly #most: number;
	readonly #blocks = new Map<Hex, Readonly<{ number: bigint; indexes: Set<number> }>>();
	#size = 0;

	/** @param most how many are kept: beyond that the lowest blocks are forgotten */
	constructor(most: number) {
		this.#most = most;
	}

	get size(): number {
		return this.#size;
	}

	has({ blockHash, logIndex }: LogPlace): boolean {
		return this.#blocks.get(blockHash)?.indexes.has(logIndex) ?? false;
	}

	add(places: readonly LogPlace[]): void {
		for (const { blockNumber: number, blockHash, logIndex } of places) {
			const block = this.#blocks.get(blockHash) ?? { number, indexes: new Set() };
			this.#blocks.set(blockHash, block);
			if (!block.indexes.has(logIndex)) this.#size++;
			block.indexes.add(logIndex);
		}
		if (this.#size <= this.#most) return;
		for (const [hash] of [...this.#blocks].sort(([, a], [, b]) => (a.number < b.number ? -1 : 1))) {
			if (this.#size <= this.#most) return;
			this.#forget(hash);
		}
	}

	/** Keeps those of blocks in this range, both ends included. */
	keepWithin(lowest: bigint, highest: bigint): void {
		for (const [hash, { number }] of this.#blocks) if (number < lowest || number > highest) this.#forget(hash);
	}

	#forget(hash: Hex): void {
		this.#size -= this.#blocks.get(hash)?.indexes.size ?? 0;
		this.#blocks.delete(hash);
	}
}
