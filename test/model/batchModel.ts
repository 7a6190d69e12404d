/**
 * `settleMany` and `closeMany`, of which the draft says nothing: DESIGN 6 and IBatchSettlement. A row does what `settle` or
 * `close` would do in its place, or is skipped with the reason for which that would have been refused.
 */
import type { Address } from "viem";
import { accepted, capture, existence, finalize, refused, voucherRefusals, withChannel } from "./channelRules.ts";
import {
	type Call,
	type Channel,
	type Emitted,
	type Message,
	type Outcome,
	type Refusal,
	type Row,
	type State,
	type Transfer,
	ZERO,
} from "./terms.ts";
import { isOwnSignature, transfer } from "./tokenModel.ts";

type Batch = Extract<Call, { kind: "settleMany" | "closeMany" }>;

/** What the rows so far have come to; `owed` to the payee, by token. */
type Tally = Readonly<{
	state: State;
	events: readonly Emitted[];
	refunds: readonly Transfer[];
	owed: Readonly<Record<Address, bigint>>;
}>;

export function redeemMany(state: State, { kind, sender, rows }: Batch): Outcome {
	let tally: Tally = { state, events: [], refunds: [], owed: {} };
	for (const row of rows) tally = redeemRow(tally, kind, sender, row);
	// IBatchSettlement: each token is paid out once, in one sum; a token that refuses that fails the whole batch.
	let paid = tally.state;
	const payments: Transfer[] = [];
	for (const [token, amount] of Object.entries(tally.owed) as [Address, bigint][]) {
		const payment = { token, from: state.escrow, to: sender, amount };
		const moved = transfer(paid, payment);
		if (!moved.ok) return refused(state, moved.refusals);
		paid = moved.state;
		payments.push(payment);
	}
	return accepted(paid, { transfers: [...tally.refunds, ...payments], events: tally.events });
}

/** DESIGN 6: a row is worked on when its turn comes, so that several of one channel work. */
function redeemRow(tally: Tally, kind: Batch["kind"], sender: Address, row: Row): Tally {
	const { state } = tally;
	const { channelId, cumulativeAmount } = row;
	const isClose = kind === "closeMany";
	const channel = state.channels[channelId];
	const refusals = rowRefusals(state, channel, sender, row, isClose);
	if (channel === undefined || refusals.length > 0) return skip(tally, channel, sender, row, refusals);
	const { payer, payee, token } = channel;
	const { delta, settled, refund } = capture(channel, cumulativeAmount);
	const owed = { ...tally.owed, [token]: (tally.owed[token] ?? 0n) + delta };
	const redeemed = { ...tally, state: withChannel(state, channelId, { ...channel, settled }), owed };
	const settledEvent = { name: "Settled", args: { channelId, payer, payee, settled, delta } };
	if (!isClose) return { ...redeemed, events: [...tally.events, settledEvent] };
	const repayment = { token, from: state.escrow, to: payer, amount: refund };
	const refunded = transfer(redeemed.state, repayment);
	if (!refunded.ok) {
		// IBatchSettlement, closeMany: it stays open, and its voucher is redeemed all the same.
		const events = delta > 0n ? [...tally.events, settledEvent] : tally.events;
		return skip({ ...redeemed, events }, channel, sender, row, [{ error: "RefundRefused", args: [channelId, payer] }]);
	}
	return {
		state: withChannel(refunded.state, channelId, finalize({ ...channel, settled })),
		owed,
		refunds: [...tally.refunds, repayment],
		events: [...tally.events, { name: "ChannelClosed", args: { channelId, payer, payee, settled, delta, refund } }],
	};
}

/** IBatchSettlement: what `settle` or `close` would have reverted with, and ECDSA signatures only. */
function rowRefusals(
	state: State,
	channel: Channel | undefined,
	sender: Address,
	row: Row,
	isClose: boolean,
): Refusal[] {
	const { channelId, cumulativeAmount, signature } = row;
	const refusals = existence(channelId, channel);
	if (channel === undefined) return refusals;
	if (sender !== channel.payee) refusals.push({ error: "NotPayee", args: [channelId, sender] });
	const { chainId, escrow: contract } = state;
	const voucher: Message = { type: "Voucher", chainId, contract, channelId, cumulativeAmount };
	const isSigned = (signer: Address) => isOwnSignature(signer, voucher, signature);
	return [...refusals, ...voucherRefusals(channel, row, isClose, isSigned)];
}

/** IEscrowEvents, SettlementSkipped: the channel's payer, zero where there is none, and whoever sent the batch. */
function skip(
	tally: Tally,
	channel: Channel | undefined,
	sender: Address,
	{ channelId }: Row,
	reasons: readonly Refusal[],
): Tally {
	const args = { channelId, payer: channel?.payer ?? ZERO, payee: sender };
	return { ...tally, events: [...tally.events, { name: "SettlementSkipped", args, reasons }] };
}
