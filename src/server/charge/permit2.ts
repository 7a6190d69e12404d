import type { Address, Hex } from "viem";
import { permitTransferCall } from "../../escrow/calls.ts";
import { isPermit2NonceUsed, readAllowance, readBalance } from "../../escrow/reads.ts";
import type { ChargePermit2Payload, Problem } from "../../protocol/index.ts";
import {
	chargeNonce,
	PAYMENT_WITNESS_FORMS,
	type PaymentPermit,
	type PaymentWitnessForm,
	type Permit2Domain,
	paymentPermitDigest,
} from "../../voucher/index.ts";
import type { EngineContext } from "../context.ts";
import type { ScreenedCharge } from "../evm/method.ts";
import { permitKey } from "../proofs.ts";
import { sourceOn } from "../source.ts";
import { failed, type Transfer, transfersOf, type Verified } from "./means.ts";

/**
 * `type="permit2"`: a Permit2 signature over all transfers of the charge, which we execute in one transaction
 * (draft-evm-charge-00, Permit2 Verification). The account that sends transactions is the permit's spender.
 */
export async function permit2Means(
	context: EngineContext,
	screened: ScreenedCharge,
	payload: ChargePermit2Payload,
): Promise<Verified> {
	const { terms, sender, permit2Domain, limits, now } = context;
	if (permit2Domain === undefined) return failed("There is no Permit2 on this chain.");
	const { request, credential } = screened;
	const payer = sourceOn(terms.chainId, credential.source);
	// The payload names no payer: without one there is nobody whose signature it could be.
	if (payer === undefined) return failed(`type "permit2" needs a source did:pkh:eip155:${terms.chainId}:<payer>.`);
	const transfers = transfersOf(request);
	const wrong = permitProblem(screened, payload, transfers);
	if (wrong !== undefined) return { problem: wrong };

	const { permitted, nonce, deadline } = payload.permit;
	const permit: PaymentPermit = { permitted, spender: sender, nonce, deadline, witness: payload.witness };
	const form = await formOf(context, permit2Domain, payer, permit, payload.signature);
	if (form === undefined)
		return failed("The permit's signature is not the source's over these transfers.", { spender: sender });
	const { permit2 } = permit2Domain;
	return {
		type: "permit2",
		payer,
		keyOwner: payer,
		token: permitKey(terms.chainId, permit2, payer, nonce),
		transfers,
		late() {
			const least = BigInt(Math.floor(now() / 1_000) + limits.authorizationMarginSeconds);
			if (deadline > least) return undefined;
			return failed("permit.deadline has passed, or is about to.", { deadline }).problem;
		},
		foresee: () => fundsProblem(context, permit2, { owner: payer, nonce, amount: request.amount }),
		movement: {
			kind: "call",
			call: permitTransferCall(permit2, payer, permit, payload.transferDetails, form, payload.signature),
		},
	};
}

/** Permit2 Verification 3 and 4, and whether the nonce is free: said in words that the payer can act on. */
async function fundsProblem(
	{ client, terms: { currency } }: EngineContext,
	permit2: Address,
	{ owner, nonce, amount }: Readonly<{ owner: Address; nonce: bigint; amount: bigint }>,
): Promise<Problem | undefined> {
	const [balance, allowance, isUsed] = await Promise.all([
		readBalance(client, currency, owner),
		readAllowance(client, currency, owner, permit2),
		isPermit2NonceUsed(client, permit2, owner, nonce),
	]);
	if (isUsed) return failed("permit.nonce was used; sign with another one.", { nonce }).problem;
	if (balance < amount) return failed("The payer has less of the token than the amount.", { amount, balance }).problem;
	if (allowance >= amount) return undefined;
	return failed("The payer has not approved Permit2 for the amount.", { amount, allowance, permit2 }).problem;
}

/** What the permit says against what the challenge asks for: Permit2 Verification 5 to 10. */
function permitProblem(
	{ credential, request }: ScreenedCharge,
	{ permit, transferDetails, witness }: ChargePermit2Payload,
	transfers: readonly Transfer[],
): Problem | undefined {
	const { challenge } = credential;
	if (witness.challengeHash !== chargeNonce(challenge.id, challenge.realm))
		return failed("witness.challengeHash is not the challenge's hash.").problem;
	if (witness.externalId !== (request.externalId ?? ""))
		return failed("witness.externalId is not the challenge's externalId.").problem;
	if (transferDetails.length !== transfers.length) {
		const [given, expected] = [transferDetails.length, transfers.length];
		return failed("transferDetails must be the recipient's and one for each split.", { given, expected }).problem;
	}
	for (const [at, expected] of transfers.entries()) {
		const permitted = permit.permitted[at];
		const details = transferDetails[at];
		if (permitted?.token !== request.currency)
			return failed(`permit.permitted[${at}].token is not the currency.`, { token: permitted?.token }).problem;
		if (details?.to !== expected.to)
			return failed(`transferDetails[${at}].to is not who gets this part.`, { to: details?.to, expected: expected.to })
				.problem;
		const { requestedAmount } = details;
		if (requestedAmount !== expected.value) {
			const values = { requestedAmount, expected: expected.value };
			return failed(`transferDetails[${at}].requestedAmount is not what this part comes to.`, values).problem;
		}
		// The most that may be moved, as the draft says; Permit2 enforces it, and we move what was asked for.
		if (permitted.amount < requestedAmount) {
			const values = { amount: permitted.amount, requestedAmount };
			return failed(`permit.permitted[${at}].amount is less than what is requested.`, values).problem;
		}
	}
	return undefined;
}

/** Which spelling of the witness the payer has signed, if any: see `PaymentWitnessForm`. */
async function formOf(
	{ signatures }: EngineContext,
	domain: Permit2Domain,
	payer: Address,
	permit: PaymentPermit,
	signature: Hex,
): Promise<PaymentWitnessForm | undefined> {
	const digests = PAYMENT_WITNESS_FORMS.map((form) => paymentPermitDigest(domain, permit, form));
	const at = await signatures.findSigned(payer, digests, signature);
	return at === undefined ? undefined : PAYMENT_WITNESS_FORMS[at];
}
