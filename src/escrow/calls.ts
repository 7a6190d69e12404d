import { type Address, encodeFunctionData, type Hex } from "viem";
import { erc3009Abi } from "./generated/erc3009.ts";
import { paymentChannelEscrowAbi } from "./generated/escrow.ts";

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

/** `close` by the payee: captures up to `cumulativeAmount`, refunds the rest. */
export function closeCall(escrow: Address, channelId: Hex, cumulativeAmount: bigint, signature: Hex): Call {
	return {
		to: escrow,
		data: encodeFunctionData({
			abi: paymentChannelEscrowAbi,
			functionName: "close",
			args: [channelId, cumulativeAmount, signature],
		}),
	};
}

/** ERC-20 `approve`. */
export function approveCall(token: Address, spender: Address, value: bigint): Call {
	return { to: token, data: encodeFunctionData({ abi: erc3009Abi, functionName: "approve", args: [spender, value] }) };
}

/** ERC-3009 `transferWithAuthorization` with its signature as (v, r, s), the form every ERC-3009 token has. */
export function transferWithAuthorizationCall(token: Address, authorization: SignedAuthorization): Call {
	const { from, to, value, validAfter, validBefore, nonce, signature } = authorization;
	const r: Hex = `0x${signature.slice(2, 66)}`;
	const s: Hex = `0x${signature.slice(66, 130)}`;
	const v = Number.parseInt(signature.slice(130, 132), 16);
	return {
		to: token,
		data: encodeFunctionData({
			abi: erc3009Abi,
			functionName: "transferWithAuthorization",
			args: [from, to, value, validAfter, validBefore, nonce, v, r, s],
		}),
	};
}
