import type { Problem, SessionReceipt, SessionRequest } from "../protocol/index.ts";
import { receiptFor, refusalOf } from "./answer.ts";
import type { PayerChannel } from "./channel.ts";
import { credit, type MergedTopUp } from "./cover.ts";
import type { Outgoing } from "./outgoing.ts";
import type { SessionParts, Tried } from "./parts.ts";
import { boundsFor } from "./policy.ts";
import { noteChannelReceipt } from "./receipts.ts";
import { type Acknowledged, acknowledge, staleServer } from "./recovery/staleServer.ts";
import { mayGoOn } from "./stream/paidBody.ts";

/**
 * One paid try, and its place in the books. Only a receipt proves that it was charged, only a refusal of the payment that
 * it was not. All else (a lost answer, a failure, a success without a receipt) leaves it open: nothing is signed for it
 * again unless the server claims it, and then once.
 */
export async function tryToPay(
	parts: SessionParts,
	channel: PayerChannel,
	request: Outgoing,
	terms: SessionRequest,
	price: bigint,
	sign: (amount: bigint) => Promise<string>,
	onRefusal: (refusal: Problem, response: Response) => void = () => undefined,
	topUp?: MergedTopUp,
): Promise<Tried> {
	const limit = channel.deposit + (topUp?.amount ?? 0n);
	const tried = request.tried?.channel === channel ? request.tried.price : 0n;
	const amount = channel.begin(price, terms.methodDetails.minVoucherDelta, limit, tried);
	let booked: "delivered" | "failed" | "lost" = "failed";
	let receipt: SessionReceipt | undefined;
	let goesOn = false;
	const before = channel.acknowledged;
	try {
		const credential = await sign(amount);
		booked = "lost";
		if (request.stream !== undefined) channel.newestStream.askFor(request.stream);
		const response = await parts.send(request, credential);
		receipt = receiptFor(response, channel);
		if (receipt !== undefined) {
			booked = "delivered";
			acknowledged(parts, channel, before, receipt);
			noteChannelReceipt(parts.keeper, channel.open ? "voucher" : "open", channel, request, price, receipt);
		}
		const refusal = receipt === undefined ? await refusalOf(response) : undefined;
		if (refusal !== undefined) {
			if (!request.answerLost) booked = "failed";
			onRefusal(refusal, response);
		}
		// Its own price is on its way still.
		const mayCostMore = (boundsFor(parts.policy, channel.parameters).maxStream ?? 0n) > price;
		goesOn = receipt !== undefined && mayGoOn(request, response, receipt, channel.needs(0n), mayCostMore);
		return { response, receipt, refusal, goesOn };
	} finally {
		const isEstimate = request.estimate > 0n;
		request.tried = {
			channel,
			price: goesOn ? channel.begun(price, isEstimate, tried) : channel[booked](price, tried),
		};
		if (receipt !== undefined) {
			if (goesOn) channel.noteSpent(receipt.spent);
			// What was estimated and not used is as good as never signed for.
			else channel.settleLost(receipt.spent, isEstimate);
			if (topUp !== undefined) credit(channel, topUp);
		}
	}
}

/** What a receipt acknowledges of a channel, and whether the server had acknowledged more before this try. */
function acknowledged(
	{ onStaleServer }: SessionParts,
	channel: PayerChannel,
	before: Acknowledged | undefined,
	receipt: SessionReceipt,
): void {
	channel.acknowledged = acknowledge(channel.acknowledged, receipt);
	const stale = staleServer(before, receipt);
	if (stale !== undefined) onStaleServer?.(stale);
}
