/** Where each record and index entry of a payer's book is kept. Numbers are padded, so that they sort. */
import { LRUCache } from "lru-cache";
import type { Hex } from "viem";
import type { Range } from "./kv.ts";

/** Wide enough for any whole number of JavaScript. */
const DIGITS = 16;
/** `0x` and 32 bytes. */
const ID_LENGTH = 66;

export const PAUSED_KEY = "m:paused";
export const RECEIPTS_KEY = "m:receipts";
export const PAYMENTS_KEY = "m:payments";

export function channelKey(channelId: Hex): string {
	return known(channelPlaces, channelId, () => `c:${channelId}`);
}

export const CHANNELS: Range = all("c:");

/** The place of a channel that is open or forgotten among those that pay the same. Its value is the status. */
export function liveKey(key: string, channelId: Hex): string {
	return `n:${wellFormed(key)}:${channelId}`;
}

export const LIVE: Range = all("n:");

export function liveOf(key: string): Range {
	return all(`n:${wellFormed(key)}:`);
}

/** The place of a channel among those that were paid out, in the order in which they were. */
export function closedKey(closedAtMs: number, channelId: Hex): string {
	return `d:${sortable(closedAtMs)}:${channelId}`;
}

export const CLOSED: Range = all("d:");

/** The place of a channel among those that one holder has. */
export function holderKey(holder: string, channelId: Hex): string {
	return `h:${wellFormed(holder)}:${channelId}`;
}

export function heldBy(holder: string): Range {
	return all(`h:${wellFormed(holder)}:`);
}

/** The channel that an index entry is of. */
export function channelIn(indexKey: string): Hex {
	return indexKey.slice(-ID_LENGTH) as Hex;
}

/** Whether an index entry is one of `prefix` itself: a longer one that begins alike would be in its range too. */
export function isIn({ gt }: Range, indexKey: string): boolean {
	return indexKey.length === gt.length + ID_LENGTH;
}

export function counterKey(key: string): string {
	return known(counterPlaces, key, () => `q:${wellFormed(key)}`);
}

/** The place of a counter that is of no interest after `untilMs`. */
export function expiryKey(untilMs: number, key: string): string {
	return `x:${sortable(untilMs)}:${wellFormed(key)}`;
}

export const EXPIRIES: Range = all("x:");

export function expiryIn(indexKey: string): Readonly<{ untilMs: number; key: string }> {
	return { untilMs: Number(indexKey.slice(2, 2 + DIGITS)), key: indexKey.slice(3 + DIGITS) };
}

export function receiptKey(sequence: number): string {
	return `r:${sortable(sequence)}`;
}

export const RECEIPTS: Range = all("r:");

/** The receipt of a channel's last voucher, in the same order as the other receipts. */
export function voucherReceiptKey(sequence: number): string {
	return `s:${sortable(sequence)}`;
}

export const VOUCHER_RECEIPTS: Range = all("s:");

/** Where the sequence number of a channel's last voucher's receipt is. */
export function lastVoucherKey(channelId: Hex): string {
	return `v:${channelId}`;
}

export function paymentKey(sequence: number): string {
	return `p:${sortable(sequence)}`;
}

export const PAYMENTS: Range = all("p:");

/** The place of a payment among those that can pay for the same. Its value is the payment's id. */
export function paymentPlace(key: string, sequence: number): string {
	return `k:${wellFormed(key)}:${sortable(sequence)}`;
}

export function paymentsOf(key: string): Range {
	return all(`k:${wellFormed(key)}:`);
}

/** The number that a place in `range` ends in; `undefined` where it is of a longer key that begins alike. */
export function sequenceAt({ gt }: Range, place: string): number | undefined {
	return place.length === gt.length + DIGITS ? Number(place.slice(-DIGITS)) : undefined;
}

/** The number that the key of a receipt, or of a payment, ends in. */
export function sequenceIn(key: string): number {
	return Number(key.slice(2));
}

/** How many keys of each kind are remembered. */
const MAX_KNOWN = 2_048;
const channelPlaces = new LRUCache<string, string>({ max: MAX_KNOWN });
const counterPlaces = new LRUCache<string, string>({ max: MAX_KNOWN });

/**
 * The very same text each time: of a new one the hash is computed anew wherever it is looked up, and each voucher looks fourteen
 * keys up in three places.
 */
function known(places: LRUCache<string, string>, name: string, make: () => string): string {
	const found = places.get(name);
	if (found !== undefined) return found;
	const place = make();
	places.set(name, place);
	return place;
}

function all(prefix: string): Range {
	return { gt: prefix, lt: `${prefix.slice(0, -1)};` };
}

function sortable(value: number): string {
	if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is no whole number`);
	return value.toString().padStart(DIGITS, "0");
}

/** UTF-8 has no lone surrogates: two keys that differ in one would share a record. */
function wellFormed(key: string): string {
	if (!key.isWellFormed()) throw new RangeError(`${JSON.stringify(key)} is no text that can be a key`);
	return key;
}
