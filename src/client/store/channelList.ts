/** The channels of a book as they are on disk, outside of any turn. */
import { CHANNELS, channelIn, channelKey, LIVE } from "./keys.ts";
import type { Kv } from "./kv.ts";
import type { Row } from "./records.ts";
import { rowFrom } from "./rows.ts";
import type { DamagedChannel, ListOptions } from "./store.ts";

type Found = Readonly<{ rows: readonly Row[]; damaged: readonly DamagedChannel[] }>;

/** Those that are wanted, in the order of their ids, and the damaged ones among those that had to be read. */
export async function readChannels(kv: Kv, { isClosed }: ListOptions = {}): Promise<Found> {
	const rows: Row[] = [];
	const damaged: DamagedChannel[] = [];
	for (const [key, text] of isClosed === false ? await liveEntries(kv) : await kv.entries(CHANNELS)) {
		try {
			const row = rowFrom(key, text);
			if (isClosed === undefined || isClosed === (row.record.status === "closed")) rows.push(row);
		} catch (error) {
			damaged.push({ channelId: channelIn(key), reason: error instanceof Error ? error.message : String(error) });
		}
	}
	return { rows, damaged };
}

/** However many were closed, those are not read. */
async function liveEntries(kv: Kv): Promise<readonly (readonly [key: string, text: string])[]> {
	const keys = (await kv.entries(LIVE)).map(([place]) => channelKey(channelIn(place))).sort();
	const texts = await kv.get(keys);
	return keys.flatMap((key, index) => {
		const text = texts[index];
		return text === undefined ? [] : [[key, text] as const];
	});
}
