import type { Hex } from "viem";
import type { MeterControl } from "./meter.ts";

/** A stream under way on a channel. */
export type RunningStream = Readonly<{
	control: MeterControl;
	/** Of its request, if it had one. */
	idempotencyKey: string | undefined;
	/** Resolves when it has let go of what it had reserved. */
	ended: Promise<void>;
}>;

/** The one stream of each channel (draft-evm-session-00, Concurrency Model; D16). */
export class RunningStreams {
	readonly #byChannel = new Map<Hex, RunningStream>();

	get size(): number {
		return this.#byChannel.size;
	}

	of(channelId: Hex): RunningStream | undefined {
		return this.#byChannel.get(channelId);
	}

	/** Ends all of them: what has left by then is charged. */
	stopAll(): void {
		for (const { control } of [...this.#byChannel.values()]) control.stop("closed");
	}

	/** From now on it is the channel's stream; returns an end to that. */
	begin(channelId: Hex, stream: RunningStream): () => void {
		this.#byChannel.set(channelId, stream);
		return () => {
			if (this.#byChannel.get(channelId) === stream) this.#byChannel.delete(channelId);
		};
	}
}
