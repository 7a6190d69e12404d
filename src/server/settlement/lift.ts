import { type Channel, chainNow } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { type Market, worthInWei } from "./economics.ts";
import { rowsOf } from "./rows.ts";

/**
 * Lets transactions on their way bid up to what is at risk in them: they were sent when it could wait, and nothing else of
 * these channels can be mined before them (I9). Only ever raises what they may bid.
 *
 * @param channels whose payers have asked the chain to close
 * @param minValue what counts, in base units, where nobody knows what gas costs
 */
export function raiseLimits(
	{ transactions }: Pick<EngineContext, "transactions">,
	channels: readonly Channel[],
	market: Market | undefined,
	minValue: bigint,
): void {
	if (channels.length === 0) return;
	const urgent = new Map(channels.map((channel) => [channel.channelId, channel]));
	for (const entry of [...transactions.pendingEntries(), ...transactions.resending()]) {
		if (entry.feeLimit === undefined) continue;
		let atRisk = 0n;
		for (const { channelId, cumulativeAmount } of rowsOf(entry.purpose)) {
			const channel = urgent.get(channelId);
			const brings = channel === undefined ? 0n : cumulativeAmount - chainNow(channel).settledOnChain;
			if (brings > 0n) atRisk += brings;
		}
		if (atRisk === 0n || (market === undefined && atRisk < minValue)) continue;
		transactions.raiseFeeLimit(entry, worthInWei(atRisk, market));
	}
}
