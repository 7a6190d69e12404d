import type { Channel } from "../../../src/server/channel.ts";
import type { ChannelStore, Committed, TurnKeys, TurnWrites } from "../../../src/server/store/store.ts";
import { channel, id } from "./records.ts";

/** Runs a turn that only writes, and waits until that is on disk. */
export async function write(store: ChannelStore, keys: TurnKeys, writes: TurnWrites): Promise<void> {
	await (await store.transact(keys, () => ({ value: undefined, writes }))).durable;
}

export async function putChannels(store: ChannelStore, channels: readonly Channel[]): Promise<void> {
	await Promise.all(channels.map((one) => write(store, { channel: one.channelId }, { channel: one })));
}

/** Adds 1 to what the channel accepted, and answers with the sum. */
export function increment(store: ChannelStore, n: number): Promise<Committed<bigint>> {
	return store.transact({ channel: id(n) }, ({ channel: before = channel(n) }) => {
		const acceptedCumulative = before.acceptedCumulative + 1n;
		return { value: acceptedCumulative, writes: { channel: { ...before, acceptedCumulative } } };
	});
}
