/** What the holder of a channel may do with it, by the fence that it was given. */
import type { Hex } from "viem";
import { channelKey, holderKey } from "./keys.ts";
import { readPause } from "./pause.ts";
import type { Row } from "./records.ts";
import type { View } from "./rounds.ts";
import { free, idsHeldBy, readRow, writeRow } from "./rows.ts";
import { type HeldChannel, HolderLostError, PausedError } from "./store.ts";

/** A hold that a holder says it has. */
export type ClaimedHold = Readonly<{ channelId: Hex; fence: number }>;

/** Somebody wanted to forget that a higher voucher was signed: a bug, and nothing was written (I11). */
export class SignedLoweredError extends Error {
	override readonly name = "SignedLoweredError";
	readonly code = "SIGNED_LOWERED";
	readonly channelId: Hex;
	/** Base units. */
	readonly kept: string;
	readonly given: string;
	constructor(channelId: Hex, kept: string, given: string) {
		super(`channel ${channelId}: ${kept} was signed for already, so ${given} can't be the highest; take it again`);
		this.channelId = channelId;
		this.kept = kept;
		this.given = given;
	}
}

/**
 * The channel as it is kept, if this holder alone may write what it wants to.
 *
 * @throws HolderLostError
 * @throws SignedLoweredError
 */
export async function heldRow(view: View, holder: string, { record, fence }: HeldChannel): Promise<Row> {
	const { channelId, signed } = record.state;
	const row = await readRow(view, channelId);
	if (row?.holder !== holder || row.fence !== fence) throw new HolderLostError(channelId);
	const kept = row.record.state.signed;
	if (BigInt(signed) < BigInt(kept)) throw new SignedLoweredError(channelId, kept, signed);
	return row;
}

/**
 * Whether this holder may pay more out of what was signed and written before.
 *
 * @throws HolderLostError
 * @throws PausedError
 * @throws PayerStoreError when either can't be read
 */
export async function confirmHold(view: View, holder: string, { channelId, fence }: ClaimedHold): Promise<void> {
	const row = await readRow(view, channelId);
	if (row?.holder !== holder || row.fence !== fence) throw new HolderLostError(channelId);
	const reason = await readPause(view);
	if (reason !== undefined) throw new PausedError(reason);
}

/** The channels of which it is true that this holder has them: nobody had them since. */
export async function keepHeld(view: View, holder: string, claimed: readonly ClaimedHold[]): Promise<ReadonlySet<Hex>> {
	const kept = new Set<Hex>();
	for (const { channelId, fence } of claimed) {
		const row = await readRow(view, channelId).catch(() => undefined);
		if (row?.fence !== fence || (row.holder ?? holder) !== holder) continue;
		if (row.holder === undefined) writeRow(view, { ...row, holder }, row);
		else view.read.set(channelKey(channelId), row);
		kept.add(channelId);
	}
	return kept;
}

/** Frees what a holder has, but what it keeps. */
export async function freeAll(
	view: View,
	holder: string,
	tellFreed: (view: View) => void,
	kept: ReadonlySet<Hex> = new Set(),
): Promise<void> {
	for (const channelId of await idsHeldBy(view, holder)) {
		if (kept.has(channelId)) continue;
		const row = await readRow(view, channelId).catch(() => undefined);
		if (row?.holder === holder) free(view, row);
		else view.delete(holderKey(holder, channelId));
		tellFreed(view);
	}
}
