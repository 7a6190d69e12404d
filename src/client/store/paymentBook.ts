/**
 * The payer's own transfers that were made and, as far as is known, not used yet, in the order in which they were kept. Some
 * of them others could broadcast: they are secrets.
 */
import { DamagedValueError, seal, unseal } from "./frame.ts";
import { PAYMENTS, PAYMENTS_KEY, paymentKey, paymentPlace, paymentsOf, sequenceAt, sequenceIn } from "./keys.ts";
import { readPause } from "./pause.ts";
import { type PaymentRow, paymentRowShape, type ReceiptsEnd, receiptsEndShape } from "./records.ts";
import type { View } from "./rounds.ts";
import { PausedError, PayerStoreError, type PaymentRecord } from "./store.ts";

/** Whether a holder is still there. */
export type IsThere = (holder: string) => Promise<boolean>;

/** Keeps a payment, which this holder uses from then on; one of the same id is replaced. */
export async function keepPayment(
	view: View,
	holder: string,
	{ key, payment }: Readonly<{ key: string; payment: PaymentRecord }>,
	{ max, isThere }: Readonly<{ max: number; isThere: IsThere }>,
): Promise<void> {
	const row = { key, payment, holder };
	const before = await find(view, key, payment.id);
	if (before !== undefined) {
		put(view, before, row);
		return;
	}
	const { next, kept } = await readEnd(view);
	const removed = kept < max ? 0 : await removeOldest(view, isThere);
	put(view, next, row);
	view.put(paymentPlace(key, next), payment.id);
	putEnd(view, { next: next + 1, kept: kept + 1 - removed });
}

/**
 * The oldest payment of the key that nobody uses: this holder does from then on.
 *
 * @param call - names the call: one that is repeated takes the same
 * @throws PausedError
 */
export async function takePayment(
	view: View,
	holder: string,
	{ key, call }: Readonly<{ key: string; call?: string | undefined }>,
	isThere: IsThere,
): Promise<PaymentRecord | undefined> {
	const reason = await readPause(view);
	if (reason !== undefined) throw new PausedError(reason);
	let free: Readonly<{ sequence: number; row: PaymentRow }> | undefined;
	for (const [sequence] of await placesOf(view, key)) {
		const row = await read(view, sequence);
		if (call !== undefined && row.holder === holder && row.call === call) return row.payment;
		if (free === undefined && !(await isUsed(row, isThere))) free = { sequence, row };
	}
	if (free === undefined) return undefined;
	const { payment } = free.row;
	put(view, free.sequence, { key, payment, holder, ...(call !== undefined && { call }) });
	return payment;
}

/** Lets others use a payment, if this holder does. */
export async function freePayment(view: View, holder: string, key: string, id: string): Promise<void> {
	const sequence = await find(view, key, id);
	if (sequence === undefined) return;
	const row = await read(view, sequence);
	if (row.holder === holder) put(view, sequence, { key, payment: row.payment });
}

/** Forgets a payment, whoever uses it. */
export async function dropPayment(view: View, key: string, id: string): Promise<void> {
	const sequence = await find(view, key, id);
	if (sequence === undefined) return;
	const { next, kept } = await readEnd(view);
	remove(view, key, sequence);
	putEnd(view, { next, kept: kept - 1 });
}

/** @returns how many were removed: one */
async function removeOldest(view: View, isThere: IsThere): Promise<number> {
	for (const [place] of await view.entries(PAYMENTS)) {
		const sequence = sequenceIn(place);
		const row = await read(view, sequence);
		if (await isUsed(row, isThere)) continue;
		remove(view, row.key, sequence);
		return 1;
	}
	throw new PayerStoreError("too many payments are on their way at a time: pay for less at once");
}

async function isUsed({ holder }: PaymentRow, isThere: IsThere): Promise<boolean> {
	return holder !== undefined && (await isThere(holder));
}

/** The payments of a key, the oldest first: their numbers and ids. */
async function placesOf(view: View, key: string): Promise<readonly (readonly [sequence: number, id: string])[]> {
	const range = paymentsOf(key);
	return (await view.entries(range)).flatMap(([place, id]) => {
		const sequence = sequenceAt(range, place);
		return sequence === undefined ? [] : [[sequence, id] as const];
	});
}

async function find(view: View, key: string, id: string): Promise<number | undefined> {
	return (await placesOf(view, key)).find(([, one]) => one === id)?.[0];
}

async function read(view: View, sequence: number): Promise<PaymentRow> {
	const key = paymentKey(sequence);
	try {
		return unseal(key, (await view.get(key)) ?? "", paymentRowShape);
	} catch (cause) {
		if (!(cause instanceof DamagedValueError)) throw cause;
		const hint = "nothing is paid by own transactions there; keep the wallet's files, and choose another folder";
		throw new PayerStoreError(`payment ${sequence} of the wallet: its record is damaged; ${hint}`, { cause });
	}
}

function put(view: View, sequence: number, row: PaymentRow): void {
	const key = paymentKey(sequence);
	view.put(key, seal(key, row, paymentRowShape));
}

function remove(view: View, key: string, sequence: number): void {
	view.delete(paymentKey(sequence));
	view.delete(paymentPlace(key, sequence));
}

function putEnd(view: View, end: ReceiptsEnd): void {
	view.put(PAYMENTS_KEY, seal(PAYMENTS_KEY, end, receiptsEndShape));
}

async function readEnd(view: View): Promise<ReceiptsEnd> {
	const text = await view.get(PAYMENTS_KEY);
	if (text === undefined) return { next: 0, kept: 0 };
	try {
		return unseal(PAYMENTS_KEY, text, receiptsEndShape);
	} catch {
		// It says nothing that the payments don't say.
		const all = await view.entries(PAYMENTS);
		const last = all.at(-1);
		return { next: last === undefined ? 0 : sequenceIn(last[0]) + 1, kept: all.length };
	}
}
