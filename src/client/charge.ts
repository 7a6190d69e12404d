import { transferCall } from "../escrow/calls.ts";
import { type Challenge, type ChargeRequest, encodeChargePayload } from "../protocol/index.ts";
import { CANONICAL_PERMIT2, chargeNonce } from "../voucher/index.ts";
import { type AbilityParts, canAuthorize, canPermit, canSend, firstProducible } from "./ability.ts";
import { askedFor } from "./asking.ts";
import type { Offered } from "./channel.ts";
import { approve } from "./funding.ts";
import type { Payments } from "./keptPayments.ts";
import type { Outgoing } from "./outgoing.ts";
import type { Outcome, Parts } from "./parts.ts";
import { UnusableSignatureError } from "./payerSignature.ts";
import { payOnce } from "./payments.ts";
import { randomPermitNonce } from "./pending.ts";
import { PolicyRefusedError } from "./policy.ts";
import { noteChargeReceipt } from "./receipts.ts";

/** What paying by charge works with. */
export type ChargeParts = Parts & Readonly<{ payments: Payments }>;

type ChargeType = NonNullable<ChargeRequest["methodDetails"]["credentialTypes"]>[number];

/**
 * How this payer pays a charge: the first type of the server's list that it can produce, unless it prefers otherwise. No
 * `credentialTypes` means `transaction`, then `hash`; splits only go by Permit2 (draft-evm-charge-00, Credential Type
 * Negotiation, Payment Splits).
 *
 * @throws PolicyRefusedError (`credential`) when it can't
 */
export async function chooseCharge(
	parts: AbilityParts,
	{ amount, currency: token, methodDetails }: ChargeRequest,
): Promise<Readonly<{ type: ChargeType; needsApproval: boolean }>> {
	const { chainId, credentialTypes = ["transaction", "hash"], splits, permit2Address } = methodDetails;
	const offered = splits === undefined ? credentialTypes : credentialTypes.filter((type) => type === "permit2");
	if (offered.length === 0)
		throw new PolicyRefusedError("credential", "splits are paid by Permit2, which is not taken");
	return firstProducible<ChargeType>(offered, parts.credentialTypes, (type) => {
		if (type === "authorization") return canAuthorize(parts, { chainId, token });
		if (type === "permit2")
			return canPermit(parts, { chainId, token, permit2: permit2Address ?? CANONICAL_PERMIT2, amount });
		return canSend(parts, chainId, type === "transaction" ? "others" : "payer");
	});
}

/** Pays one request by a charge. The policy has allowed the terms before. */
export async function payCharge(
	parts: ChargeParts,
	request: Outgoing,
	offer: Offered<ChargeRequest>,
): Promise<Outcome> {
	await parts.gate.approve(request, { ...askedFor(offer), kind: "charge", amount: offer.request.amount });
	const outcome = await payByAny(parts, request, offer);
	noteChargeReceipt(parts.keeper, offer, request, outcome.response);
	return outcome;
}

/** A payer with code may find out that what it signs is not taken, before that leaves: then it pays in another way. */
async function payByAny(parts: ChargeParts, request: Outgoing, offer: Offered<ChargeRequest>): Promise<Outcome> {
	for (;;) {
		try {
			return await payChosen(parts, request, offer);
		} catch (error) {
			if (!(error instanceof UnusableSignatureError)) throw error;
		}
	}
}

async function payChosen(parts: ChargeParts, request: Outgoing, offer: Offered<ChargeRequest>): Promise<Outcome> {
	const { challenge, request: terms } = offer;
	const { type, needsApproval } = await chooseCharge(parts, terms);
	switch (type) {
		case "authorization":
			await parts.gate.charge(request.host, terms);
			return { response: await parts.send(request, await byAuthorization(parts, challenge, terms)), again: false };
		case "permit2":
			await parts.gate.charge(request.host, terms);
			return {
				response: await parts.send(request, await byPermit2(parts, challenge, terms, needsApproval)),
				again: false,
			};
		default: {
			const { currency, recipient, amount, methodDetails } = terms;
			const call = { ...transferCall(currency, recipient, amount), to: currency };
			const wallet = await parts.nodes.wallet(methodDetails.chainId);
			return payOnce(parts, wallet, request, offer, type, call);
		}
	}
}

/** An ERC-3009 transfer whose nonce is the challenge (draft-evm-charge-00, Authorization Payload). */
async function byAuthorization({ signer }: Parts, challenge: Challenge, terms: ChargeRequest): Promise<string> {
	const { currency: token, recipient: to, amount: value, methodDetails } = terms;
	const { chainId } = methodDetails;
	const nonce = chargeNonce(challenge.id, challenge.realm);
	const authorization = await signer.authorize("transfer", challenge, { chainId, token }, { to, value, nonce });
	return signer.credential(challenge, encodeChargePayload({ type: "authorization", ...authorization }), chainId);
}

/** One transfer to the recipient and one for each split, in their order, in one signature (draft-evm-charge-00, Permit2 Payload). */
async function byPermit2(
	parts: Parts,
	challenge: Challenge,
	terms: ChargeRequest,
	needsApproval: boolean,
): Promise<string> {
	const { signer } = parts;
	const { currency: token, recipient, amount, externalId = "", methodDetails } = terms;
	const { chainId, splits = [], permit2Address: permit2 = CANONICAL_PERMIT2 } = methodDetails;
	if (needsApproval) await approve(parts, chainId, token, permit2, amount);
	const rest = splits.reduce((left, split) => left - split.amount, amount);
	const transfers = [{ recipient, amount: rest }, ...splits];
	const permitted = transfers.map((transfer) => ({ token, amount: transfer.amount }));
	const transferDetails = transfers.map((transfer) => ({ to: transfer.recipient, requestedAmount: transfer.amount }));
	const witness = { challengeHash: chargeNonce(challenge.id, challenge.realm), externalId };
	const nonce = randomPermitNonce();
	// The draft names no spender: of the accounts that might submit it, the recipient's is the one the challenge names.
	const permit = { permitted, spender: recipient, nonce, witness };
	const { deadline, signature } = await signer.permitPayment(challenge, { chainId, permit2 }, permit);
	const payload = encodeChargePayload({
		type: "permit2",
		permit: { permitted, nonce, deadline },
		transferDetails,
		witness,
		signature,
	});
	return signer.credential(challenge, payload, chainId);
}
