import type { Hex } from "viem";
import { PolicyRefusedError } from "../policy.ts";
import { pause } from "../retry.ts";
import type { ChannelRecord } from "../store/store.ts";
import { look, NothingDepositedError, type Sight, withdrawableAt } from "./onChain.ts";
import type { RecoveryParts } from "./parts.ts";
import type { SendingOptions } from "./send.ts";

/** How long after the grace period's end a chain whose clock stands still is waited for, in ms. */
const PATIENCE_MS = 3_600_000;

const POLL_MS = 5_000;

export type WaitOptions = SendingOptions &
	Readonly<{
		/** Whether the grace period is waited for. Default: yes. */
		wait?: boolean | undefined;
		/** How often the chain is asked, in ms. Default 5,000. */
		pollMs?: number | undefined;
		/** How long it is waited at most, in ms. Default: what is left of the grace period, and an hour. */
		maxWaitMs?: number | undefined;
	}>;

/** Nobody has asked for the channel's close, or a top-up of the payer's has cancelled the request. */
export class CloseNotRequestedError extends Error {
	override readonly name = "CloseNotRequestedError";
	readonly code = "CLOSE_NOT_REQUESTED";
	readonly channelId: Hex;
	constructor(channelId: Hex) {
		super(
			`no close of channel ${channelId} is requested, or a top-up has cancelled it; \`sluice channels request-close ${channelId}\` asks for it`,
		);
		this.channelId = channelId;
	}
}

/** The grace period is not over. */
export class GracePeriodError extends Error {
	override readonly name = "GracePeriodError";
	readonly code = "GRACE_PERIOD";
	readonly channelId: Hex;
	/** By the chain's clock. */
	readonly untilSeconds: number;
	/** Unix seconds of the chain. */
	readonly withdrawableAt: number;
	constructor(channelId: Hex, untilSeconds: number, readyAt: number) {
		super(
			`channel ${channelId}: the grace period goes on for ${untilSeconds} s by the chain's clock, until ${new Date(readyAt * 1_000).toISOString()}; withdraw then`,
		);
		this.channelId = channelId;
		this.untilSeconds = untilSeconds;
		this.withdrawableAt = readyAt;
	}
}

/** Waits for the end of grace periods, with all that it has seen of one so far: it goes on where it stopped. */
export class GracePeriod {
	readonly #parts: RecoveryParts;
	readonly #record: ChannelRecord;
	readonly #options: WaitOptions;
	readonly #startedAt: number;
	#settled: bigint | undefined;
	/** When the end was seen first, by the local clock in ms, and how far it was off by the chain's. */
	#first: Readonly<{ at: number; untilSeconds: number; readyAt: number }> | undefined;
	#isFailing = false;

	constructor(parts: RecoveryParts, record: ChannelRecord, options: WaitOptions) {
		this.#parts = parts;
		this.#record = record;
		this.#options = options;
		this.#startedAt = parts.now();
	}

	/**
	 * Resolves when `withdraw` may work, or the channel is paid out already. It goes by the timestamps of blocks; where no block
	 * comes, it may be worth a try once the time has passed by the local clock. A node that fails does not end the wait.
	 *
	 * @throws CloseNotRequestedError, NothingDepositedError; the reason of the signal
	 * @throws GracePeriodError when it is not to wait, or has waited long enough
	 */
	async over(): Promise<void> {
		const { signal } = this.#options;
		for (;;) {
			signal?.throwIfAborted();
			const sight = await this.#look();
			if (sight !== undefined && (await this.#isOver(sight))) return;
			await this.again();
		}
	}

	/** It was not worth a try: the chain's clock is not that far. */
	async again(): Promise<void> {
		const { pollMs = POLL_MS, signal } = this.#options;
		this.#assertPatience();
		const left = this.#first === undefined ? pollMs : this.#left(this.#first) * 1_000;
		await pause(Math.max(Math.min(pollMs, left), Math.min(pollMs, 250)), signal);
	}

	async #isOver(sight: Sight): Promise<boolean> {
		const { channel, timestamp } = sight;
		const { channelId } = this.#record.state;
		this.#tellSettled(channel.settled);
		if (channel.finalized) return true;
		const readyAt = await withdrawableAt(sight, this.#record);
		if (readyAt === undefined) throw new CloseNotRequestedError(channelId);
		const untilSeconds = readyAt - timestamp;
		if (untilSeconds <= 0) return true;
		if (this.#first?.readyAt !== readyAt) this.#first = { at: this.#parts.now(), untilSeconds, readyAt };
		const { wait = true, onProgress } = this.#options;
		if (!wait) throw new GracePeriodError(channelId, untilSeconds, readyAt);
		onProgress?.({ phase: "grace", channelId, untilSeconds, withdrawableAt: readyAt, settled: channel.settled });
		return this.#left(this.#first) <= 0;
	}

	/** What is left by the local clock, in seconds. */
	#left({ at, untilSeconds }: Readonly<{ at: number; untilSeconds: number }>): number {
		return untilSeconds - (this.#parts.now() - at) / 1_000;
	}

	#tellSettled(settled: bigint): void {
		const before = this.#settled ?? settled;
		this.#settled = settled;
		if (settled === before) return;
		const { channelId } = this.#record.state;
		this.#options.onProgress?.({ phase: "settled", channelId, settled, delta: settled - before });
	}

	async #look(): Promise<Sight | undefined> {
		const { wait = true, onProgress } = this.#options;
		const { channelId } = this.#record.state;
		try {
			const sight = await look(this.#parts, this.#record);
			if (this.#isFailing) onProgress?.({ phase: "node-back", channelId });
			this.#isFailing = false;
			return sight;
		} catch (error) {
			if (!wait || error instanceof NothingDepositedError || error instanceof PolicyRefusedError) throw error;
			if (!this.#isFailing) onProgress?.({ phase: "node-failing", channelId, reason: reasonOf(error) });
			this.#isFailing = true;
			return undefined;
		}
	}

	#assertPatience(): void {
		const { now } = this.#parts;
		const { maxWaitMs } = this.#options;
		const first = this.#first;
		const deadline =
			maxWaitMs === undefined
				? (first?.at ?? this.#startedAt) + (first?.untilSeconds ?? 0) * 1_000 + PATIENCE_MS
				: this.#startedAt + maxWaitMs;
		if (now() < deadline) return;
		if (first === undefined) throw new NodeSilentError();
		const left = Math.max(1, Math.ceil(this.#left(first)));
		throw new GracePeriodError(this.#record.state.channelId, left, first.readyAt);
	}
}

/** The payer's node has not answered for as long as it was waited. */
export class NodeSilentError extends Error {
	override readonly name = "NodeSilentError";
	readonly code = "NODE_SILENT";
	constructor() {
		super("the payer's node did not answer all the time; check its URL, and run this again");
	}
}

/** Its name alone: messages of viem's hold the node's URL, which can hold a key. */
export function reasonOf(error: unknown): string {
	return error instanceof Error ? error.name : "unknown error";
}
