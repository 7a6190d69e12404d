import { transferWithAuthorizationCall } from "../../escrow/calls.ts";
import { readBalance } from "../../escrow/reads.ts";
import type { ChargeAuthorizationPayload } from "../../protocol/index.ts";
import { authorizationDigest, chargeNonce } from "../../voucher/index.ts";
import type { EngineContext } from "../context.ts";
import type { ScreenedCharge } from "../evm/method.ts";
import { isValidNow } from "../validity.ts";
import { failed, transfersOf, type Verified } from "./means.ts";

/**
 * `type="authorization"`: an ERC-3009 signature that we execute (draft-evm-charge-00, Authorization Verification). Its nonce
 * is the challenge's hash, so payer and challenge are the replay token, which the token contract takes once, too.
 */
export async function authorizationMeans(
	context: EngineContext,
	{ credential, request }: ScreenedCharge,
	payload: ChargeAuthorizationPayload,
): Promise<Verified> {
	const { terms, client, signatures, tokenDomain } = context;
	if (tokenDomain === undefined) return failed("The token does not implement EIP-3009.");
	const { from, to, value, validAfter, validBefore, nonce, signature } = payload;
	const { keccak256 } = signatures;
	if (to !== request.recipient) return failed("authorization.to is not the recipient.", { to });
	if (value !== request.amount)
		return failed("authorization.value is not the amount.", { value, amount: request.amount });
	if (nonce !== chargeNonce(credential.challenge.id, credential.challenge.realm, keccak256))
		return failed("authorization.nonce is not the challenge's hash.", { nonce });
	const authorization = { from, to, value, validAfter, validBefore, nonce };
	const digest = authorizationDigest("transfer", tokenDomain, authorization, keccak256);
	if ((await signatures.verifyDigest(from, digest, signature)) !== "valid")
		return failed("The authorization's signature is not the payer's.");
	return {
		type: "authorization",
		payer: from,
		keyOwner: from,
		transfers: transfersOf(request),
		nonce,
		late() {
			if (isValidNow(payload, context)) return undefined;
			const detail = "The authorization is not valid now, or not for long enough.";
			return failed(detail, { validAfter, validBefore }).problem;
		},
		async foresee() {
			const balance = await readBalance(client, terms.currency, from);
			if (balance >= value) return undefined;
			return failed("The payer has less of the token than the amount.", { amount: value, balance }).problem;
		},
		movement: { kind: "call", call: transferWithAuthorizationCall(terms.currency, payload) },
	};
}
