import type { Address, Hex } from "viem";
import { type EscrowChannel, readChannels, readCloseGraceSeconds } from "../../escrow/reads.ts";
import { remembered } from "../remembered.ts";
import { pause } from "../retry.ts";
import type { ChannelRecord } from "../store/store.ts";
import { type ChannelEvent, type Clock, changesOf, type Seen, seen } from "./changes.ts";
import { reasonOf } from "./grace.ts";
import type { LookParts } from "./parts.ts";

const POLL_MS = 15_000;

/** What a watcher tells: of a channel, or of what it watches by. */
export type WatchEvent =
	| ChannelEvent
	/** The node of a chain does not answer; told once, until it does again. Its channels are not watched meanwhile. */
	| Readonly<{ kind: "node-failing"; chainId: number; reason: string }>
	| Readonly<{ kind: "node-back"; chainId: number }>
	/** The wallet can't be read; told once. */
	| Readonly<{ kind: "store-failing"; reason: string }>
	| Readonly<{ kind: "store-back" }>
	/** Every channel was looked at once. */
	| Readonly<{ kind: "watching"; channels: number }>;

export type WatchOptions = Readonly<{
	/** Hears of everything, in order; what it throws ends the watch. */
	onEvent: (event: WatchEvent) => void;
	/** Ends the watch. */
	signal?: AbortSignal | undefined;
	/** How often the chains are asked, in ms. Default 15,000. */
	pollMs?: number | undefined;
}>;

/**
 * Watches every kept channel that is not paid out, on the payer's own nodes: what is settled, who asks for a close, what
 * becomes of deposits. Above all that no more is settled than was signed for: the escrow does not let it happen, so where it
 * is told, something is badly wrong. Nodes that fail are told of once, and asked again. Resolves when the signal is aborted.
 *
 * @throws what `onEvent` throws
 * @example
 * await watchChannels(parts, { signal, onEvent: (event) => { if (event.kind === "over-settled") alarm(event); } });
 */
export async function watchChannels(parts: LookParts, options: WatchOptions): Promise<void> {
	const { signal, pollMs = POLL_MS, onEvent } = options;
	const watch = new Watch(parts, onEvent);
	let isFirst = true;
	while (!signal?.aborted) {
		const channels = await watch.round(signal);
		if (isFirst && channels !== undefined) {
			isFirst = false;
			onEvent({ kind: "watching", channels });
		}
		await pause(pollMs, signal);
	}
}

class Watch {
	readonly #parts: LookParts;
	readonly #tell: (event: WatchEvent) => void;
	readonly #seen = new Map<Hex, Seen>();
	readonly #graceSeconds = new Map<string, Promise<number>>();
	readonly #failing = new Set<number>();
	#isStoreFailing = false;

	constructor(parts: LookParts, tell: (event: WatchEvent) => void) {
		this.#parts = parts;
		this.#tell = tell;
	}

	/** One look at everything. Resolves to how many channels it was; `undefined` where the wallet could not be read. */
	async round(signal: AbortSignal | undefined): Promise<number | undefined> {
		const records = await this.#records();
		if (records === undefined) return undefined;
		const watched = [...records.values()].filter(
			({ status, state }) => status !== "closed" || this.#seen.get(state.channelId)?.channel.finalized === false,
		);
		for (const channelId of this.#seen.keys()) if (!records.has(channelId)) this.#seen.delete(channelId);
		for (const [chainId, ofChain] of Map.groupBy(watched, ({ state }) => state.chainId)) {
			if (signal?.aborted) break;
			await this.#lookAt(chainId, ofChain);
		}
		return watched.length;
	}

	async #records(): Promise<ReadonlyMap<Hex, ChannelRecord> | undefined> {
		try {
			const listed = await this.#parts.store.list();
			if (this.#isStoreFailing) this.#tell({ kind: "store-back" });
			this.#isStoreFailing = false;
			return new Map(listed.map(({ record }) => [record.state.channelId, record]));
		} catch (error) {
			if (!this.#isStoreFailing) this.#tell({ kind: "store-failing", reason: reasonOf(error) });
			this.#isStoreFailing = true;
			return undefined;
		}
	}

	async #lookAt(chainId: number, records: readonly ChannelRecord[]): Promise<void> {
		for (const [escrow, ofEscrow] of Map.groupBy(records, ({ state }) => state.escrow)) {
			const found = await this.#read(chainId, escrow, ofEscrow);
			if (found === undefined) return;
			await this.#compare(ofEscrow, found.channels, found.clock);
		}
	}

	async #read(chainId: number, escrow: Address, records: readonly ChannelRecord[]) {
		try {
			const client = await this.#parts.nodes.at(chainId);
			const { number, timestamp } = await client.getBlock({ blockTag: "latest" });
			const ids = records.map(({ state }) => state.channelId);
			const graceSeconds = await remembered(this.#graceSeconds, `${chainId}:${escrow}`, () =>
				readCloseGraceSeconds(client, escrow),
			);
			const channels = await readChannels(client, escrow, ids, number);
			if (this.#failing.delete(chainId)) this.#tell({ kind: "node-back", chainId });
			return { channels, clock: { timestamp: Number(timestamp), graceSeconds } };
		} catch (error) {
			if (!this.#failing.has(chainId)) this.#tell({ kind: "node-failing", chainId, reason: reasonOf(error) });
			this.#failing.add(chainId);
			return undefined;
		}
	}

	/** Whether the chain shows what this wallet may have done since its record was read. */
	#mayBeOurs({ state }: ChannelRecord, now: EscrowChannel | undefined): boolean {
		if (now === undefined) return false;
		const before = this.#seen.get(state.channelId)?.channel;
		return (
			now.settled > BigInt(state.signed) ||
			now.closeRequestedAt !== (before?.closeRequestedAt ?? 0) ||
			now.finalized !== (before?.finalized ?? false)
		);
	}

	async #compare(
		records: readonly ChannelRecord[],
		channels: ReadonlyMap<Hex, EscrowChannel>,
		clock: Clock,
	): Promise<void> {
		// What was signed or sent since, here or by another process, is on disk before the chain can show it: read again, the record
		// has it.
		const isNews = records.some((record) => this.#mayBeOurs(record, channels.get(record.state.channelId)));
		const again = isNews ? await this.#records() : undefined;
		if (isNews && again === undefined) return;
		for (const record of records) {
			const { channelId } = record.state;
			const channel = channels.get(channelId);
			const current = again?.get(channelId) ?? record;
			for (const event of changesOf(current, this.#seen.get(channelId), channel, clock)) this.#tell(event);
			if (channel === undefined) this.#seen.delete(channelId);
			else this.#seen.set(channelId, seen(channel, clock));
		}
	}
}
