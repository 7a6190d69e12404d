import type { Channel } from "../channel.ts";
import { applyEvent } from "../ledger.ts";
import type { ChannelStore } from "../store/store.ts";

/** The channel without what processes that are gone had promised: none of it was captured. */
export function withoutTheGone(channel: Channel | undefined, store: ChannelStore, now: number): Channel | undefined {
	if (channel === undefined) return undefined;
	const owners = Object.keys(channel.reservations);
	if (channel.closingBy !== null) owners.push(channel.closingBy);
	const gone = owners.filter((owner) => store.isGone(owner));
	if (gone.length === 0) return channel;
	const step = applyEvent(channel, { type: "recovered", gone }, now);
	return step.ok ? step.channel : channel;
}
