import type { Hex } from "viem";
import type { ChainStateReader } from "./chainState.ts";
import type { Channel } from "./channel.ts";
import type { EngineLog } from "./context.ts";
import { describeError } from "./describeError.ts";
import { rarely } from "./rarely.ts";
import type { ChannelStore } from "./store/store.ts";

export type SweepOptions = Readonly<{
	chainId: number;
	store: Pick<ChannelStore, "due">;
	chainState: Pick<ChainStateReader, "observe">;
	/** Whether a channel is of the escrow that is followed. */
	isHere: (channel: Channel) => boolean;
	/** How long a channel goes without having been read itself, and how often all are looked through, in ms. */
	everyMs: number;
	/** How often it looks whether there is anything to do, in ms. */
	pollMs: number;
	/** Unix milliseconds. */
	now: () => number;
	log: EngineLog;
}>;

/** How many channels that owe something are read in one round, the highest amounts first, and how many are looked at for it. */
const MOST_OWING = 2_000;
const MOST_SCANNED = 20_000;

/** How many channels wait at a time to be read because they are in use. The others come by their next voucher. */
const MOST_RELIED = 10_000;

/** How many channels are read at a time. */
const PAGE = 500;

/** After a failure the next round comes this many times sooner. */
const SOONER = 8;

/** How often the same trouble with the node is logged, in ms. */
const FAULT_LOG_MS = 60_000;

/**
 * The second net under the escrow's events: a node may keep an event to itself for longer than they are read again, and a
 * close request among them would cost all that its channel owes (I9). So channels are read by themselves now and then,
 * also while their events say that nothing has happened: those that are in use, and those that owe something.
 */
export class Sweep {
	readonly #options: SweepOptions;
	/** In use, and read too long ago; each once. */
	readonly #relied = new Set<Hex>();
	readonly #tell: (work: () => void) => void;
	#sweptAt = Number.NEGATIVE_INFINITY;
	#waitMs: number;
	#timer: ReturnType<typeof setInterval> | undefined;
	#round: Promise<void> | undefined;
	#isStopped = false;

	constructor(options: SweepOptions) {
		this.#options = options;
		this.#waitMs = options.everyMs;
		this.#tell = rarely(FAULT_LOG_MS, options.now);
	}

	/** Something is sold on this channel by what its events say, and by nothing else. It is read soon, if that is due. */
	relied(channel: Channel): void {
		if (this.#isDue(channel) && this.#relied.size < MOST_RELIED) this.#relied.add(channel.channelId);
	}

	/** Goes on by itself until `stop`. It keeps no process alive. */
	start(): void {
		if (this.#isStopped || this.#timer !== undefined) return;
		this.#timer = setInterval(() => this.#tick(), this.#options.pollMs);
		(this.#timer as { unref?: () => void }).unref?.();
		this.#tick();
	}

	/** Resolves when nothing is read any more. */
	async stop(): Promise<void> {
		this.#isStopped = true;
		clearInterval(this.#timer);
		await this.#round;
	}

	#tick(): void {
		this.#round ??= this.#run().finally(() => {
			this.#round = undefined;
		});
	}

	/** What is due now. Never rejects: what failed is due again. */
	async #run(): Promise<void> {
		const { chainId, log, now, everyMs } = this.#options;
		const isRound = !within(this.#waitMs, now() - this.#sweptAt);
		try {
			const relied = [...this.#relied];
			this.#relied.clear();
			await this.#read(relied);
			if (!isRound) return;
			await this.#read(await this.#owing());
			this.#waitMs = everyMs;
		} catch (error) {
			this.#waitMs = everyMs / SOONER;
			const values = { chainId, reason: describeError(error) };
			if (this.#isStopped) return;
			this.#tell(() => log.warn(values, "channels can't be read by themselves right now"));
		}
		if (isRound) this.#sweptAt = now();
	}

	async #read(channelIds: readonly Hex[]): Promise<void> {
		for (let from = 0; from < channelIds.length && !this.#isStopped; from += PAGE)
			await this.#options.chainState.observe(channelIds.slice(from, from + PAGE));
	}

	/** Channels that owe something and were read too long ago, the highest amounts first. */
	async #owing(): Promise<readonly Hex[]> {
		const { store, isHere } = this.#options;
		const owing: Hex[] = [];
		for await (const channel of store.due("unsettled", { limit: MOST_SCANNED })) {
			if (isHere(channel) && this.#isDue(channel)) owing.push(channel.channelId);
			if (owing.length === MOST_OWING || this.#isStopped) break;
		}
		return owing;
	}

	#isDue({ chainReadAt }: Channel): boolean {
		const { everyMs, now } = this.#options;
		return !within(everyMs, now() - chainReadAt);
	}
}

/** A time that is yet to come is none that has passed lately: the clock was set back. */
function within(ms: number, passed: number): boolean {
	return passed >= 0 && passed <= ms;
}
