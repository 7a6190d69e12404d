/** The channels of a book, and the indexes that find them. */
import type { Hex } from "viem";
import { DamagedValueError, seal, unseal } from "./frame.ts";
import { channelIn, channelKey, heldBy, holderKey, isIn, liveKey, liveOf } from "./keys.ts";
import { type Row, rowShape } from "./records.ts";
import type { View } from "./rounds.ts";
import { type HeldChannel, PayerStoreError } from "./store.ts";

/** @throws PayerStoreError naming the channel when its record is damaged or can't be read */
export async function readRow(view: View, channelId: Hex): Promise<Row | undefined> {
	const key = channelKey(channelId);
	const text = await view.get(key);
	return text === undefined ? undefined : rowFrom(key, text);
}

/** @throws PayerStoreError naming the channel */
export function rowFrom(key: string, text: string): Row {
	try {
		const row = unseal(key, text, rowShape);
		if (channelKey(row.record.state.channelId) !== key) throw new DamagedValueError("it is another channel's");
		return row;
	} catch (cause) {
		if (!(cause instanceof DamagedValueError)) throw cause;
		const hint = "nothing is signed for it; keep the wallet's files, and get its deposit back from the escrow";
		throw new PayerStoreError(`channel ${channelIn(key)}: its record is damaged (${cause.message}); ${hint}`, {
			cause,
		});
	}
}

/** Writes a channel, and its places in the indexes. */
export function writeRow(view: View, row: Row, before: Row | undefined): void {
	const { channelId } = row.record.state;
	const key = channelKey(channelId);
	view.put(key, seal(key, row, rowShape));
	const { holder, fence } = row;
	view.told.holds.set(channelId, holder === undefined ? undefined : { holder, fence });
	const [places, old] = [placesOf(row), before === undefined ? undefined : placesOf(before)];
	for (const place of old?.keys() ?? []) if (!places.has(place)) view.delete(place);
	for (const [place, value] of places) if (old?.get(place) !== value) view.put(place, value);
}

function placesOf({ record, holder }: Row): ReadonlyMap<string, string> {
	const { channelId } = record.state;
	const places = new Map<string, string>();
	if (record.status !== "closed") places.set(liveKey(record.key, channelId), record.status);
	if (holder !== undefined) places.set(holderKey(holder, channelId), "1");
	return places;
}

/** The open channels that pay the same. */
export async function openIds(view: View, key: string): Promise<readonly Hex[]> {
	const range = liveOf(key);
	const entries = await view.entries(range);
	return entries
		.filter(([place, status]) => status === "open" && isIn(range, place))
		.map(([place]) => channelIn(place));
}

/** The channels that a holder is recorded to have. */
export async function idsHeldBy(view: View, holder: string): Promise<readonly Hex[]> {
	const range = heldBy(holder);
	return (await view.entries(range)).filter(([place]) => isIn(range, place)).map(([place]) => channelIn(place));
}

/** The same channel, held by nobody. */
export function freed({ record, fence }: Row): Row {
	return { record, fence };
}

/** What a channel has left: it was neither consumed nor may it have been. */
export function leftIn({ record: { state } }: Row): bigint {
	return BigInt(state.deposit) - BigInt(state.consumed) - BigInt(state.uncertain);
}

/** The channel is this holder's from now on: nothing is written any more under an older fence. */
export function hold(view: View, row: Row, holder: string, before: Row | undefined): HeldChannel {
	const { record } = row;
	const fence = row.fence + 1;
	writeRow(view, { record, fence, holder }, before);
	return { record, fence };
}
