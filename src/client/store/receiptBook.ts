/** The receipts of a book, in the order in which they came: a clock that is set back changes nothing. */
import type { Hex } from "viem";
import { checkedCopy, framed, unseal } from "./frame.ts";
import {
	lastVoucherKey,
	RECEIPTS,
	RECEIPTS_KEY,
	receiptKey,
	sequenceIn,
	VOUCHER_RECEIPTS,
	voucherReceiptKey,
} from "./keys.ts";
import type { Entry } from "./kv.ts";
import { type ReceiptsEnd, receiptShape, receiptsEndShape } from "./records.ts";
import type { View } from "./rounds.ts";
import type { ReceiptRecord } from "./store.ts";

/** Keeps a receipt, and of those that are not a channel's last voucher's the newest `max`. */
export async function keepReceipt(view: View, receipt: ReceiptRecord, max: number): Promise<void> {
	const { next, kept } = await readEnd(view);
	const { kind, channelId } = receipt;
	if (kind === "voucher" && channelId !== undefined) {
		await replaceVoucher(view, receipt, channelId, next);
		putEnd(view, { next: next + 1, kept });
		return;
	}
	put(view, receiptKey(next), receipt);
	putEnd(view, { next: next + 1, kept: await keepNewest(view, kept + 1, max) });
}

/** Makes the receipt of a channel's last voucher one as any other, in its place among them: the channel is forgotten. */
export async function retireVoucherReceipt(view: View, channelId: Hex, max: number): Promise<void> {
	const last = lastVoucherKey(channelId);
	const sequence = Number((await view.get(last)) ?? Number.NaN);
	if (!Number.isSafeInteger(sequence)) return;
	const key = voucherReceiptKey(sequence);
	const [receipt] = receiptFrom([key, (await view.get(key)) ?? ""]);
	view.delete(last);
	view.delete(key);
	if (receipt === undefined) return;
	const { next, kept } = await readEnd(view);
	put(view, receiptKey(sequence), receipt);
	putEnd(view, { next, kept: await keepNewest(view, kept + 1, max) });
}

/** Of `count` receipts the newest `max`. Returns how many there are then. */
async function keepNewest(view: View, count: number, max: number): Promise<number> {
	const oldest = count > max ? await view.entries({ ...RECEIPTS, limit: count - max }) : [];
	for (const [key] of oldest) view.delete(key);
	return count - oldest.length;
}

/** The newest first. One that is damaged is left where it is, and out. */
export async function readReceipts(
	view: View,
	limit: number = Number.POSITIVE_INFINITY,
): Promise<readonly ReceiptRecord[]> {
	const newest = { limit, reverse: true };
	const entries = [
		...(await view.entries({ ...RECEIPTS, ...newest })),
		...(await view.entries({ ...VOUCHER_RECEIPTS, ...newest })),
	];
	entries.sort(([a], [b]) => sequenceIn(b) - sequenceIn(a));
	return entries.flatMap(receiptFrom).slice(0, limit);
}

/** Vouchers are cumulative: the last one's receipt says all that the earlier ones said. */
async function replaceVoucher(view: View, receipt: ReceiptRecord, channelId: Hex, sequence: number): Promise<void> {
	const last = lastVoucherKey(channelId);
	const known = view.recall(last) as LastVoucher | undefined;
	const before = known?.sequence ?? Number((await view.get(last)) ?? Number.NaN);
	if (Number.isSafeInteger(before)) view.delete(voucherReceiptKey(before));
	put(view, voucherReceiptKey(sequence), receipt);
	const value: LastVoucher = { sequence };
	view.put(last, { text: () => String(sequence), value });
}

/** Where the receipt of a channel's last voucher is, as it is remembered. */
type LastVoucher = Readonly<{ sequence: number }>;

function put(view: View, key: string, receipt: ReceiptRecord): void {
	const written = checkedCopy(key, receipt, receiptShape);
	view.put(key, { text: () => framed(key, written) });
}

function putEnd(view: View, end: ReceiptsEnd): void {
	const written = checkedCopy(RECEIPTS_KEY, end, receiptsEndShape);
	view.put(RECEIPTS_KEY, { text: () => framed(RECEIPTS_KEY, written), value: written });
}

async function readEnd(view: View): Promise<ReceiptsEnd> {
	const known = view.recall(RECEIPTS_KEY);
	if (known !== undefined) return known as ReceiptsEnd;
	const text = await view.get(RECEIPTS_KEY);
	if (text === undefined) return { next: 0, kept: 0 };
	try {
		return unseal(RECEIPTS_KEY, text, receiptsEndShape);
	} catch {
		// It says nothing that the receipts don't say.
		const all = await view.entries(RECEIPTS);
		const [lastVoucher] = await view.entries({ ...VOUCHER_RECEIPTS, limit: 1, reverse: true });
		const last = [all.at(-1), lastVoucher].map((entry) => (entry === undefined ? -1 : sequenceIn(entry[0])));
		return { next: Math.max(...last) + 1, kept: all.length };
	}
}

function receiptFrom([key, text]: Entry): readonly ReceiptRecord[] {
	try {
		return [unseal(key, text, receiptShape)];
	} catch {
		return [];
	}
}
