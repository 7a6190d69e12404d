import { InvalidPayloadError, parseChargePayload, problem } from "../../protocol/index.ts";
import { type Admission, type PaidRequest, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import type { ScreenedCharge } from "../evm/method.ts";
import { idempotencyScope } from "../idempotency.ts";
import { challengeKey } from "../proofs.ts";
import { authorizationMeans } from "./authorization.ts";
import { claim, look } from "./deliver.ts";
import { hashMeans } from "./hash.ts";
import { failed, type Verified } from "./means.ts";
import type { ChargeOrder } from "./order.ts";
import { pay } from "./pay.ts";
import { permit2Means } from "./permit2.ts";
import { transactionMeans } from "./transaction.ts";

/**
 * Answers a charge credential of any type (draft-evm-charge-00, Verification Procedure and Replay Protection). The
 * challenge is consumed by the first payer that pays it. The money moves first; then the request is delivered once, to
 * whoever shows the same credential.
 */
export async function admitCharge(
	context: EngineContext,
	request: PaidRequest,
	screened: ScreenedCharge,
): Promise<Admission> {
	if (request.method === "HEAD") return refused(failed("A charge pays for an answer with a body; send GET.").problem);
	const means = await verify(context, screened);
	if ("problem" in means) return refused(means.problem);
	const { amount, externalId } = screened.request;
	const { challenge } = screened.credential;
	// The price belongs to what a key stands for: what was paid for one thing does not fetch a dearer one.
	const scope = idempotencyScope({ ...request, bodyDigest: `${request.bodyDigest} ${amount}` }, means.keyOwner);
	const own: ChargeOrder = {
		request,
		challenge,
		expired: screened.expired,
		amount,
		externalId,
		means,
		scope,
		paidBy: challengeKey(challenge),
	};
	const order = { ...own, paidBy: await payingProof(context, own) };

	const before = await look(context, order);
	if (before !== undefined) return before;
	const unpaid = await pay(context, order);
	if (unpaid !== undefined) return unpaid;
	return claim(context, order);
}

/** The credential against its challenge: nothing is sent, nothing is stored. */
async function verify(context: EngineContext, screened: ScreenedCharge): Promise<Verified> {
	const { credential, request, offer } = screened;
	let payload: ReturnType<typeof parseChargePayload>;
	try {
		payload = parseChargePayload(credential.payload);
	} catch (error) {
		if (error instanceof InvalidPayloadError) return { problem: problem("malformed-credential", error.message) };
		throw error;
	}
	const { type } = payload;
	if (request.methodDetails.splits !== undefined && type !== "permit2")
		return failed('A charge with splits is paid by a credential of type "permit2" only.', { type });
	// Without a list these two are taken (draft-evm-charge-00, Credential Type Negotiation).
	const listed = request.methodDetails.credentialTypes ?? ["transaction", "hash"];
	if (!listed.includes(type) || !offer.credentialTypes.includes(type))
		return failed(`This resource takes no credentials of type "${type}".`, { credentialTypes: offer.credentialTypes });
	switch (payload.type) {
		case "authorization":
			return authorizationMeans(context, screened, payload);
		case "permit2":
			return permit2Means(context, screened, payload);
		case "transaction":
			return transactionMeans(context, screened, payload);
		case "hash":
			return hashMeans(context, screened, payload);
	}
}

async function payingProof({ store }: EngineContext, { scope, paidBy }: ChargeOrder): Promise<string> {
	if (scope === undefined) return paidBy;
	const { value } = await store.transact({ idempotency: scope.key }, ({ idempotency }) => ({ value: idempotency }));
	if (value?.state !== "running" || value.paidBy === undefined || value.fingerprint !== scope.fingerprint)
		return paidBy;
	return value.paidBy;
}
