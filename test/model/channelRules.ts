/** The rules about one channel that several functions of the draft share. Where each comes from is said beside it. */
import { type Address, encodeAbiParameters, type Hex, keccak256 } from "viem";
import {
	type Channel,
	type Emitted,
	type OpenTerms,
	type Outcome,
	type Refusal,
	type State,
	type TopUpTerms,
	type Transfer,
	UINT128_MAX,
	type VoucherTerms,
	ZERO,
} from "./terms.ts";

/** Draft, "Channel State": `authorizedSigner` as given (D13), the contract's own address, the chain's own id. */
export function computeChannelId(state: State, payer: Address, terms: Omit<OpenTerms, "deposit">): Hex {
	const { payee, token, salt, authorizedSigner } = terms;
	return keccak256(
		encodeAbiParameters(
			["address", "address", "address", "bytes32", "address", "address", "uint256"].map((type) => ({ type })),
			[payer, payee, token, salt, authorizedSigner, state.escrow, BigInt(state.chainId)],
		),
	);
}

/** Draft, "openWithAuthorization" and "Front-Running Protection". */
export function openNonce(from: Address, { payee, token, salt, authorizedSigner }: Omit<OpenTerms, "deposit">): Hex {
	const types = ["address", "address", "address", "bytes32", "address"].map((type) => ({ type }));
	return keccak256(encodeAbiParameters(types, [from, payee, token, salt, authorizedSigner]));
}

/** Draft, "topUpWithAuthorization" and "Front-Running Protection". */
export function topUpNonce(from: Address, { channelId, additionalDeposit }: TopUpTerms, topUpSalt: Hex): Hex {
	const types = ["bytes32", "uint128", "address", "bytes32"].map((type) => ({ type }));
	return keccak256(encodeAbiParameters(types, [channelId, additionalDeposit, from, topUpSalt]));
}

/** Draft, "Contract Errors": ChannelNotFound and ChannelFinalized. */
export function existence(channelId: Hex, channel: Channel | undefined): Refusal[] {
	if (channel === undefined) return [{ error: "ChannelNotFound", args: [channelId] }];
	return channel.finalized ? [{ error: "ChannelFinalized", args: [channelId] }] : [];
}

/** Draft, "Signature Verification", step 2. */
export function voucherSigner({ payer, authorizedSigner }: Channel): Address {
	return authorizedSigner === ZERO ? payer : authorizedSigner;
}

/**
 * Draft, "settle": strictly increasing, within the deposit, signed. "close": not increasing means that the payee waives
 * the rest, and then the contract MAY skip the signature; IPaymentChannelEscrow says that it does.
 */
export function voucherRefusals(
	channel: Channel,
	{ channelId, cumulativeAmount }: VoucherTerms,
	isClose: boolean,
	isSigned: (signer: Address) => boolean,
): Refusal[] {
	const { settled, deposit } = channel;
	const refusals: Refusal[] = [];
	const isIncreasing = cumulativeAmount > settled;
	if (isClose && !isIncreasing) return refusals;
	if (!isIncreasing) refusals.push({ error: "AmountNotIncreasing", args: [channelId, cumulativeAmount, settled] });
	// "Deposit Cap".
	if (cumulativeAmount > deposit)
		refusals.push({ error: "AmountExceedsDeposit", args: [channelId, cumulativeAmount, deposit] });
	const signer = voucherSigner(channel);
	if (!isSigned(signer)) refusals.push({ error: "InvalidSignature", args: [channelId, signer] });
	return refusals;
}

/** Draft, "Contract Errors": DepositOverflow, "Overflow Protection". */
export function depositRefusals({ deposit }: Channel, additional: bigint): Refusal[] {
	return deposit + additional > UINT128_MAX ? [{ error: "DepositOverflow", args: [deposit, additional] }] : [];
}

/** Draft, "settle" and "close": what a voucher pays the payee, and what would then be left for the payer. */
export function capture({ settled, deposit }: Channel, cumulativeAmount: bigint) {
	const after = cumulativeAmount > settled ? cumulativeAmount : settled;
	return { delta: after - settled, settled: after, refund: deposit - after };
}

/** Draft, "Channel State": sticky, and everything else stays as it was. */
export function finalize(channel: Channel): Channel {
	return { ...channel, finalized: true };
}

export function withChannel(state: State, channelId: Hex, channel: Channel): State {
	return { ...state, channels: { ...state.channels, [channelId]: channel } };
}

export function accepted(
	state: State,
	done: Readonly<{ transfers: readonly Transfer[]; events: readonly Emitted[]; returns?: unknown }>,
): Outcome {
	const transfers = done.transfers.filter(({ amount }) => amount > 0n);
	return { state, result: { accepted: true, transfers, events: done.events, returns: done.returns } };
}

export function refused(state: State, refusals: readonly Refusal[]): Outcome {
	if (refusals.length === 0) throw new TypeError("refused for no reason");
	return { state, result: { accepted: false, refusals } };
}
