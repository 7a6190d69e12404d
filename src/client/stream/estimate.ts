import type { SessionRequest } from "../../protocol/index.ts";
import type { PayerChannel } from "../channel.ts";
import { least } from "../least.ts";
import type { Outgoing } from "../outgoing.ts";
import type { SessionParts } from "../parts.ts";
import { boundsFor } from "../policy.ts";

/** HEAD is about the channel and costs nothing (D11). What is paid by its use may have to be covered by more than a unit. */
export function priceOf({ method, estimate }: Outgoing, { amount }: SessionRequest): bigint {
	if (method === "HEAD") return 0n;
	return estimate > amount ? estimate : amount;
}

/**
 * Takes it for an estimate where the server wants more covered than the price before it begins: true when it is one. Only where
 * the policy says what such an answer may cost, within that and within the credit of a stream; once for each request.
 */
export function takeEstimate(
	parts: SessionParts,
	channel: PayerChannel,
	request: Outgoing,
	terms: SessionRequest,
	required: bigint,
): boolean {
	const { aheadUnits } = request.stream ?? parts.stream;
	const price = priceOf(request, terms);
	// Answers that were lost before may be what it claims.
	const isOwed = required <= least(channel.needs(0n) + channel.uncertain, channel.signed + price);
	if (request.method === "HEAD" || request.estimate > 0n || isOwed) return false;
	// Its own price is among what is on its way.
	const estimate = required - (channel.needs(0n) - price);
	const { maxStream = 0n } = boundsFor(parts.policy, channel.parameters);
	if (estimate > least(aheadUnits * terms.amount, maxStream)) return false;
	request.estimate = estimate;
	return true;
}
