import { type Receipt, receiptToJson } from "../protocol/index.ts";

/** Whether an answer is a stream of Server-Sent Events. */
export function isEventStream(contentType: string | null | undefined): boolean {
	return /^\s*text\/event-stream\s*(;|$)/i.test(contentType ?? "");
}

/**
 * The event that ends a paid event stream (draft-evm-session-00, Receipt Generation). The blank lines before it end
 * whatever event the application left open.
 */
export function receiptEvent(receipt: Receipt): string {
	return `\n\nevent: payment-receipt\ndata: ${JSON.stringify(receiptToJson(receipt))}\n\n`;
}
