/**
 * All rules about money, once: a pure state machine, `(channel, event, now) -> channel' + effects | problem`.
 * No I/O, no clock, no randomness. Signatures are verified before an event gets here (I3).
 *
 * Sources: draft-evm-session-00 "Voucher Verification", "Server-Side Accounting", "Cooperative Close"; D1, D3, D4, D6,
 * D7, D10, D12, D14 of docs/design.md. Invariants I1, I2, I6, I7 and I8 are kept here.
 */
import type { Hex } from "viem";
import { type Problem, problem } from "../protocol/index.ts";
import { available, type ChainState, type Channel, chainNow, reserved, unsettled } from "./channel.ts";
import type { Effect, LedgerEvent, Reservation, Transition, VerifiedVoucher } from "./ledgerEvent.ts";
import { exceededProblem, finalizedProblem, frozenProblem, insufficientProblem } from "./refusals.ts";

export type { Effect, LedgerEvent, Reservation, Transition, VerifiedVoucher } from "./ledgerEvent.ts";

/** How many challenges a channel remembers having advanced with. An older one only loses the right to reuse stale vouchers. */
const REMEMBERED_CHALLENGES = 16;

/** The escrow keeps deposits as `uint128` (I1). */
const DEPOSIT_LIMIT = 2n ** 128n;

/** What a node says of a channel can't be: no escrow settles more than its deposit. Nothing is believed of it (I10). */
export class ImpossibleChainError extends Error {
	override readonly name = "ImpossibleChainError";
	readonly code = "IMPOSSIBLE_CHAIN";
	readonly channelId: Hex;
	constructor({ channelId }: Channel, { deposit, settledOnChain }: ChainState) {
		super(`channel ${channelId}: the node shows settled ${settledOnChain} of a deposit of ${deposit}; use another node`);
		this.channelId = channelId;
	}
}

/**
 * Applies one event to one channel.
 *
 * @param channel the channel, or `undefined` for the `opened` event
 * @param now Unix milliseconds
 * @throws ImpossibleChainError when a node says of the chain what can't be
 * @example
 * const step = applyEvent(channel, { type: "chain-observed", chain }, Date.now());
 * if (!step.ok) return refuse(step.problem);
 */
export function applyEvent(channel: Channel | undefined, event: LedgerEvent, now: number): Transition {
	const step = transition(channel, event, now);
	if (!step.ok || step.channel === channel) return step;
	const unsettledSince = owedSince(channel, step.channel, now);
	return unsettledSince === step.channel.unsettledSince ? step : { ...step, channel: { ...step.channel, unsettledSince } };
}

/** Since when what is owed waits: for the first unit anew after each settlement. */
function owedSince(before: Channel | undefined, after: Channel, now: number): number | null {
	if (unsettled(after) === 0n) return null;
	const isSettled = before !== undefined && after.settledOnChain > before.settledOnChain;
	return isSettled ? now : (after.unsettledSince ?? now);
}

function transition(channel: Channel | undefined, event: LedgerEvent, now: number): Transition {
	if (event.type === "opened") return opened(channel, event, now);
	if (channel === undefined) return refuse(problem("session/channel-not-found", "No such channel is open here."));
	switch (event.type) {
		case "voucher":
			return acceptVoucher(channel, event, now);
		case "reserve":
			return reserve(channel, event, now);
		case "capture":
			return capture(channel, event, now);
		case "release":
			return release(channel, event.reservation);
		case "recovered":
			return recovered(channel, event.gone);
		case "chain-observed":
			return observeChain(channel, event, now);
		case "close-begun":
			return beginClose(channel, event, now);
		case "retire-begun":
			return beginRetiring(channel, event);
		case "close-resumed":
			return done({ ...channel, closingBy: event.owner });
		case "close-decided":
			return decideClose(channel, event, now);
		case "publishing":
			return done({ ...channel, publishedCumulative: published(channel.publishedCumulative, event.cumulativeAmount) });
		case "deferred":
			return done({ ...channel, deferredAt: now });
		case "close-failed":
			return done({ ...channel, closingBy: null });
	}
}

/**
 * The amount and voucher a cooperative close captures (D6, I8): below `spent` the highest accepted voucher, otherwise
 * the client's own. The client's amount must not exceed the deposit.
 */
export function closingVoucher(channel: Channel, client: Pick<VerifiedVoucher, "cumulativeAmount" | "signature">) {
	if (client.cumulativeAmount >= channel.spent) return client;
	return { cumulativeAmount: channel.acceptedCumulative, signature: channel.voucherSignature };
}

/** The least the next voucher has to say so that `amount` more can be delivered (D3). */
export function requiredCumulative(channel: Channel, amount: bigint, minVoucherDelta: bigint): bigint {
	const needed = channel.spent + reserved(channel) + amount;
	return max(needed, min(channel.acceptedCumulative + minVoucherDelta, channel.deposit));
}

/**
 * Whether a top-up of `amount` is worth its transaction: what is wrong with it, if anything. A close that the payer has
 * requested is no obstacle: it may cancel it by this (D14).
 *
 * @param minimum the least that is worth the gas
 */
export function topUpProblem(channel: Channel, amount: bigint, minimum: bigint): Problem | undefined {
	const { channelId, deposit } = channel;
	const unusable = closedProblem({ ...channel, closeRequestedAt: 0 }) ?? frozenProblemOf(channel);
	if (unusable) return unusable;
	if (amount < minimum || amount === 0n) {
		const detail = "The deposit is below the least that a channel is topped up with here.";
		return problem("session/insufficient-balance", detail, { channelId, additionalDeposit: amount, required: minimum });
	}
	if (deposit + amount < DEPOSIT_LIMIT) return undefined;
	return problem("bad-request", "The deposit would be 2^128 or more.", { deposit, additionalDeposit: amount });
}

/**
 * What is wrong with a voucher that comes with a top-up of `amount`, before the top-up costs gas (D14): a closing channel,
 * too small a step, or more than even the raised deposit.
 */
export function mergedVoucherProblem(
	channel: Channel,
	amount: bigint,
	voucher: VerifiedVoucher,
	minVoucherDelta: bigint,
	now: number,
): Problem | undefined {
	const funded = { ...channel, deposit: channel.deposit + amount };
	const foreseen = acceptVoucher(funded, { type: "voucher", voucher, minVoucherDelta }, now);
	return foreseen.ok ? undefined : foreseen.problem;
}

function opened(
	channel: Channel | undefined,
	{ identity, chain, voucher, minimum, unaccounted }: Extract<LedgerEvent, { type: "opened" }>,
	now: number,
): Transition {
	if (channel !== undefined) throw new Error(`channel ${channel.channelId} is open already`);
	const unusable = closedProblem({ ...identity, ...chain, closingBy: null });
	if (unusable) return refuse(unusable);
	if (chain.deposit - chain.settledOnChain < minimum) {
		return refuse(
			problem("session/insufficient-balance", "The deposit is below the least that a channel is opened with here.", {
				channelId: identity.channelId,
				deposit: chain.deposit,
				required: minimum,
			}),
		);
	}
	const excess = depositProblem(identity.channelId, voucher.cumulativeAmount, chain.deposit);
	if (excess) return refuse(excess);
	const acceptedCumulative = max(chain.settledOnChain, voucher.cumulativeAmount);
	// D10: of what nobody remembers, as much as possible was delivered.
	const delivered = unaccounted === undefined ? 0n : acceptedCumulative - unaccounted.price;
	return done({
		...identity,
		...chain,
		chainReadAt: now,
		behind: null,
		acceptedCumulative,
		voucherSignature: voucher.signature,
		contractSigner: voucher.byContract === true,
		spent: max(chain.settledOnChain, delivered),
		reservations: {},
		generation: 0,
		publishedCumulative: settledIsPublic(null, chain),
		// A voucher that was settled before proves nothing: anyone may have read it there (D7).
		challengeIds:
			voucher.cumulativeAmount > chain.settledOnChain || chain.settledOnChain === 0n ? [voucher.challengeId] : [],
		closeTxHash: null,
		closingBy: null,
		openedAt: now,
		lastActivityAt: now,
		unsettledSince: null,
		deferredAt: 0,
	});
}

function acceptVoucher(
	channel: Channel,
	{ voucher, minVoucherDelta }: Extract<LedgerEvent, { type: "voucher" }>,
	now: number,
): Transition {
	const unusable = closedProblem(channel) ?? frozenProblemOf(channel);
	if (unusable) return refuse(unusable);
	const { cumulativeAmount, signature, challengeId, byContract = false } = voucher;
	if (cumulativeAmount <= channel.acceptedCumulative) return done(channel);

	const excess = depositProblem(channel.channelId, cumulativeAmount, channel.deposit);
	if (excess) return refuse(excess);
	const delta = cumulativeAmount - channel.acceptedCumulative;
	const exempt = channel.acceptedCumulative === 0n || cumulativeAmount === channel.deposit; // D4
	if (delta < minVoucherDelta && !exempt) {
		return refuse(
			problem("session/delta-too-small", "The voucher raises the amount by less than minVoucherDelta.", {
				channelId: channel.channelId,
				acceptedCumulative: channel.acceptedCumulative,
				requiredCumulative: requiredCumulative(channel, 0n, minVoucherDelta),
				minVoucherDelta,
			}),
		);
	}
	return done({
		...channel,
		acceptedCumulative: cumulativeAmount,
		voucherSignature: signature,
		contractSigner: byContract,
		challengeIds: remember(channel.challengeIds, challengeId),
		lastActivityAt: now,
	});
}

function reserve(
	channel: Channel,
	{ amount, owner, voucher, minVoucherDelta }: Extract<LedgerEvent, { type: "reserve" }>,
	now: number,
): Transition {
	if (amount < 0n) throw new RangeError("a reservation is not negative");
	const unusable = closedProblem(channel) ?? frozenProblemOf(channel);
	if (unusable) return refuse(unusable);
	const required = requiredCumulative(channel, amount, minVoucherDelta);
	if (isStrangers(channel, voucher)) {
		return refuse(publicVoucherProblem(channel, required));
	}
	if (available(channel) < amount) {
		return refuse(insufficientProblem(channel, required, "The accepted voucher does not cover the price."));
	}
	const reservations = { ...channel.reservations, [owner]: (channel.reservations[owner] ?? 0n) + amount };
	return done({ ...channel, reservations, lastActivityAt: now });
}

function capture(
	channel: Channel,
	{ reservation, used }: Extract<LedgerEvent, { type: "capture" }>,
	now: number,
): Transition {
	if (used < 0n || used > reservation.amount) throw new RangeError("a capture is at most its reservation");
	if (!holds(channel, reservation)) {
		return refuse(
			problem("session/channel-closing", "The channel was closed before this request was served; it cost nothing.", {
				channelId: channel.channelId,
			}),
		);
	}
	const next = withoutReservation(channel, reservation);
	return done({ ...next, spent: channel.spent + used, lastActivityAt: now }, drained(next));
}

function release(channel: Channel, reservation: Reservation): Transition {
	if (!holds(channel, reservation)) return done(channel);
	const next = withoutReservation(channel, reservation);
	return done(next, drained(next));
}

function recovered(channel: Channel, gone: readonly string[]): Transition {
	const held = Object.entries(channel.reservations);
	const left = held.filter(([owner]) => !gone.includes(owner));
	const abandoned = channel.closingBy !== null && gone.includes(channel.closingBy);
	if (left.length === held.length && !abandoned) return done(channel);
	const next: Channel = { ...channel, reservations: Object.fromEntries(left), ...(abandoned && { closingBy: null }) };
	return done(next, drained(next));
}

function observeChain(
	channel: Channel,
	{ chain, closeTxHash, reorganized = false }: Extract<LedgerEvent, { type: "chain-observed" }>,
	now: number,
): Transition {
	if (chain.settledOnChain > chain.deposit) throw new ImpossibleChainError(channel, chain);
	if (chain.blockNumber < chainNow(channel).blockNumber && !reorganized) return done(channel);
	if (wentBack(channel, chain)) {
		const frozen: Channel = { ...channel, behind: chain, chainReadAt: now };
		return done(frozen, channel.behind === null ? ["frozen"] : []);
	}
	// D10: a store behind the chain catches up. What was captured there had been accepted and delivered.
	const behind = chain.settledOnChain > channel.acceptedCumulative;
	const abandoned = { reservations: {}, generation: channel.generation + 1 };
	const next: Channel = {
		...channel,
		...chain,
		chainReadAt: now,
		behind: null,
		publishedCumulative: settledIsPublic(channel.publishedCumulative, chain),
		...(behind && { acceptedCumulative: chain.settledOnChain, spent: chain.settledOnChain, ...abandoned }),
		...(chain.finalized && { closingBy: null, ...abandoned }),
		...(closeTxHash !== undefined && { closeTxHash }),
	};
	const effects: Effect[] = reserved(channel) > 0n ? [...drained(next)] : [];
	if (channel.behind !== null) effects.push("thawed");
	if (chain.closeRequestedAt !== 0 && channel.closeRequestedAt === 0) effects.push("close-requested");
	if (chain.finalized && !channel.finalized) effects.push("closed");
	return done(next, effects);
}

/** Whether the chain shows less than was relied on: a reorganization, or a node that lies (I2). */
function wentBack(channel: Channel, chain: ChainState): boolean {
	return (
		chain.deposit < channel.acceptedCumulative ||
		chain.settledOnChain < channel.settledOnChain ||
		(channel.finalized && !chain.finalized)
	);
}

function beginRetiring(channel: Channel, { owner }: Extract<LedgerEvent, { type: "retire-begun" }>): Transition {
	if (chainNow(channel).finalized) return refuse(finalizedProblem(channel.channelId));
	const next: Channel = { ...channel, closingBy: owner };
	return done(next, drained(next));
}

function beginClose(
	channel: Channel,
	{ owner, voucher }: Extract<LedgerEvent, { type: "close-begun" }>,
	now: number,
): Transition {
	if (channel.finalized) return refuse(finalizedProblem(channel.channelId));
	const excess = depositProblem(channel.channelId, voucher.cumulativeAmount, channel.deposit);
	if (excess) return refuse(excess);
	if (isStrangers(channel, voucher)) return refuse(publicVoucherProblem(channel, 0n));
	// Not a stranger's: the same challenge is good for a second try, also after the voucher was published.
	const challengeIds = remember(channel.challengeIds, voucher.challengeId);
	const next: Channel = { ...channel, closingBy: owner, challengeIds, lastActivityAt: now };
	return done(next, drained(next));
}

function decideClose(
	channel: Channel,
	{ cumulativeAmount, signature }: Extract<LedgerEvent, { type: "close-decided" }>,
	now: number,
): Transition {
	if (chainNow(channel).finalized) return refuse(finalizedProblem(channel.channelId));
	if (channel.closingBy === null) throw new Error(`channel ${channel.channelId}: close-begun comes first`);
	const excess = depositProblem(channel.channelId, cumulativeAmount, channel.deposit);
	if (excess) return refuse(excess);
	if (cumulativeAmount < channel.spent)
		throw new Error(`channel ${channel.channelId}: a close never captures less than spent`);
	const higher = cumulativeAmount > channel.acceptedCumulative;
	return done({
		...channel,
		...(higher && { acceptedCumulative: cumulativeAmount, voucherSignature: signature }),
		reservations: {},
		generation: channel.generation + 1,
		lastActivityAt: now,
	});
}

/** D7: a signature that stood in a transaction is public, so it only counts where its owner has shown itself before. */
function isStrangers(channel: Channel, voucher: Pick<VerifiedVoucher, "cumulativeAmount" | "challengeId">): boolean {
	const { publishedCumulative, challengeIds } = channel;
	if (publishedCumulative === null || voucher.cumulativeAmount > publishedCumulative) return false;
	return !challengeIds.includes(voucher.challengeId);
}

function publicVoucherProblem(channel: Channel, required: bigint): Problem {
	const unpublished = (channel.publishedCumulative ?? -1n) + 1n;
	const detail = "This voucher was published on chain already; sign a higher one.";
	return insufficientProblem(channel, max(required, unpublished), detail);
}

/** Why this channel takes no vouchers, if so (draft: Voucher Verification step 1; D1). */
function closedProblem(
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
function frozenProblemOf({ channelId, behind }: Channel): Problem | undefined {
	return behind === null ? undefined : frozenProblem(channelId);
}

function depositProblem(channelId: Hex, cumulativeAmount: bigint, deposit: bigint): Problem | undefined {
	return cumulativeAmount <= deposit ? undefined : exceededProblem(channelId, cumulativeAmount, deposit);
}

function holds(channel: Channel, { owner, generation, amount }: Reservation): boolean {
	return generation === channel.generation && (channel.reservations[owner] ?? 0n) >= amount;
}

function withoutReservation(channel: Channel, { owner, amount }: Reservation): Channel {
	const { [owner]: held = 0n, ...others } = channel.reservations;
	const left = held - amount;
	return { ...channel, reservations: left > 0n ? { ...others, [owner]: left } : others };
}

function drained(channel: Channel): readonly Effect[] {
	return channel.closingBy !== null && reserved(channel) === 0n ? ["drained"] : [];
}

function remember(challengeIds: readonly string[], challengeId: string): readonly string[] {
	if (challengeIds[0] === challengeId) return challengeIds;
	return [challengeId, ...challengeIds.filter((id) => id !== challengeId)].slice(0, REMEMBERED_CHALLENGES);
}

function done(channel: Channel, effects: readonly Effect[] = []): Transition {
	return { ok: true, channel, effects };
}

function refuse(cause: Problem): Transition {
	return { ok: false, problem: cause };
}

/** What was settled stood in a transaction. Nothing settled says nothing. */
function settledIsPublic(before: bigint | null, { settledOnChain }: ChainState): bigint | null {
	return settledOnChain === 0n ? before : published(before, settledOnChain);
}

function published(before: bigint | null, cumulativeAmount: bigint): bigint {
	return before === null ? cumulativeAmount : max(before, cumulativeAmount);
}

function max(a: bigint, b: bigint): bigint {
	return a > b ? a : b;
}

function min(a: bigint, b: bigint): bigint {
	return a < b ? a : b;
}
