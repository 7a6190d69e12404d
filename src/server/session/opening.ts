import type { Address, Hex } from "viem";
import type { TransactionPurpose } from "../../escrow/outbox.ts";
import { type Problem, problem } from "../../protocol/index.ts";
import { computeChannelId, voucherSigner } from "../../voucher/index.ts";
import type { ChannelIdentity } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { Terms } from "../evm/terms.ts";
import type { VerifiedVoucher } from "../ledger.ts";
import { expiryOf, issuedAt } from "../proofs.ts";
import type { SessionOrder } from "./order.ts";
import { signatureProblem, type VoucherClaim } from "./signed.ts";

/** A channel that is about to open: who, with which first voucher, under which challenge. */
export type Opening = Readonly<{
	identity: ChannelIdentity;
	salt: Hex;
	voucher: VerifiedVoucher;
	/** Unix milliseconds until which the challenge's use is remembered. */
	challengeExpiresAt: number;
	/** Unix milliseconds. A channel that is older was not opened for it (D10). */
	challengeIssuedAt: number;
	/** The least the deposit must be, in base units. */
	minimum: bigint;
	/** What this request costs; 0 when it is about the channel alone. Base units. */
	price: bigint;
	/** Names the signed deposit that pays for it; absent where the payer sent it himself. */
	depositKey?: string;
}>;

/** What a credential says it opens. */
export type OpeningClaim = VoucherClaim & Readonly<{ payer: Address; salt: Hex; authorizedSigner: Address }>;

/** What a credential says it opens, its channel id recomputed and its voucher verified; or what is wrong with it (D5). */
export async function describeOpening(
	{ terms, limits, signatures, voucherDomain, now }: EngineContext,
	{ screened, offer, request }: SessionOrder,
	claim: OpeningClaim,
): Promise<Opening | Readonly<{ problem: Problem }>> {
	const { challenge } = screened.credential;
	const { channelId, cumulativeAmount, signature, payer, salt, authorizedSigner } = claim;
	const { chainId, escrow, currency: token, recipient: payee } = terms;
	const identity: ChannelIdentity = { channelId, chainId, escrow, payer, payee, token, authorizedSigner };
	if (computeChannelId({ payer, payee, token, salt, authorizedSigner, escrow, chainId }) !== channelId) {
		const detail = "channelId does not follow from payer, payee, token, salt, signer, escrow and chain.";
		return { problem: problem("bad-request", detail, { channelId }) };
	}
	const signer = voucherSigner(identity);
	const { verdict } = await signatures.verifyVoucher(voucherDomain, signer, { channelId, cumulativeAmount }, signature);
	const invalid = signatureProblem(verdict, channelId);
	if (invalid !== undefined) return { problem: invalid };
	return {
		identity,
		salt,
		voucher: { cumulativeAmount, signature, challengeId: challenge.id, byContract: signatures.isContract(signer) },
		challengeExpiresAt: expiryOf(challenge),
		challengeIssuedAt: issuedAt(challenge, limits, now()),
		minimum: offer.amount,
		price: request.method === "HEAD" ? 0n : offer.amount,
	};
}

/** All that `credit` needs after a restart, as strings. */
export function openingPurpose(
	{ identity, salt, voucher, challengeExpiresAt, minimum, depositKey }: Opening,
	{ currency, escrow }: Pick<Terms, "currency" | "escrow">,
): TransactionPurpose {
	const { channelId, payer, authorizedSigner } = identity;
	return {
		kind: "open",
		currency,
		escrow,
		channelId,
		payer,
		authorizedSigner,
		salt,
		cumulativeAmount: String(voucher.cumulativeAmount),
		voucherSignature: voucher.signature,
		challengeId: voucher.challengeId,
		challengeExpiresAt: String(challengeExpiresAt),
		minimum: String(minimum),
		...(depositKey !== undefined && { depositKey }),
		...(voucher.byContract && { byContract: "true" }),
	};
}

export function openingFromPurpose({ terms }: Pick<EngineContext, "terms">, purpose: TransactionPurpose): Opening {
	const field = (name: string): string => {
		const value = purpose[name];
		if (value === undefined) throw new Error(`the outbox entry of an open lacks ${name}`);
		return value;
	};
	const { chainId, escrow, recipient: payee, currency: token } = terms;
	const { depositKey, byContract } = purpose;
	return {
		identity: {
			channelId: field("channelId") as Hex,
			chainId,
			escrow,
			payer: field("payer") as Address,
			payee,
			token,
			authorizedSigner: field("authorizedSigner") as Address,
		},
		salt: field("salt") as Hex,
		voucher: {
			cumulativeAmount: BigInt(field("cumulativeAmount")),
			signature: field("voucherSignature") as Hex,
			challengeId: field("challengeId"),
			byContract: byContract === "true",
		},
		challengeExpiresAt: Number(field("challengeExpiresAt")),
		// The transaction is ours, so the channel is new.
		challengeIssuedAt: 0,
		minimum: BigInt(field("minimum")),
		price: 0n,
		...(depositKey !== undefined && { depositKey }),
	};
}
