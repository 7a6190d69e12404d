/**
 * The reference model of the escrow: what each call must do to the state, or with which errors it must be refused. Written
 * from draft-evm-session-00, DESIGN sections 4 to 6 and the interfaces in `contracts/I*.sol`, before the contract was
 * read; each rule names the section that it comes from.
 */
import type { Address, Hex } from "viem";
import { redeemMany } from "./batchModel.ts";
import {
	accepted,
	capture,
	computeChannelId,
	depositRefusals,
	existence,
	finalize,
	openNonce,
	refused,
	topUpNonce,
	voucherRefusals,
	withChannel,
} from "./channelRules.ts";
import {
	type Call,
	type Channel,
	type Emitted,
	type Message,
	type OpenTerms,
	type Outcome,
	type Refusal,
	type State,
	type TopUpTerms,
	type Transfer,
	ZERO,
} from "./terms.ts";
import {
	hasSigned,
	type Moved,
	permitWitnessTransferFrom,
	receiveWithAuthorization,
	transfer,
	transferFrom,
} from "./tokenModel.ts";

type CallOf<Kind extends Call["kind"]> = Extract<Call, { kind: Kind }>;

/** What `call` does when it is mined at `state.time`. The state that goes in is never changed. */
export function apply(state: State, call: Call): Outcome {
	switch (call.kind) {
		case "open":
			return open(state, call, call.sender, () => pull(state, call.sender, call.token, call.deposit));
		case "openWithAuthorization":
			return openWithAuthorization(state, call);
		case "openWithPermit2":
			return openWithPermit2(state, call);
		case "topUp":
			return topUp(state, call, call.sender, (channel) =>
				pull(state, call.sender, channel.token, call.additionalDeposit),
			);
		case "topUpWithAuthorization":
			return topUpWithAuthorization(state, call);
		case "topUpWithPermit2":
			return topUpWithPermit2(state, call);
		case "settle":
		case "close":
			return redeem(state, call, payeeOnly);
		case "settleWithAuthorization":
		case "closeWithAuthorization":
			return redeemWithAuthorization(state, call);
		case "requestClose":
			return requestClose(state, call);
		case "withdraw":
			return withdraw(state, call);
		case "settleMany":
		case "closeMany":
			return redeemMany(state, call);
	}
}

/** Draft, "open": the contract pulls the deposit with `transferFrom`. */
function pull(state: State, from: Address, token: Address, amount: bigint): Moved {
	return transferFrom(state, state.escrow, { token, from, to: state.escrow, amount });
}

/** Draft, "open": the caller, or `from` of a relayed open, becomes the payer of a channel that never existed before. */
function open(state: State, terms: OpenTerms, payer: Address, fund: () => Moved, extra: Refusal[] = []): Outcome {
	const { payee, token, deposit, salt, authorizedSigner } = terms;
	const channelId = computeChannelId(state, payer, terms);
	const refusals = [...extra];
	// IEscrowErrors: the draft has no names for these three.
	if (payer === ZERO) refusals.push({ error: "InvalidPayer", args: [payer] });
	if (payee === ZERO) refusals.push({ error: "InvalidPayee", args: [payee] });
	if (state.tokens[token] === undefined) refusals.push({ error: "InvalidToken", args: [token] });
	// "Contract Errors": ZeroDeposit.
	if (deposit === 0n) refusals.push({ error: "ZeroDeposit", args: [] });
	// "open" and "Channel Re-Use / Cross-Epoch Replay": also where it is finalized.
	if (state.channels[channelId] !== undefined) refusals.push({ error: "ChannelAlreadyExists", args: [channelId] });
	const funded = fund();
	if (!funded.ok) return refused(state, [...refusals, ...funded.refusals]);
	refusals.push(...arrivalRefusals(state, funded.state, token, deposit));
	if (refusals.length > 0) return refused(state, refusals);
	const channel = {
		payer,
		payee,
		token,
		authorizedSigner,
		deposit,
		settled: 0n,
		closeRequestedAt: 0n,
		finalized: false,
	};
	const args = { channelId, payer, payee, token, authorizedSigner, salt, deposit };
	return accepted(withChannel(funded.state, channelId, channel), {
		transfers: [{ token, from: payer, to: state.escrow, amount: deposit }],
		events: [{ name: "ChannelOpened", args }],
		returns: channelId,
	});
}

/** Draft, "Channel Escrow Contract": exactly the amount asked for, as `==` (DESIGN 6, traps). */
function arrivalRefusals(before: State, after: State, token: Address, amount: bigint): Refusal[] {
	const held = before.tokens[token]?.balances[before.escrow] ?? 0n;
	const actual = after.tokens[token]?.balances[before.escrow] ?? 0n;
	return actual === held + amount ? [] : [{ error: "DepositNotExact", args: [token, held + amount, actual] }];
}

/** Draft, "openWithAuthorization": the nonce is recomputed, the token is asked with the escrow as `to`. */
function openWithAuthorization(state: State, call: CallOf<"openWithAuthorization">): Outcome {
	const { from, token, deposit } = call;
	const message = receipt(state, token, deposit, call);
	const fund = () => receiveWithAuthorization(state, message, call.signature);
	return open(state, call, from, fund, nonceRefusals(openNonce(from, call), call.nonce));
}

/** Draft, "openWithPermit2": permitted token and amount are the call's, the witness binds the channel. */
function openWithPermit2(state: State, call: CallOf<"openWithPermit2">): Outcome {
	const { from, payee, token, deposit, salt, authorizedSigner } = call;
	const message = permit(state, token, deposit, call, { type: "ChannelOpenWitness", payee, salt, authorizedSigner });
	return open(state, call, from, () => permitWitnessTransferFrom(state, from, message, call.signature));
}

/** Draft, "Front-Running Protection": the check MUST NOT be skipped. */
function nonceRefusals(expected: Hex, supplied: Hex): Refusal[] {
	return expected === supplied ? [] : [{ error: "NonceMismatch", args: [expected, supplied] }];
}

/**
 * Draft, "topUp": only the payer; it cancels a pending close request. "Payer-funded functions": a relayed top-up may be
 * anyone's; by D15 it then adds funds and cancels nothing.
 */
function topUp(
	state: State,
	call: TopUpTerms & Readonly<{ kind: string; sender: Address }>,
	funder: Address,
	fund: (channel: Channel) => Moved,
	extra: Refusal[] = [],
): Outcome {
	const { channelId, additionalDeposit: amount } = call;
	const zero: Refusal[] = amount === 0n ? [{ error: "ZeroDeposit", args: [] }] : [];
	const channel = state.channels[channelId];
	const refusals = [...extra, ...zero, ...existence(channelId, channel)];
	if (channel === undefined) return refused(state, refusals);
	// "Access Control": topUp is the payer's; the relayed ones have no caller restriction.
	if (call.kind === "topUp" && call.sender !== channel.payer) {
		refusals.push({ error: "NotPayer", args: [channelId, call.sender] });
	}
	refusals.push(...depositRefusals(channel, amount));
	const funded = fund(channel);
	if (!funded.ok) return refused(state, [...refusals, ...funded.refusals]);
	refusals.push(...arrivalRefusals(state, funded.state, channel.token, amount));
	if (refusals.length > 0) return refused(state, refusals);
	const { payer, token } = channel;
	const deposit = channel.deposit + amount;
	const cancels = funder === payer && channel.closeRequestedAt !== 0n;
	const closeRequestedAt = cancels ? 0n : channel.closeRequestedAt;
	const events: Emitted[] = [{ name: "ToppedUp", args: { channelId, funder, amount, deposit } }];
	if (cancels) events.push({ name: "CloseRequestCancelled", args: { channelId, payer } });
	return accepted(withChannel(funded.state, channelId, { ...channel, deposit, closeRequestedAt }), {
		transfers: [{ token, from: funder, to: state.escrow, amount }],
		events,
	});
}

/** Draft, "topUpWithAuthorization". */
function topUpWithAuthorization(state: State, call: CallOf<"topUpWithAuthorization">): Outcome {
	const { from, additionalDeposit } = call;
	const fund = ({ token }: Channel) =>
		receiveWithAuthorization(state, receipt(state, token, additionalDeposit, call), call.signature);
	return topUp(state, call, from, fund, nonceRefusals(topUpNonce(from, call, call.topUpSalt), call.nonce));
}

/** Draft, "topUpWithPermit2": the permitted token is the channel's. */
function topUpWithPermit2(state: State, call: CallOf<"topUpWithPermit2">): Outcome {
	const { from, additionalDeposit, channelId } = call;
	const fund = ({ token }: Channel) => {
		const message = permit(state, token, additionalDeposit, call, { type: "ChannelTopUpWitness", channelId });
		return permitWitnessTransferFrom(state, from, message, call.signature);
	};
	return topUp(state, call, from, fund);
}

function receipt(
	{ chainId, escrow }: State,
	token: Address,
	value: bigint,
	{ from, validAfter, validBefore, nonce }: CallOf<"openWithAuthorization" | "topUpWithAuthorization">,
): Extract<Message, { type: "ReceiveWithAuthorization" | "TransferWithAuthorization" }> {
	// "Front-Running Protection": receiveWithAuthorization, never transferWithAuthorization.
	const type = "ReceiveWithAuthorization";
	return { type, chainId, contract: token, from, to: escrow, value, validAfter, validBefore, nonce };
}

function permit(
	{ chainId, escrow, permit2 }: State,
	token: Address,
	amount: bigint,
	{ nonce, deadline }: CallOf<"openWithPermit2" | "topUpWithPermit2">,
	witness: Extract<Message, { type: "PermitWitnessTransferFrom" }>["witness"],
): Extract<Message, { type: "PermitWitnessTransferFrom" }> {
	const type = "PermitWitnessTransferFrom";
	return { type, chainId, contract: permit2, token, amount, spender: escrow, nonce, deadline, witness };
}

type Redemption = CallOf<"settle" | "close" | "settleWithAuthorization" | "closeWithAuthorization">;

/** Draft, "settle" and "close": the MUST on `msg.sender`. */
function payeeOnly({ payee }: Channel, { channelId, sender }: Redemption): Refusal[] {
	return sender === payee ? [] : [{ error: "NotPayee", args: [channelId, sender] }];
}

/** Draft, "settle", "close": voucher checks, then the payee is paid and, on close, the payer refunded, in one transaction. */
function redeem(
	state: State,
	call: Redemption,
	authorize: (channel: Channel, call: Redemption) => Refusal[],
	extra: Refusal[] = [],
): Outcome {
	const { channelId } = call;
	const isClose = call.kind === "close" || call.kind === "closeWithAuthorization";
	const channel = state.channels[channelId];
	const refusals = [...extra, ...existence(channelId, channel)];
	if (channel === undefined) return refused(state, refusals);
	refusals.push(...authorize(channel, call));
	const message = { type: "Voucher", chainId: state.chainId, contract: state.escrow } as const;
	const isSigned = (signer: Address) =>
		hasSigned(state, signer, { ...message, channelId, cumulativeAmount: call.cumulativeAmount }, call.signature);
	refusals.push(...voucherRefusals(channel, call, isClose, isSigned));
	const { payer, payee, token } = channel;
	const { delta, settled, refund } = capture(channel, call.cumulativeAmount);
	const payouts: Transfer[] = [{ token, from: state.escrow, to: payee, amount: delta }];
	if (isClose) payouts.push({ token, from: state.escrow, to: payer, amount: refund });
	const paid = refusals.length === 0 ? payOut(state, payouts) : ({ ok: true, state } as const);
	if (!paid.ok) refusals.push(...paid.refusals);
	if (refusals.length > 0 || !paid.ok) return refused(state, refusals);
	const next = isClose ? finalize({ ...channel, settled }) : { ...channel, settled };
	const event: Emitted = isClose
		? { name: "ChannelClosed", args: { channelId, payer, payee, settled, delta, refund } }
		: { name: "Settled", args: { channelId, payer, payee, settled, delta } };
	return accepted(withChannel(paid.state, channelId, next), { transfers: payouts, events: [event] });
}

/** Payments one after the other; with the first that a token refuses, the whole transaction is refused. */
function payOut(state: State, payouts: readonly Transfer[]): Moved {
	let current = state;
	for (const payout of payouts) {
		const moved = transfer(current, payout);
		if (!moved.ok) return moved;
		current = moved.state;
	}
	return { ok: true, state: current };
}

/** Draft, "Payee-initiated functions", requirements 1 to 4: two signatures, a deadline, one used-set for both functions. */
function redeemWithAuthorization(
	state: State,
	call: CallOf<"settleWithAuthorization" | "closeWithAuthorization">,
): Outcome {
	const { channelId, cumulativeAmount, nonce, deadline } = call;
	const key = (payee: Address) => `${payee}:${channelId}:${nonce}`;
	const authorize = ({ payee }: Channel): Refusal[] => {
		const refusals: Refusal[] = [];
		const type = call.kind === "settleWithAuthorization" ? "SettleAuthorization" : "CloseAuthorization";
		const message = { type, chainId: state.chainId, contract: state.escrow } as const;
		const authorization = { ...message, channelId, cumulativeAmount, nonce, deadline };
		if (!hasSigned(state, payee, authorization, call.payeeSignature)) {
			refusals.push({ error: "InvalidSignature", args: [channelId, payee] });
		}
		if (state.usedPayeeNonces[key(payee)]) refusals.push({ error: "NonceAlreadyUsed", args: [channelId, nonce] });
		return refusals;
	};
	const expired: Refusal[] = state.time > deadline ? [{ error: "AuthorizationExpired", args: [deadline] }] : [];
	const outcome = redeem(state, call, authorize, expired);
	const payee = state.channels[channelId]?.payee;
	if (!outcome.result.accepted || payee === undefined) return outcome;
	const usedPayeeNonces = { ...outcome.state.usedPayeeNonces, [key(payee)]: true as const };
	return { ...outcome, state: { ...outcome.state, usedPayeeNonces } };
}

/** Draft, "requestClose". A second request does not restart the clock (DESIGN 6, traps), and says nothing. */
function requestClose(state: State, { channelId, sender }: CallOf<"requestClose" | "withdraw">): Outcome {
	const channel = state.channels[channelId];
	const refusals = [...existence(channelId, channel), ...notPayer(channelId, channel, sender)];
	if (channel === undefined || refusals.length > 0) return refused(state, refusals);
	if (channel.closeRequestedAt !== 0n) return accepted(state, { transfers: [], events: [] });
	const { payer } = channel;
	const closeRequestedAt = state.time;
	const withdrawableAt = closeRequestedAt + state.closeGracePeriod;
	return accepted(withChannel(state, channelId, { ...channel, closeRequestedAt }), {
		transfers: [],
		events: [{ name: "CloseRequested", args: { channelId, payer, closeRequestedAt, withdrawableAt } }],
	});
}

/** Draft, "withdraw": only after a request, and from the second in which the grace period has elapsed. */
function withdraw(state: State, { channelId, sender }: CallOf<"requestClose" | "withdraw">): Outcome {
	const channel = state.channels[channelId];
	const refusals = [...existence(channelId, channel), ...notPayer(channelId, channel, sender)];
	if (channel === undefined) return refused(state, refusals);
	const { payer, token, settled, closeRequestedAt } = channel;
	const readyAt = closeRequestedAt === 0n ? 0n : closeRequestedAt + state.closeGracePeriod;
	if (readyAt === 0n || state.time < readyAt) refusals.push({ error: "CloseNotReady", args: [channelId, readyAt] });
	if (refusals.length > 0) return refused(state, refusals);
	const refund = channel.deposit - settled;
	const transfers = [{ token, from: state.escrow, to: payer, amount: refund }];
	const paid = payOut(state, transfers);
	if (!paid.ok) return refused(state, paid.refusals);
	return accepted(withChannel(paid.state, channelId, finalize(channel)), {
		transfers,
		events: [{ name: "Withdrawn", args: { channelId, payer, settled, refund } }],
	});
}

function notPayer(channelId: Hex, channel: Channel | undefined, sender: Address): Refusal[] {
	return channel !== undefined && sender !== channel.payer ? [{ error: "NotPayer", args: [channelId, sender] }] : [];
}
