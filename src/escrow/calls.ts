import { type Address, encodeFunctionData, type Hex, prepareEncodeFunctionData, zeroAddress } from "viem";
import {
	type PaymentPermit,
	type PaymentWitnessForm,
	paymentWitnessHash,
	paymentWitnessTypeString,
} from "../voucher/index.ts";
import { erc3009Abi } from "./generated/erc3009.ts";
import { paymentChannelEscrowAbi } from "./generated/escrow.ts";
import { permit2Abi } from "./generated/permit2.ts";

/** A contract call ready to be sent; `to` is `null` for a deployment. */
export type Call = Readonly<{ to: Address | null; data: Hex }>;

/** An ERC-3009 authorization with its signature. Times in Unix seconds, value in base units. */
export type SignedAuthorization = Readonly<{
	from: Address;
	to: Address;
	value: bigint;
	validAfter: bigint;
	validBefore: bigint;
	nonce: Hex;
	signature: Hex;
}>;

/** A signed Permit2 deposit of `amount` base units by `from`. `deadline` in Unix seconds. */
export type SignedDeposit = Readonly<{
	from: Address;
	amount: bigint;
	nonce: bigint;
	deadline: bigint;
	signature: Hex;
}>;

/** One transfer of a Permit2 charge, in base units. */
export type TransferDetails = Readonly<{ to: Address; requestedAmount: bigint }>;

/** `open` by the payer itself; needs an allowance of `deposit` for the escrow. */
export function openCall(
	escrow: Address,
	channel: Readonly<{ payee: Address; token: Address; deposit: bigint; salt: Hex; authorizedSigner: Address }>,
): Call {
	const { payee, token, deposit, salt, authorizedSigner } = channel;
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "open",
			args: [payee, token, deposit, salt, authorizedSigner],
		}),
	};
}

/** `openWithAuthorization`: anyone sends it, the payer's ERC-3009 signature moves the money. */
export function openWithAuthorizationCall(
	escrow: Address,
	channel: Readonly<{ payee: Address; token: Address; salt: Hex; authorizedSigner: Address }>,
	authorization: SignedAuthorization,
): Call {
	const { from, value, validAfter, validBefore, nonce, signature } = authorization;
	const { payee, token, salt, authorizedSigner } = channel;
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "openWithAuthorization",
			args: [payee, token, value, salt, authorizedSigner, from, validAfter, validBefore, nonce, signature],
		}),
	};
}

/** `openWithPermit2`: anyone sends it, the payer's Permit2 signature moves the money (`channelPermitDigest`). */
export function openWithPermit2Call(
	escrow: Address,
	channel: Readonly<{ payee: Address; token: Address; salt: Hex; authorizedSigner: Address }>,
	deposit: SignedDeposit,
): Call {
	const { payee, token, salt, authorizedSigner } = channel;
	const { from, amount, nonce, deadline, signature } = deposit;
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "openWithPermit2",
			args: [payee, token, amount, salt, authorizedSigner, from, nonce, deadline, signature],
		}),
	};
}

/** `topUp` by the payer itself; needs an allowance of `additionalDeposit` for the escrow. */
export function topUpCall(escrow: Address, channelId: Hex, additionalDeposit: bigint): Call {
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "topUp",
			args: [channelId, additionalDeposit],
		}),
	};
}

/** `topUpWithAuthorization`: anyone sends it, the payer's ERC-3009 signature moves the money. */
export function topUpWithAuthorizationCall(
	escrow: Address,
	channelId: Hex,
	topUpSalt: Hex,
	authorization: SignedAuthorization,
): Call {
	const { from, value, validAfter, validBefore, nonce, signature } = authorization;
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "topUpWithAuthorization",
			args: [channelId, value, from, topUpSalt, validAfter, validBefore, nonce, signature],
		}),
	};
}

/** `topUpWithPermit2`: anyone sends it, the payer's Permit2 signature moves the money (`channelPermitDigest`). */
export function topUpWithPermit2Call(escrow: Address, channelId: Hex, deposit: SignedDeposit): Call {
	const { from, amount, nonce, deadline, signature } = deposit;
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "topUpWithPermit2",
			args: [channelId, amount, from, nonce, deadline, signature],
		}),
	};
}

/** `requestClose` by the payer: the grace period begins. */
export function requestCloseCall(escrow: Address, channelId: Hex): Call {
	return {
		to: escrow,
		data: encodeFunctionData({ abi: paymentChannelEscrowAbi, functionName: "requestClose", args: [channelId] }),
	};
}

/** `withdraw` by the payer after the grace period: what is not settled goes back. */
export function withdrawCall(escrow: Address, channelId: Hex): Call {
	return {
		to: escrow,
		data: encodeFunctionData({ abi: paymentChannelEscrowAbi, functionName: "withdraw", args: [channelId] }),
	};
}

/** ERC-20 `approve`. */
export function approveCall(token: Address, spender: Address, value: bigint): Call {
	return { to: token, data: encodeFunctionData({ abi: erc3009Abi, functionName: "approve", args: [spender, value] }) };
}

/** ERC-20 `transfer`: what a client sends itself for a charge of type `transaction` or `hash`. */
export function transferCall(token: Address, to: Address, value: bigint): Call {
	return { to: token, data: encodeFunctionData({ abi: erc3009Abi, functionName: "transfer", args: [to, value] }) };
}

/**
 * A charge through Permit2, to be sent by the `spender` that the permit names: with one transfer
 * `permitWitnessTransferFrom`, with several its batch form, which executes all of them or none. The charge draft calls
 * that one `permitBatchWitnessTransferFrom`; in Permit2 both have one name.
 *
 * Permit2 skips a transfer of 0 in a batch.
 *
 * @param owner Whose tokens move, and whose signature it is.
 * @param transferDetails As many as `permit.permitted`, in its order.
 * @param form What was signed: see {@link PaymentWitnessForm}.
 * @throws {RangeError} when there is nothing to transfer, or another number of transfers than of permitted entries.
 * @example
 * const call = permitTransferCall(permit2, payer, permit, [{ to: recipient, requestedAmount: 100n }], "draft", signature);
 */
export function permitTransferCall(
	permit2: Address,
	owner: Address,
	permit: PaymentPermit,
	transferDetails: readonly TransferDetails[],
	form: PaymentWitnessForm,
	signature: Hex,
): Call {
	const { permitted, nonce, deadline } = permit;
	const [onlyPermitted] = permitted;
	const [onlyDetails] = transferDetails;
	if (onlyPermitted === undefined || onlyDetails === undefined || permitted.length !== transferDetails.length) {
		throw new RangeError(`${transferDetails.length} transfers for ${permitted.length} permitted entries`);
	}
	const witness = [paymentWitnessHash(permit.witness, form), paymentWitnessTypeString(form)] as const;
	const data =
		permitted.length === 1
			? encodeFunctionData({
					abi: permit2Abi,
					functionName: "permitWitnessTransferFrom",
					args: [{ permitted: onlyPermitted, nonce, deadline }, onlyDetails, owner, ...witness, signature],
				})
			: encodeFunctionData({
					abi: permit2Abi,
					functionName: "permitWitnessTransferFrom",
					args: [{ permitted, nonce, deadline }, transferDetails, owner, ...witness, signature],
				});
	return { to: permit2, data };
}

/**
 * ERC-3009 `receiveWithAuthorization` with its signature as bytes, as the escrow calls it for a deposit: only `to` can, so the
 * payer can find out by it, and nobody else can use it, whether a token would take what it signed.
 */
export function receiveWithAuthorizationCall(token: Address, authorization: SignedAuthorization): Call {
	const { from, to, value, validAfter, validBefore, nonce, signature } = authorization;
	return {
		to: token,
		data: encodeFunctionData({
			abi: erc3009Abi,
			functionName: "receiveWithAuthorization",
			args: [from, to, value, validAfter, validBefore, nonce, signature],
		}),
	};
}

const ZERO_WORD: Hex = `0x${"0".repeat(64)}`;

/**
 * Which of its overloads is meant, and its selector: found once. Found anew for each charge they take 37 of 45 microseconds, a
 * sixth of all that is done with a charge before its transaction.
 */
const TRANSFER_WITH_AUTHORIZATION = prepareEncodeFunctionData({
	abi: erc3009Abi,
	functionName: "transferWithAuthorization",
	args: [zeroAddress, zeroAddress, 0n, 0n, 0n, ZERO_WORD, 27, ZERO_WORD, ZERO_WORD],
});

/** ERC-3009 `transferWithAuthorization` with its signature as (v, r, s), the form every ERC-3009 token has. */
export function transferWithAuthorizationCall(token: Address, authorization: SignedAuthorization): Call {
	const { from, to, value, validAfter, validBefore, nonce, signature } = authorization;
	const r: Hex = `0x${signature.slice(2, 66)}`;
	const s: Hex = `0x${signature.slice(66, 130)}`;
	const v = Number.parseInt(signature.slice(130, 132), 16);
	return {
		to: token,
		data: encodeFunctionData({
			...TRANSFER_WITH_AUTHORIZATION,
			args: [from, to, value, validAfter, validBefore, nonce, v, r, s],
		}),
	};
}
