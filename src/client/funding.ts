import type { Address } from "viem";
import { approveCall } from "../escrow/calls.ts";
import { type Challenge, encodeSessionPayload, type SessionRequest } from "../protocol/index.ts";
import { CANONICAL_PERMIT2, openAuthorizationNonce } from "../voucher/index.ts";
import { type AbilityParts, canAuthorize, canPermit, canSend, firstProducible } from "./ability.ts";
import type { PayerChannel } from "./channel.ts";
import type { Gate } from "./gate.ts";
import { isFunded, openBySelf } from "./ownOpening.ts";
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
		if (funding !== undefined) await openBySelf(parts, { ...channel.parameters, salt }, channel);
		if (channel.funding === undefined) throw new Error(`channel ${channelId} was not funded`);
		const signature = await signer.voucher(channel, cumulativeAmount);
		const payload = encodeSessionPayload({ ...open, type: "hash", hash: channel.funding.hash, signature });
		return signer.credential(challenge, payload, chainId);
	}
	const until = now() + AUTHORIZATION_SECONDS * 1_000 + FUNDING_MARGIN_MS;
	if (funding.needsApproval) {
		// Not even an approval is sent where nothing may be paid in.
		await gate.deposit(channel);
		await approve(parts, chainId, token, funding.permit2, deposit);
	}
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
