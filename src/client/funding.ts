import type { Address } from "viem";
import { approveCall, openCall } from "../escrow/calls.ts";
import { TransactionNotSentError, TransactionRevertedError } from "../escrow/sender.ts";
import { type Challenge, encodeSessionPayload, type SessionRequest } from "../protocol/index.ts";
import { CANONICAL_PERMIT2, type ChannelParameters, openAuthorizationNonce } from "../voucher/index.ts";
import { type AbilityParts, canAuthorize, canPermit, canSend, firstProducible } from "./ability.ts";
import { sendsItself } from "./account.ts";
import type { PayerChannel } from "./channel.ts";
import type { Gate } from "./gate.ts";
import { randomPermitNonce } from "./pending.ts";
import { AUTHORIZATION_SECONDS } from "./sign.ts";

/** How much later than it should a deposit's authorization may still be mined: clocks and nodes differ. */
export const FUNDING_MARGIN_MS = 60_000;

/** How a channel gets money, named as the credential that says so. */
export type FundingType = "authorization" | "permit2" | "hash";

/** How, and with which Permit2; whether that has to be approved first. */
export type Funding = Readonly<{ type: FundingType; permit2: Address; needsApproval: boolean }>;

export type FundingParts = AbilityParts &
	Readonly<{
		/** What every signature has to pass. */
		gate: Gate;
		now: () => number;
	}>;

/**
 * How this payer can put `amount` into a channel under these terms (draft-evm-session-00, Fee Payment). No
 * `credentialTypes` means `hash` alone.
 *
 * @throws PolicyRefusedError (`credential`) when it can't
 */
export async function chooseFunding(parts: AbilityParts, terms: SessionRequest, amount: bigint): Promise<Funding> {
	const { currency: token, methodDetails } = terms;
	const { chainId, escrowContract: escrow, credentialTypes = ["hash"] } = methodDetails;
	const permit2 = methodDetails.permit2Contract ?? CANONICAL_PERMIT2;
	const found = await firstProducible<FundingType>(credentialTypes, parts.credentialTypes, (type) => {
		if (type === "authorization") return canAuthorize(parts, { chainId, token });
		if (type === "permit2") return canPermit(parts, { chainId, token, permit2, amount, escrow });
		return canSend(parts, chainId);
	});
	return { ...found, permit2 };
}

/**
 * `action="open"`: funds the channel, or lets the server do it, and makes the first voucher. One channel can be opened
 * once, so it may be done again, and otherwise, while its outcome is not known.
 */
export async function openCredential(
	parts: FundingParts,
	challenge: Challenge,
	channel: PayerChannel,
	terms: SessionRequest,
	cumulativeAmount: bigint,
): Promise<string> {
	const { signer, gate, now } = parts;
	const { channelId, deposit } = channel;
	const { salt, ...parameters } = channel.parameters;
	if (salt === undefined) throw new Error(`channel ${channelId} was opened by somebody else`);
	const { payee, token, authorizedSigner, escrow, chainId } = parameters;
	const open = { action: "open", channelId, cumulativeAmount, authorizedSigner, salt } as const;
	const funding = (await isFunded(parts, channel)) ? undefined : await chooseFunding(parts, terms, deposit);
	// What it is opened with, and its first voucher, are on disk before anything is signed for it.
	await gate.voucher(channel, cumulativeAmount);
	if (funding === undefined || funding.type === "hash") {
		if (funding !== undefined) await fund(parts, { ...channel.parameters, salt }, channel);
		if (channel.funding === undefined) throw new Error(`channel ${channelId} was not funded`);
		const signature = await signer.voucher(channel, cumulativeAmount);
		const payload = encodeSessionPayload({ ...open, type: "hash", hash: channel.funding.hash, signature });
		return signer.credential(challenge, payload, chainId);
	}
	const until = now() + AUTHORIZATION_SECONDS * 1_000 + FUNDING_MARGIN_MS;
	if (funding.needsApproval) await approve(parts, chainId, token, funding.permit2, deposit);
	channel.fundableUntil = Math.max(channel.fundableUntil, until);
	channel.permitNonce ??= funding.type === "permit2" ? randomPermitNonce() : undefined;
	await gate.deposit(channel);
	if (funding.type === "authorization") {
		const nonce = openAuthorizationNonce({ from: signer.payer, payee, token, salt, authorizedSigner });
		const transfer = { to: escrow, value: deposit, nonce };
		const { signature, ...authorization } = await signer.authorize("receive", challenge, { chainId, token }, transfer);
		const voucherSignature = await signer.voucher(channel, cumulativeAmount);
		const type = "authorization";
		const payload = encodeSessionPayload({ ...open, type, authorization, signature, voucherSignature });
		return signer.credential(challenge, payload, chainId);
	}
	const nonce = channel.permitNonce ?? randomPermitNonce();
	const witness = { payee, salt, authorizedSigner };
	const { permit, signature } = await signer.permitChannel(
		challenge,
		{ chainId, permit2: funding.permit2 },
		{
			permitted: { token, amount: deposit },
			spender: escrow,
			nonce,
			witness,
		},
	);
	const voucherSignature = await signer.voucher(channel, cumulativeAmount);
	const authorization = { ...permit, witness };
	const payload = encodeSessionPayload({ ...open, type: "permit2", authorization, signature, voucherSignature });
	return signer.credential(challenge, payload, chainId);
}

/**
 * Whether the payer's own `open` of before is mined; one on its way is waited for, and one that has failed for good is
 * forgotten.
 */
async function isFunded({ nodes }: FundingParts, channel: PayerChannel): Promise<boolean> {
	if (channel.funding === undefined) return false;
	const wallet = await nodes.wallet(channel.parameters.chainId);
	const state = await wallet.stateOf(channel.funding);
	if (state === "open") await wallet.mined(channel.funding.hash);
	if (state === "open" || state === "mined") return true;
	channel.funding = undefined;
	return false;
}

/** The payer's own `open`. What may be on its way is remembered; what is known to have failed can be tried again. */
async function fund(
	{ signer, nodes, gate }: FundingParts,
	parameters: ChannelParameters,
	channel: PayerChannel,
): Promise<void> {
	const { escrow, token, chainId } = parameters;
	const { deposit } = channel;
	const wallet = await nodes.wallet(chainId);
	const { fundableUntil } = channel;
	// A transaction can be mined at any time after.
	channel.fundableUntil = Number.POSITIVE_INFINITY;
	let isSent = true;
	// Its hash is known too late to be on disk first. The channel is: after a crash the escrow is asked whether it is there.
	const isToldLate = sendsItself(signer.paying.account);
	if (isToldLate) await gate.deposit(channel);
	try {
		const calls = [approveCall(token, escrow, deposit), openCall(escrow, { ...parameters, deposit })];
		await wallet.send(calls, "open", async (sent) => {
			channel.funding = sent;
			isSent = isToldLate;
			await gate.deposit(channel);
			isSent = true;
		});
	} catch (error) {
		if (!isSent || error instanceof TransactionRevertedError || error instanceof TransactionNotSentError) {
			channel.funding = undefined;
			channel.fundableUntil = fundableUntil;
		}
		throw error;
	}
}

/** Lets Permit2 move exactly this much. */
export async function approve(
	{ nodes }: AbilityParts,
	chainId: number,
	token: Address,
	permit2: Address,
	amount: bigint,
): Promise<void> {
	const wallet = await nodes.wallet(chainId);
	await wallet.send([approveCall(token, permit2, amount)], "approve");
}
