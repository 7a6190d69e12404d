import { type Receipt, receiptToJson, type SessionReceipt } from "../protocol/index.ts";

/** The receipt of a payment method of your own (draft-httpauth-payment-00, Payment-Receipt Header): JSON, besides its four members what the method adds. */
export type MethodReceipt = Readonly<{
	method: string;
	status: "success";
	/** RFC 3339. */
	timestamp: string;
	/** The method's own name for the payment. */
	reference: string;
	[member: string]: unknown;
}>;

/** What a paid answer carries. */
export type AnyReceipt = Receipt | MethodReceipt;

/** A receipt's JSON, as the body of a management answer and the last event of a stream have it. */
export function receiptText(receipt: AnyReceipt): string {
	return JSON.stringify(isEvm(receipt) ? receiptToJson(receipt) : receipt);
}

/** A receipt as the `Payment-Receipt` field has it. */
export function receiptField(receipt: AnyReceipt): string {
	if (receipt === latest) return latestField;
	// As `encodeReceipt` writes it: natively, in a quarter of the time. JSON is well-formed, whatever it was made of.
	const field = Buffer.from(receiptText(receipt)).toString("base64url");
	// One of ours never changes.
	if (isEvm(receipt)) [latest, latestField] = [receipt, field];
	return field;
}

// An answer that is kept for a retry has the same receipt as the one that leaves.
let latest: AnyReceipt | undefined;
let latestField = "";

/** One of ours, for a session. */
export function isSessionReceipt(receipt: AnyReceipt): receipt is SessionReceipt {
	return isEvm(receipt) && receipt.intent === "session";
}

function isEvm(receipt: AnyReceipt): receipt is Receipt {
	return receipt.method === "evm";
}
