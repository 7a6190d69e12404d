import { type ChargeRequest, receiptToJson, type SessionReceipt } from "../protocol/index.ts";
import { receiptOf } from "./answer.ts";
import type { Offered, PayerChannel } from "./channel.ts";
import type { Keeper } from "./keeper.ts";
import type { ReceiptRecord } from "./store/store.ts";

type Resource = Readonly<{ url: string; method: string }>;

/** Keeps what a server has said of a channel. `amount` is what was paid with it, in base units. */
export function noteChannelReceipt(
	keeper: Keeper,
	kind: Exclude<ReceiptRecord["kind"], "charge">,
	{ channelId, parameters, challenge }: PayerChannel,
	{ url, method }: Resource,
	amount: bigint,
	receipt: SessionReceipt,
): void {
	if (challenge === undefined) return;
	const { chainId, token, payee } = parameters;
	const paid = { amount: String(amount), chainId, token, payee, channelId };
	keeper.note({ kind, url, method, ...paid, challenge, receipt: receiptToJson(receipt) });
}

/** Keeps the receipt of a charge, if its answer has one. */
export function noteChargeReceipt(
	keeper: Keeper,
	{ challenge, request }: Offered<ChargeRequest>,
	{ url, method }: Resource,
	response: Response,
): void {
	const receipt = response.status < 400 ? receiptOf(response) : undefined;
	if (receipt?.intent !== "charge") return;
	const { amount, currency: token, recipient: payee, methodDetails } = request;
	const paid = { amount: String(amount), chainId: methodDetails.chainId, token, payee };
	keeper.note({ kind: "charge", url, method, ...paid, challenge, receipt: receiptToJson(receipt) });
}
