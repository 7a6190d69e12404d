import { receiptFromJson, type SessionReceipt } from "../../protocol/index.ts";
import type { PayerChannel } from "../channel.ts";
import type { StreamEvent } from "./options.ts";

const NEED_VOUCHER = "payment-need-voucher";
const RECEIPT = "payment-receipt";

/** Whether an event is about the payment, and none of the resource's. */
export function isPaymentEvent(event: StreamEvent | undefined): event is StreamEvent {
	return event?.event === NEED_VOUCHER || event?.event === RECEIPT;
}

/**
 * The amount that a `payment-need-voucher` event asks for on this channel (draft-evm-session-00, Insufficient Balance During
 * Streaming); `undefined` where it can't be read, or is about another channel.
 */
export function neededVoucher({ event, data }: StreamEvent, { channelId }: PayerChannel): bigint | undefined {
	if (event !== NEED_VOUCHER) return undefined;
	const asked = parsed(data);
	if (String(asked.channelId).toLowerCase() !== channelId) return undefined;
	const { requiredCumulative } = asked;
	return typeof requiredCumulative === "string" && /^\d{1,39}$/.test(requiredCumulative)
		? BigInt(requiredCumulative)
		: undefined;
}

/** The receipt of a `payment-receipt` event for this channel (draft-evm-session-00, Receipt Generation). */
export function receiptEvent({ event, data }: StreamEvent, channel: PayerChannel): SessionReceipt | undefined {
	if (event !== RECEIPT) return undefined;
	try {
		const receipt = receiptFromJson(JSON.parse(data));
		if (receipt.intent !== "session" || receipt.channelId !== channel.channelId) return undefined;
		return receipt.chainId === channel.parameters.chainId ? receipt : undefined;
	} catch {
		return undefined;
	}
}

function parsed(data: string): Readonly<Record<string, unknown>> {
	try {
		const json: unknown = JSON.parse(data);
		return typeof json === "object" && json !== null ? (json as Record<string, unknown>) : {};
	} catch {
		return {};
	}
}
