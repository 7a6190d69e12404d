import type { Hex } from "viem";
import type { ChannelRecord, HeldChannel, ListedChannel, PayerStore } from "../store/store.ts";
import type { LookParts } from "./parts.ts";

/** How long another process may take to give a channel back, in ms. */
const GIVE_BACK_MS = 10_000;

/** How many of a channel's own transactions are remembered, the newest ones. */
const MOST_TRANSACTIONS = 32;

/** The wallet has no such channel. */
export class ChannelUnknownError extends Error {
	override readonly name = "ChannelUnknownError";
	readonly code = "CHANNEL_UNKNOWN";
	readonly channelId: Hex;
	constructor(channelId: Hex) {
		super(`this wallet has no channel ${channelId}; \`sluice channels list\` shows which it has`);
		this.channelId = channelId;
	}
}

/** Another process of the agent goes on using the channel: its close can't be requested while vouchers are signed for it. */
export class ChannelInUseError extends Error {
	override readonly name = "ChannelInUseError";
	readonly code = "CHANNEL_IN_USE";
	readonly channelId: Hex;
	constructor(channelId: Hex) {
		super(
			`channel ${channelId} is in use by another process, which does not give it back; try again when its requests are done, or end it`,
		);
		this.channelId = channelId;
	}
}

/** A channel that is held here: its record as it was written last. */
export type Hold = { readonly store: PayerStore; channel: HeldChannel };

/**
 * A kept channel, whoever holds it.
 *
 * @throws ChannelUnknownError
 */
export async function findRecord({ store }: Pick<LookParts, "store">, channelId: Hex): Promise<ChannelRecord> {
	return (await findListed(store, channelId)).record;
}

/**
 * Works on a channel while nobody else may sign for it.
 *
 * @throws ChannelUnknownError, ChannelInUseError
 */
export async function withHeld<T>(
	{ store }: Pick<LookParts, "store">,
	channelId: Hex,
	signal: AbortSignal | undefined,
	work: (hold: Hold) => Promise<T>,
): Promise<T> {
	const channel = await store.takeById(channelId, GIVE_BACK_MS, signal);
	if (channel === undefined) {
		signal?.throwIfAborted();
		await findListed(store, channelId);
		throw new ChannelInUseError(channelId);
	}
	try {
		return await work({ store, channel });
	} finally {
		await store.release(channelId, channel.fence);
	}
}

/**
 * Writes what has changed of a held channel; it is on disk when this resolves.
 *
 * @throws HolderLostError when another process has taken it over
 */
export async function keep(hold: Hold, change: Partial<Pick<ChannelRecord, "status" | "recovery">>): Promise<void> {
	const { record, fence } = hold.channel;
	const { recovery = record.recovery } = change;
	const next = { ...record, ...change, ...(recovery && { recovery: recovery.slice(-MOST_TRANSACTIONS) }) };
	await hold.store.write({ channel: { record: next, fence } });
	hold.channel = { record: next, fence };
}

async function findListed(store: PayerStore, channelId: Hex): Promise<ListedChannel> {
	const listed = (await store.list()).find(({ record }) => record.state.channelId === channelId);
	if (listed === undefined) throw new ChannelUnknownError(channelId);
	return listed;
}
