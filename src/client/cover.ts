import type { Hex } from "viem";
import type { SessionRequest } from "../protocol/index.ts";
import { DepositExhaustedError } from "./bookErrors.ts";
import type { Offered, PayerChannel } from "./channel.ts";
import { manage } from "./manage.ts";
import { orAborted } from "./orAborted.ts";
import type { Outgoing } from "./outgoing.ts";
import { sendTopUp } from "./ownTopUp.ts";
import type { SessionParts } from "./parts.ts";
import type { PendingTopUp } from "./pending.ts";
import { additionalDepositFor, amountText, boundsFor, PolicyRefusedError } from "./policy.ts";
import { noteChannelReceipt } from "./receipts.ts";
import { discard } from "./retry.ts";
import { planTopUp, topUpCredential, topUpState } from "./topUp.ts";
import { isUntold } from "./untold.ts";

/** The server did not take a top-up, and said nothing of payments. It is still pending, and tried again when there is need. */
export class TopUpRefusedError extends Error {
	override readonly name = "TopUpRefusedError";
	readonly code = "TOP_UP_REFUSED";
	readonly channelId: Hex;
	constructor(channelId: Hex, status: number) {
		super(`channel ${channelId} was not topped up: the server answered ${status} without a receipt`);
		this.channelId = channelId;
	}
}

/** A top-up that goes with a voucher. */
export type MergedTopUp = Exclude<PendingTopUp, { type: "hash" }>;

/** Pays by a voucher, with or without a top-up that goes along. Begins at once: nothing is awaited before it does. */
export type PayVoucher<Paid> = (topUp?: MergedTopUp) => Promise<Paid>;

/**
 * Pays a request at `price` once the deposit covers it. A server that takes authorizations gets the top-up with the voucher
 * (draft-evm-session-00, Voucher Payload); else the payer tops up by its own transaction and tells the server first
 * (TopUp Payload). One top-up at a time, remembered until the deposit has it, so that no lost answer means two.
 *
 * @returns what `pay` returns, or the response of a server that did not take the top-up
 * @throws DepositExhaustedError when the policy does not allow what is needed
 */
export async function payCovered<Paid>(
	parts: SessionParts,
	key: string,
	channel: PayerChannel,
	request: Outgoing,
	{ request: terms }: Offered<SessionRequest>,
	price: bigint,
	pay: PayVoucher<Paid>,
): Promise<Paid | Readonly<{ refused: Response }>> {
	for (;;) {
		// From here to the voucher's amount nothing is awaited.
		const isCovered = channel.needs(price) <= channel.deposit;
		if (channel.toppingUp !== undefined) {
			if (isCovered) return pay();
			await orAborted(
				channel.toppingUp.catch(() => undefined),
				request.signal,
			);
		} else if (isCovered && channel.topUp?.type !== "hash") {
			const amount = price > 0n ? earlyTopUp(parts, channel, terms, price) : undefined;
			if (amount === undefined) return pay();
			return channel.topUpAlone(() => topUpEarly(parts, channel, terms, amount, pay));
		} else {
			return channel.topUpAlone(() => topUpFirst(parts, key, channel, request, terms, price, pay));
		}
	}
}

async function topUpFirst<Paid>(
	parts: SessionParts,
	key: string,
	channel: PayerChannel,
	request: Outgoing,
	terms: SessionRequest,
	price: bigint,
	pay: PayVoucher<Paid>,
): Promise<Paid | Readonly<{ refused: Response }>> {
	await settleTopUp(parts, channel);
	const pending = channel.topUp;
	if (pending !== undefined && pending.type !== "hash") {
		try {
			await approvePending(parts, channel, request, pending);
		} catch (error) {
			if (channel.needs(price) <= channel.deposit) return pay();
			throw error;
		}
	}
	for (;;) {
		const { topUp } = channel;
		const needed = channel.needs(price);
		if (topUp === undefined) {
			if (needed <= channel.deposit) return pay();
			const bounds = boundsFor(parts.policy, channel.parameters);
			const amount = additionalDepositFor(bounds, channel, terms.suggestedDeposit, needed - channel.deposit);
			if (amount === undefined) throw new DepositExhaustedError(channel.channelId, needed, channel.deposit);
			const isApproved = await approveTopUp(parts, channel, request, amount);
			channel.topUp = { ...(await planTopUp(parts, channel, terms, amount)), isApproved };
		} else if (topUp.type !== "hash" && needed <= channel.deposit + topUp.amount) {
			return pay(topUp);
		} else if (needed <= channel.deposit && topUp.type === "hash" && topUp.sent && isUntold(topUp.sent)) {
			return pay();
		} else {
			const refused = await topUpAlone(parts, key, channel, topUp);
			if (refused !== undefined) return { refused };
		}
	}
}

/** @returns whether somebody was asked */
async function approveTopUp(
	{ gate }: SessionParts,
	{ channelId, parameters: { chainId, token, payee } }: PayerChannel,
	request: Outgoing,
	amount: bigint,
): Promise<boolean> {
	const asked = { kind: "topUp", amount, chainId, token, payee, channelId } as const;
	const isAsking = gate.isAsking(request, asked);
	await gate.approve(request, asked);
	return isAsking;
}

/**
 * Whether a top-up that was planned before may be signed again, by the policy as it is now. One that may not is left until
 * nobody can use its signature any more.
 *
 * @throws PolicyRefusedError (`deposit`, `approval`)
 */
async function approvePending(
	parts: SessionParts,
	channel: PayerChannel,
	request: Outgoing,
	topUp: MergedTopUp,
): Promise<void> {
	const { amount, until } = topUp;
	if (!isWithinBounds(parts, channel, amount)) {
		const text = amountText(parts.policy, channel.parameters, amount);
		const detail = `a top-up of ${text} that was signed before is more than is allowed now; nobody can use it any more from ${new Date(until).toISOString()} on`;
		throw new PolicyRefusedError("deposit", detail);
	}
	if (topUp.isApproved !== true) topUp.isApproved = await approveTopUp(parts, channel, request, amount);
}

function isWithinBounds({ policy }: SessionParts, channel: PayerChannel, amount: bigint): boolean {
	return additionalDepositFor(boundsFor(policy, channel.parameters), channel, amount, amount) !== undefined;
}

/** Whether a top-up may go along that there is no need for yet. */
function isFree(parts: SessionParts, channel: PayerChannel, { amount, isApproved = false }: PendingTopUp): boolean {
	if (!isWithinBounds(parts, channel, amount)) return false;
	return isApproved || !parts.gate.needsApproval({ amount, ...channel.parameters });
}

/** A top-up before there is need: where it can't go with the voucher, or may not be, the voucher goes without. */
async function topUpEarly<Paid>(
	parts: SessionParts,
	channel: PayerChannel,
	terms: SessionRequest,
	amount: bigint,
	pay: PayVoucher<Paid>,
): Promise<Paid> {
	try {
		await settleTopUp(parts, channel);
		channel.topUp ??= await planTopUp(parts, channel, terms, amount);
	} catch {
		// There is no need yet. When there is, whatever is in the way will be said.
		return pay();
	}
	const { topUp } = channel;
	if (topUp.type !== "hash") return isFree(parts, channel, topUp) ? pay(topUp) : pay();
	// An own transaction would hold the request up: it is sent when it has to be.
	if (topUp.sent === undefined) channel.topUp = undefined;
	return pay();
}

/** What to add before the deposit runs dry; `undefined` where that is not wanted, or too little to be worth it. */
function earlyTopUp(
	{ policy, gate, topUpBelow }: SessionParts,
	channel: PayerChannel,
	terms: SessionRequest,
	price: bigint,
): bigint | undefined {
	if (topUpBelow === 0n || !channel.topsUpEarly || channel.deposit - channel.needs(price) >= topUpBelow)
		return undefined;
	const bounds = boundsFor(policy, channel.parameters);
	const amount = additionalDepositFor(bounds, channel, terms.suggestedDeposit, topUpBelow);
	// Nobody is bothered for what is not needed yet.
	const isFree = amount !== undefined && !gate.needsApproval({ amount, ...channel.parameters });
	return isFree ? amount : undefined;
}

/** Tops up without a voucher. The response of a server that does not take it; `undefined` when the deposit has it. */
async function topUpAlone(
	parts: SessionParts,
	key: string,
	channel: PayerChannel,
	topUp: PendingTopUp,
): Promise<Response | undefined> {
	if (topUp.type === "hash") {
		try {
			await sendTopUp(parts, channel, topUp);
		} finally {
			// What was not even sent, or has failed for good, is planned anew.
			if (topUp.sent === undefined) channel.topUp = undefined;
			else await settleTopUp(parts, channel).catch(() => undefined);
		}
	}
	const told = await manage(parts, key, channel, (challenge) => topUpCredential(parts, challenge, channel, topUp));
	if (told.receipt === undefined) return told.response;
	discard(told.response);
	noteChannelReceipt(parts.keeper, "topUp", channel, channel.resource, topUp.amount, told.receipt);
	credit(channel, topUp);
	return undefined;
}

/** The deposit has the top-up. */
export function credit(channel: PayerChannel, topUp: PendingTopUp): void {
	if (channel.topUp !== topUp) return;
	channel.topUp = undefined;
	// The payer's own node may have said already what its transaction did.
	if (topUp.type !== "hash" || !topUp.mined) channel.deposited(channel.deposit + topUp.amount);
}

/**
 * What became of a top-up that was signed or sent before. One that was executed is in the deposit, one that can't be
 * executed any more is forgotten, and all else is still to be sent again. The server still has to be told of the payer's
 * own transaction.
 */
async function settleTopUp(parts: SessionParts, channel: PayerChannel): Promise<void> {
	const { topUp } = channel;
	if (topUp === undefined) return;
	const state = await topUpState(parts, channel, topUp);
	if (state === "lapsed") channel.topUp = undefined;
	if (state !== "done" || (topUp.type === "hash" && topUp.mined)) return;
	// At least what is known, and once, whatever becomes of the look: a node behind may show less.
	channel.deposited(channel.deposit + topUp.amount);
	// Of one whose hash nobody knows the server can't be told.
	if (topUp.type === "hash" && topUp.sent && !isUntold(topUp.sent)) topUp.mined = true;
	else channel.topUp = undefined;
	const onChain = await parts.channels.look(channel);
	if (onChain !== undefined) channel.deposited(onChain.deposit);
}
