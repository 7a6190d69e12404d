import type { OutboxEntry } from "../escrow/outbox.ts";
import type { ChannelStore } from "./store/store.ts";

/** Writes an entry alone, durably. */
export async function recordEntry(store: ChannelStore, entry: OutboxEntry): Promise<void> {
	const { durable } = await store.transact({}, () => ({ value: undefined, writes: { outbox: [entry] } }));
	await durable;
}
