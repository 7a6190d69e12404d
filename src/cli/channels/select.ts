import type { Address } from "viem";
import { type Channel, chainNow, unsettled } from "../../server/channel.ts";
import type { ChannelStore } from "../../server/store/store.ts";

/** Which channels somebody wants to see. */
export type Filters = Readonly<{
	owed?: boolean;
	closing?: boolean;
	/** Seconds without a request. */
	idle?: number;
	payer?: Address;
	token?: Address;
	limit?: number;
}>;

/**
 * Channels of a store in the order of their ids; those that owe something, if only they are wanted, with the highest value
 * first.
 *
 * @param now Unix milliseconds
 */
export async function* selectChannels(store: ChannelStore, filters: Filters, now: number): AsyncGenerator<Channel> {
	let left = filters.limit ?? Number.POSITIVE_INFINITY;
	for await (const channel of filters.owed ? store.due("unsettled") : store.channels()) {
		if (!isWanted(channel, filters, now)) continue;
		yield channel;
		if (--left <= 0) return;
	}
}

function isWanted(channel: Channel, { owed, closing, idle, payer, token }: Filters, now: number): boolean {
	const { finalized, closeRequestedAt } = chainNow(channel);
	if (owed && unsettled(channel) === 0n) return false;
	if (closing && (finalized || (closeRequestedAt === 0 && channel.closingBy === null))) return false;
	if (idle !== undefined && (finalized || now - channel.lastActivityAt < idle * 1_000)) return false;
	if (payer !== undefined && channel.payer !== payer) return false;
	return token === undefined || channel.token === token;
}
