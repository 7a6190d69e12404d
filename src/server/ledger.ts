/**
 * All rules about money, once: a pure state machine, `(channel, event, now) -> channel' + effects | problem`.
 * No I/O, no clock, no randomness. Signatures are verified before an event gets here (I3).
 *
 * Sources: draft-evm-session-00 "Voucher Verification", "Server-Side Accounting", "Cooperative Close"; D1, D3, D4, D6,
 * D7, D10, D12, D14 of docs/design.md. Invariants I1, I2, I6, I7 and I8 are kept here. What the chain says and what comes
 * of it is in ledgerChain.ts; `applyEvent` is the one way in.
 */
import { type Problem, problem } from "../protocol/index.ts";
import { available, type Channel, chainNow, owes, reserved } from "./channel.ts";
import { observeChain, opened } from "./ledgerChain.ts";
import type { LedgerEvent, Reservation, Transition, VerifiedVoucher } from "./ledgerEvent.ts";
import {
	abandoned,
	closedProblem,
	depositProblem,
	done,
	drained,
	frozenProblemOf,
	isStrangers,
	max,
	min,
	publicVoucherProblem,
	published,
	refuse,
	remember,
	unfundedProblem,
} from "./ledgerRules.ts";
import { finalizedProblem, insufficientProblem } from "./refusals.ts";

export { ImpossibleChainError } from "./ledgerChain.ts";
export type { Effect, LedgerEvent, Reservation, Transition, VerifiedVoucher } from "./ledgerEvent.ts";

/** The escrow keeps deposits as `uint128` (I1). */
const DEPOSIT_LIMIT = 2n ** 128n;

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
	if (unsettledSince === step.channel.unsettledSince) return step;
	return { ...step, channel: { ...step.channel, unsettledSince } };
}

/** Since when what is owed waits: for the first unit anew after each settlement. Asked at each request, so it only compares. */
function owedSince(before: Channel | undefined, after: Channel, now: number): number | null {
	if (!owes(after)) return null;
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
		case "extend":
			return extend(channel, event, now);
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
			return decideClose(channel, event);
		case "publishing":
			return done({ ...channel, publishedCumulative: published(channel.publishedCumulative, event.cumulativeAmount) });
		case "deferred":
			return done({ ...channel, deferredAt: now });
		case "close-failed":
			return done(
				event.owner === undefined || event.owner === channel.closingBy ? { ...channel, closingBy: null } : channel,
			);
	}
}

/**
 * The amount and voucher a cooperative close captures (D6, I8): below `spent` the highest accepted voucher, otherwise
 * the client's own. The client's amount must not exceed the deposit.
 */
export function closingVoucher(
	channel: Channel,
	client: Omit<VerifiedVoucher, "challengeId">,
): Omit<VerifiedVoucher, "challengeId"> {
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
	if (isStrangers(channel, voucher)) {
		return refuse(publicVoucherProblem(channel, requiredCumulative(channel, amount, minVoucherDelta)));
	}
	if (available(channel) < amount) {
		const required = requiredCumulative(channel, amount, minVoucherDelta);
		return refuse(insufficientProblem(channel, required, "The accepted voucher does not cover the price."));
	}
	return hold(channel, amount, owner, now);
}

/** Who asks has shown before that the channel is its own (D7), and asks for no more than there is. */
function extend(
	channel: Channel,
	{ amount, owner }: Extract<LedgerEvent, { type: "extend" }>,
	now: number,
): Transition {
	if (amount < 0n || amount > available(channel)) throw new RangeError("a reservation is from 0 to what is available");
	const unusable = closedProblem(channel) ?? frozenProblemOf(channel);
	return unusable ? refuse(unusable) : hold(channel, amount, owner, now);
}

function hold(channel: Channel, amount: bigint, owner: string, now: number): Transition {
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
	const reservations = reservationsWithout(channel, reservation);
	const next: Channel = { ...channel, reservations, spent: channel.spent + used, lastActivityAt: now };
	return done(next, drained(next));
}

function release(channel: Channel, reservation: Reservation): Transition {
	if (!holds(channel, reservation)) return done(channel);
	const next: Channel = { ...channel, reservations: reservationsWithout(channel, reservation) };
	return done(next, drained(next));
}

function recovered(channel: Channel, gone: readonly string[]): Transition {
	const held = Object.entries(channel.reservations);
	const left = held.filter(([owner]) => !gone.includes(owner));
	const isLeft = channel.closingBy !== null && gone.includes(channel.closingBy);
	if (left.length === held.length && !isLeft) return done(channel);
	const next: Channel = { ...channel, reservations: Object.fromEntries(left), ...(isLeft && { closingBy: null }) };
	return done(next, drained(next));
}

function beginRetiring(channel: Channel, { owner }: Extract<LedgerEvent, { type: "retire-begun" }>): Transition {
	if (chainNow(channel).finalized) return refuse(finalizedProblem(channel.channelId));
	// It captures the highest voucher (I8), or it has to wait.
	const unfunded = unfundedProblem(channel, channel.acceptedCumulative);
	if (unfunded) return refuse(unfunded);
	const next: Channel = { ...channel, closingBy: owner };
	return done(next, drained(next));
}

function beginClose(
	channel: Channel,
	{ owner, voucher }: Extract<LedgerEvent, { type: "close-begun" }>,
	now: number,
): Transition {
	if (chainNow(channel).finalized) return refuse(finalizedProblem(channel.channelId));
	const { cumulativeAmount } = voucher;
	const excess =
		depositProblem(channel.channelId, cumulativeAmount, channel.deposit) ?? unfundedProblem(channel, cumulativeAmount);
	if (excess) return refuse(excess);
	if (isStrangers(channel, voucher)) return refuse(publicVoucherProblem(channel, 0n));
	// Not a stranger's: the same challenge is good for a second try, also after the voucher was published.
	const challengeIds = remember(channel.challengeIds, voucher.challengeId);
	const next: Channel = { ...channel, closingBy: owner, challengeIds, lastActivityAt: now };
	return done(next, drained(next));
}

function decideClose(
	channel: Channel,
	{ cumulativeAmount, signature, byContract = false }: Extract<LedgerEvent, { type: "close-decided" }>,
): Transition {
	if (chainNow(channel).finalized) return refuse(finalizedProblem(channel.channelId));
	if (channel.closingBy === null) throw new Error(`channel ${channel.channelId}: close-begun comes first`);
	const excess =
		depositProblem(channel.channelId, cumulativeAmount, channel.deposit) ?? unfundedProblem(channel, cumulativeAmount);
	if (excess) return refuse(excess);
	if (cumulativeAmount < channel.spent)
		throw new Error(`channel ${channel.channelId}: a close never captures less than spent`);
	const higher = cumulativeAmount > channel.acceptedCumulative;
	return done({
		...channel,
		...(higher && {
			acceptedCumulative: cumulativeAmount,
			voucherSignature: signature,
			contractSigner: byContract,
		}),
		...abandoned(channel),
	});
}

function holds(channel: Channel, { owner, generation, amount }: Reservation): boolean {
	return generation === channel.generation && (channel.reservations[owner] ?? 0n) >= amount;
}

function reservationsWithout({ reservations }: Channel, { owner, amount }: Reservation): Channel["reservations"] {
	const { [owner]: held = 0n, ...others } = reservations;
	const left = held - amount;
	return left > 0n ? { ...others, [owner]: left } : others;
}
