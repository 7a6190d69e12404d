/** The channels of a book, and the indexes that find them. */
import type { Hex } from "viem";
import { checkedCopy, DamagedValueError, framed, unseal } from "./frame.ts";
import { channelIn, channelKey, closedKey, heldBy, holderKey, isIn, liveKey, liveOf } from "./keys.ts";
import { withOtherAmounts } from "./otherAmounts.ts";
import { type Row, rowShape } from "./records.ts";
import type { View } from "./rounds.ts";
import { type ChannelRecord, type HeldChannel, PayerStoreError } from "./store.ts";

/**
 * It must not be changed, nor be handed out while it is kept.
 *
 * @throws PayerStoreError naming the channel when its record is damaged or can't be read
 */
export async function readRow(view: View, channelId: Hex): Promise<Row | undefined> {
	const key = channelKey(channelId);
	const known = view.recall(key);
	if (known !== undefined) return known as Row;
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

/**
 * Writes a channel, and its places in the indexes.
 *
 * @param before - as it was read
 */
export function writeRow(view: View, row: Row, before: Row | undefined): void {
	const { channelId } = row.record.state;
	const key = channelKey(channelId);
	// Most writes only raise amounts. That all else is as it was when it was checked is seen sooner than it is checked again.
	const raised = before && withOtherAmounts(before, row);
	const written = raised ?? checkedCopy(key, row, rowShape);
	view.put(key, { text: () => framed(key, written), value: written });
	if (raised !== undefined) return;
	const [places, old] = [placesOf(row), before === undefined ? undefined : placesOf(before)];
	for (const place of old?.keys() ?? []) if (!places.has(place)) view.delete(place);
	for (const [place, value] of places) if (old?.get(place) !== value) view.put(place, value);
}

/** Takes a channel away, and its places in the indexes. */
export function removeRow(view: View, row: Row): void {
	const { channelId } = row.record.state;
	view.delete(channelKey(channelId));
	for (const place of placesOf(row).keys()) view.delete(place);
}

function placesOf({ record, holder, closedAtMs }: Row): ReadonlyMap<string, string> {
	const { channelId } = record.state;
	const places = new Map<string, string>();
	if (record.status !== "closed") places.set(liveKey(record.key, channelId), record.status);
	else places.set(closedKey(closedAtMs ?? record.createdAtMs, channelId), "1");
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

/** The same channel with another record. */
export function changed(row: Row, record: ChannelRecord, nowMs: number): Row {
	const { closedAtMs = nowMs, ...rest } = row;
	return { ...rest, record, ...(record.status === "closed" && { closedAtMs }) };
}

/** From now on nobody has the channel. One of which nothing can ever come is forgotten with that. */
export function free(view: View, row: Row): void {
	const { holder: _, ...freed } = row;
	if (isVoid(row.record)) removeRow(view, row);
	else writeRow(view, freed, row);
}

/** Whether a channel has ended for which neither a voucher nor a deposit was ever signed. */
function isVoid({ status, state, fundableUntilMs, recovery }: ChannelRecord): boolean {
	// One that only the escrow told of was opened all the same.
	const isUnsigned = BigInt(state.signed) === 0n && fundableUntilMs === 0 && state.salt !== undefined;
	const isUnsent = state.funding === undefined && state.topUp === undefined && recovery === undefined;
	return status === "closed" && isUnsigned && isUnsent;
}

/** What a channel has left: it was neither consumed nor may it have been. */
export function leftIn({ record: { state } }: Row): bigint {
	return BigInt(state.deposit) - BigInt(state.consumed) - BigInt(state.uncertain);
}

/** The channel is this holder's from now on: nothing is written any more under an older fence. */
export function hold(view: View, row: Row, holder: string, before: Row | undefined): HeldChannel {
	const { record } = row;
	const fence = row.fence + 1;
	writeRow(view, { ...row, fence, holder }, before);
	return { record, fence };
}
