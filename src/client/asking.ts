import type { Hex } from "viem";
import type { ChargeRequest, SessionRequest } from "../protocol/index.ts";
import type { Offered } from "./channel.ts";
import type { Asked } from "./gate.ts";
import type { Outgoing } from "./outgoing.ts";
import type { SessionParts } from "./parts.ts";
import { boundsFor, type TokenAt } from "./policy.ts";
import { priceOf } from "./stream/estimate.ts";

/** What is asked for a request that a channel pays: its price, or all that its answer may cost. */
export function askedForRequest(
	parts: Pick<SessionParts, "policy">,
	request: Outgoing,
	offer: Offered<SessionRequest>,
	channelId: Hex,
	isMetered = request.stream !== undefined,
): Asked {
	const asked = askedFor(offer);
	const { minVoucherDelta = 0n } = offer.request.methodDetails;
	const price = isMetered ? maxStreamOf(parts, asked) : priceOf(request, offer.request);
	// A voucher rises by a step at least.
	const amount = price > minVoucherDelta ? price : minVoucherDelta;
	return { ...asked, kind: "request", amount, channelId };
}

/** What is asked for, but for how much. */
export function askedFor({
	challenge: { description },
	request: terms,
}: Offered<SessionRequest | ChargeRequest>): Omit<Asked, "kind" | "amount"> {
	const { currency: token, recipient: payee, methodDetails } = terms;
	return { chainId: methodDetails.chainId, token, payee, ...(description !== undefined && { description }) };
}

/** What a whole answer may cost that a channel pays for, in base units. */
export function maxStreamOf({ policy }: Pick<SessionParts, "policy">, token: TokenAt): bigint {
	const { maxStream, maxPrice } = boundsFor(policy, token);
	return maxStream ?? maxPrice;
}
