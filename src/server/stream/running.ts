import type { Hex } from "viem";
import type { MeterControl } from "./meter.ts";

/** A metered request under way on a channel. */
export type RunningStream = Readonly<{
	control: MeterControl;
	/** Of its request, if it had one. */
	idempotencyKey: string | undefined;
	/** Resolves when it has let go of what it had reserved. */
	ended: Promise<void>;
}>;

/** The metered requests that are under way, and the one of each channel that is its stream (draft-evm-session-00, Concurrency Model; D16). */
export class RunningStreams {
	/** The channel's stream. */
	readonly #streams = new Map<Hex, RunningStream>();
	readonly #all = new Map<Hex, Set<RunningStream>>();
	/** Admissions of one channel, one after the other. */
	readonly #turns = new Map<Hex, Promise<unknown>>();

	/** How many requests are under way. */
	get size(): number {
		let size = 0;
		for (const running of this.#all.values()) size += running.size;
		return size;
	}

	/** The channel's stream. */
	of(channelId: Hex): RunningStream | undefined {
		return this.#streams.get(channelId);
	}

	/**
	 * Runs `work` when no other work is under way for the channel: whether a stream runs, and that a new one takes its place, is
	 * one step.
	 */
	inTurn<T>(channelId: Hex, work: () => Promise<T>): Promise<T> {
		const before = this.#turns.get(channelId) ?? Promise.resolve();
		const run = before.then(work, work);
		const turn: Promise<unknown> = run
			.catch(() => undefined)
			.finally(() => {
				if (this.#turns.get(channelId) === turn) this.#turns.delete(channelId);
			});
		this.#turns.set(channelId, turn);
		return run;
	}

	/**
	 * A request is under way from now on; returns an end to that.
	 *
	 * @param isShared Others may run beside it: it does not take the place of the channel's stream.
	 */
	begin(channelId: Hex, stream: RunningStream, isShared: boolean): () => void {
		if (!isShared && this.#streams.has(channelId)) throw new Error(`channel ${channelId} has a stream already`);
		if (!isShared) this.#streams.set(channelId, stream);
		const all = this.#all.get(channelId) ?? new Set();
		this.#all.set(channelId, all);
		all.add(stream);
		return () => {
			if (this.#streams.get(channelId) === stream) this.#streams.delete(channelId);
			all.delete(stream);
			if (all.size === 0 && this.#all.get(channelId) === all) this.#all.delete(channelId);
		};
	}

	/** Ends all of a channel: what has left by then is charged. */
	stop(channelId: Hex): void {
		for (const { control } of [...(this.#all.get(channelId) ?? [])]) control.stop("closed");
	}

	/** Ends all of them. */
	stopAll(): void {
		for (const channelId of [...this.#all.keys()]) this.stop(channelId);
	}
}
