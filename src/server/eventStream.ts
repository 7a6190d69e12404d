import { type AnyReceipt, receiptText } from "./receipts.ts";

/** Statuses that have no body. */
const BODILESS = new Set([204, 205, 304]);

export function isBodiless(status: number): boolean {
	return BODILESS.has(status);
}

/** The head of an answer, as far as it says whether events follow. */
export type EventStreamHead = Readonly<{
	status: number;
	contentType: string | null | undefined;
	contentEncoding: string | null | undefined;
}>;

/**
 * Whether an answer is a stream of Server-Sent Events that can be given one more. One that the application has packed
 * already (gzip) can't: its receipt is in the headers alone.
 */
export function isEventStream({ status, contentType, contentEncoding }: EventStreamHead): boolean {
	if (isBodiless(status) || !/^\s*text\/event-stream\s*(;|$)/i.test(contentType ?? "")) return false;
	return /^\s*(identity)?\s*$/i.test(contentEncoding ?? "");
}

/**
 * The event that ends a paid event stream (draft-evm-session-00, Receipt Generation). The blank lines before it end
 * whatever event the application left open.
 */
export function receiptEvent(receipt: AnyReceipt): Uint8Array {
	return new TextEncoder().encode(`\n\nevent: payment-receipt\ndata: ${receiptText(receipt)}\n\n`);
}
