/** Channels that were paid out. They are evidence of what was paid: the ones that were closed last are kept. */
import { CLOSED, channelIn, channelKey } from "./keys.ts";
import { retireVoucherReceipt } from "./receiptBook.ts";
import type { Row } from "./records.ts";
import type { View } from "./rounds.ts";
import { removeRow, rowFrom } from "./rows.ts";

/** How many go at a time. */
const PRUNED = 100;

export type ClosedBounds = Readonly<{
	maxClosed: number;
	maxReceipts: number;
	/** Whether somebody works on it. */
	isBusy: (row: Row) => Promise<boolean>;
}>;

/** Takes away those that were closed before the last `maxClosed`. Called when one more is. */
export async function pruneClosed(view: View, { maxClosed, maxReceipts, isBusy }: ClosedBounds): Promise<void> {
	const newest = await view.entries({ ...CLOSED, limit: maxClosed, reverse: true });
	const last = newest[maxClosed - 1];
	if (last === undefined) return;
	for (const [place] of await view.entries({ ...CLOSED, lt: last[0], limit: PRUNED })) {
		const channelId = channelIn(place);
		const row = soundRow(channelKey(channelId), await view.get(channelKey(channelId)));
		// A damaged one stays for whoever can make something of it, and must not be in the way of the others.
		if (row === undefined) view.delete(place);
		else if (!(await isBusy(row))) {
			removeRow(view, row);
			await retireVoucherReceipt(view, channelId, maxReceipts);
		}
	}
}

function soundRow(key: string, text = ""): Row | undefined {
	try {
		return rowFrom(key, text);
	} catch {
		return undefined;
	}
}
