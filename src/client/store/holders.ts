/** Who has channels, and who of them is still there. */
import type { Hex } from "viem";
import { PayerStoreError } from "./store.ts";

/** Those who share the database without sharing this memory: other tabs of a browser. */
export interface Neighbours {
	/** A holder of this memory is there from now on. */
	arrive(holder: string): void;
	leave(holder: string): void;
	/** Whether a holder of theirs is still there. */
	isThere(holder: string): Promise<boolean>;
	/** A holder that may be theirs is asked to give a channel back. */
	tellWanted(holder: string, channelId: Hex): void;
	/** A channel may be free. */
	tellFreed(): void;
	/** Calls for what they tell. Returns how to stop that. */
	listen(on: Readonly<{ wanted: (holder: string, channelId: Hex) => void; freed: () => void }>): () => void;
	/** How often, in milliseconds, it is looked again whether one is gone while somebody waits for its channel. */
	readonly lookMs: number;
}

type WantedListener = (channelId: Hex) => void;

export type HoldersOptions = Readonly<{
	/** How long a holder counts as there of which only the files know. */
	graceMs: number;
	neighbours?: Neighbours | undefined;
}>;

/** The holders of a book: the ones that are there, and for a moment the ones that an earlier owner of the files knew. */
export class Holders {
	readonly #there = new Map<string, Set<WantedListener>>();
	readonly #neighbours: Neighbours | undefined;
	/** On the clock that nobody can set. */
	readonly #graceUntil: number;

	constructor({ graceMs, neighbours }: HoldersOptions) {
		this.#neighbours = neighbours;
		this.#graceUntil = neighbours === undefined ? performance.now() + graceMs : Number.NEGATIVE_INFINITY;
	}

	arrive(holder: string): void {
		if (this.#there.has(holder)) return;
		this.#there.set(holder, new Set());
		this.#neighbours?.arrive(holder);
	}

	leave(holder: string): void {
		if (this.#there.delete(holder)) this.#neighbours?.leave(holder);
	}

	get all(): readonly string[] {
		return [...this.#there.keys()];
	}

	isHere(holder: string): boolean {
		return this.#there.has(holder);
	}

	/** @throws PayerStoreError when it was closed, or is taken for gone */
	check(holder: string): void {
		if (!this.isHere(holder)) throw new PayerStoreError("this wallet is closed: open it again");
	}

	/** Whether a channel is held by somebody who may still be there. */
	async isBusy({ holder }: Readonly<{ holder?: string }>): Promise<boolean> {
		if (holder === undefined) return false;
		if (this.isHere(holder)) return true;
		if (this.#neighbours !== undefined) return await this.#neighbours.isThere(holder);
		return performance.now() < this.#graceUntil;
	}

	/** Whether a holder is there as far as anybody knows: what nobody asks for again needs no grace. */
	async isThere(holder: string): Promise<boolean> {
		return this.isHere(holder) || ((await this.#neighbours?.isThere(holder)) ?? false);
	}

	/** After how long an answer of `isBusy` may be another one that nobody tells of. */
	get lookMs(): number | undefined {
		if (this.#neighbours !== undefined) return this.#neighbours.lookMs;
		const graceMs = this.#graceUntil - performance.now();
		return graceMs > 0 ? graceMs : undefined;
	}

	onWanted(holder: string, listener: WantedListener): () => void {
		const listeners = this.#there.get(holder);
		// So that the same one can listen twice.
		const own: WantedListener = (channelId) => listener(channelId);
		listeners?.add(own);
		return () => listeners?.delete(own);
	}

	/** Asks a holder to give a channel back. */
	ask(holder: string, channelId: Hex): void {
		const listeners = this.#there.get(holder);
		if (listeners === undefined) this.#neighbours?.tellWanted(holder, channelId);
		for (const listener of listeners ?? []) listener(channelId);
	}
}
