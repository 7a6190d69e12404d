/** What more than one part of the ledger asks of a channel, and how it answers. */
import type { Hex } from "viem";
import { type Problem, problem } from "../protocol/index.ts";
import { type Channel, chainNow, reserved } from "./channel.ts";
import type { Effect, Transition, VerifiedVoucher } from "./ledgerEvent.ts";
import { exceededProblem, finalizedProblem, frozenProblem, insufficientProblem } from "./refusals.ts";

/** How many challenges a channel remembers having advanced with. An older one only loses the right to reuse stale vouchers. */
const REMEMBERED_CHALLENGES = 16;

export function done(channel: Channel, effects: readonly Effect[] = NONE): Transition {
	return { ok: true, channel, effects };
}

const NONE: readonly Effect[] = [];

export function refuse(cause: Problem): Transition {
	return { ok: false, problem: cause };
}

/** Why this channel takes no vouchers, if so (draft: Voucher Verification step 1; D1). */
export function closedProblem(
	channel: Pick<Channel, "channelId" | "finalized" | "closeRequestedAt" | "closingBy">,
): Problem | undefined {
	if (channel.finalized) return finalizedProblem(channel.channelId);
	if (channel.closeRequestedAt === 0 && channel.closingBy === null) return undefined;
	return problem("session/channel-closing", "A close of this channel is pending: it takes no new vouchers.", {
		channelId: channel.channelId,
		closeRequestedAt: channel.closeRequestedAt,
	});
}

/** Why a channel whose funds a reorganization has taken back sells nothing, if so. */
export function frozenProblemOf({ channelId, behind }: Channel): Problem | undefined {
	return behind === null ? undefined : frozenProblem(channelId);
}

/** Why the chain would not pay a voucher for this amount now, though it would have before a reorganization, if so. */
export function unfundedProblem(channel: Channel, cumulativeAmount: bigint): Problem | undefined {
	return cumulativeAmount <= chainNow(channel).deposit ? undefined : frozenProblem(channel.channelId);
}

export function depositProblem(channelId: Hex, cumulativeAmount: bigint, deposit: bigint): Problem | undefined {
	return cumulativeAmount <= deposit ? undefined : exceededProblem(channelId, cumulativeAmount, deposit);
}

/** D7: a signature that stood in a transaction is public, so it only counts where its owner has shown itself before. */
export function isStrangers(
	channel: Channel,
	voucher: Pick<VerifiedVoucher, "cumulativeAmount" | "challengeId">,
): boolean {
	const { publishedCumulative, challengeIds } = channel;
	if (publishedCumulative === null || voucher.cumulativeAmount > publishedCumulative) return false;
	return !challengeIds.includes(voucher.challengeId);
}

export function publicVoucherProblem(channel: Channel, required: bigint): Problem {
	const unpublished = (channel.publishedCumulative ?? -1n) + 1n;
	const detail = "This voucher was published on chain already; sign a higher one.";
	return insufficientProblem(channel, max(required, unpublished), detail);
}

export function remember(challengeIds: readonly string[], challengeId: string): readonly string[] {
	if (challengeIds[0] === challengeId) return challengeIds;
	return [challengeId, ...challengeIds.filter((id) => id !== challengeId)].slice(0, REMEMBERED_CHALLENGES);
}

export function published(before: bigint | null, cumulativeAmount: bigint): bigint {
	return before === null ? cumulativeAmount : max(before, cumulativeAmount);
}

/** What still runs can't be captured any more. */
export function abandoned({ generation }: Channel): Pick<Channel, "reservations" | "generation"> {
	return { reservations: {}, generation: generation + 1 };
}

export function drained(channel: Channel): readonly Effect[] {
	return channel.closingBy !== null && reserved(channel) === 0n ? ["drained"] : [];
}

export function max(a: bigint, b: bigint): bigint {
	return a > b ? a : b;
}

export function min(a: bigint, b: bigint): bigint {
	return a < b ? a : b;
}
