import type { Hex } from "viem";
import { type Call, transferWithAuthorizationCall } from "../../escrow/calls.ts";
import { findAuthorizedTransfer } from "../../escrow/events.ts";
import type { OutboxEntry, TransactionPurpose } from "../../escrow/outbox.ts";
import { TransactionNotSentError, TransactionPendingError, TransactionRevertedError } from "../../escrow/sender.ts";
import {
	type Challenge,
	type ChargeAuthorizationPayload,
	type ChargeReceipt,
	formatTimestamp,
	InvalidPayloadError,
	type Problem,
	parseChargePayload,
	problem,
} from "../../protocol/index.ts";
import { authorizationDigest, chargeNonce } from "../../voucher/index.ts";
import { type Admission, type Admitted, type PaidRequest, type Refused, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import type { ScreenedCharge } from "../evm/method.ts";
import type { Terms } from "../evm/terms.ts";
import { earlierAnswer, type IdempotencyScope, idempotencyScope } from "../idempotency.ts";
import { challengeIdOf, challengeKey, expiryOf } from "../proofs.ts";
import type { IdempotencyRecord, ProofRecord, StoredResponse, Turn, TurnView } from "../store/store.ts";
import { isValidNow } from "../validity.ts";

const PENDING_RETRY_SECONDS = 5;

/** How long a used proof outlives the longest life of a challenge: clocks differ a little. */
const PROOF_MARGIN_MS = 60_000;

/**
 * Answers a charge credential of type `authorization` (draft-evm-charge-00, Authorization Verification and Replay
 * Protection). The challenge is the replay token: its hash is the authorization's nonce, and it is consumed by the first
 * payer that pays it. The money moves first; then the request is delivered once, to whoever shows the same credential.
 */
export async function admitCharge(
	context: EngineContext,
	request: PaidRequest,
	screened: ScreenedCharge,
): Promise<Admission> {
	const { challenge } = screened.credential;
	if (request.method === "HEAD") return refused(failed("A charge pays for an answer with a body; send GET.").problem);
	const checked = await verify(context, screened);
	if ("problem" in checked) return refused(checked.problem);
	const { payload } = checked;
	// The price belongs to what a key stands for: what was paid for one thing does not fetch a dearer one.
	const scope = idempotencyScope({ ...request, bodyDigest: `${request.bodyDigest} ${payload.value}` }, payload.from);
	const { externalId } = screened.request;
	const own: ChargeOrder = {
		challenge,
		expired: screened.expired,
		payload,
		scope,
		externalId,
		paidBy: challengeKey(challenge),
	};
	const order = { ...own, paidBy: await payingProof(context, own) };

	const before = await look(context, order);
	if (before !== undefined) return before;
	const unpaid = await pay(context, order);
	if (unpaid !== undefined) return unpaid;
	return claim(context, order);
}

type ChargeOrder = Readonly<{
	challenge: Challenge;
	expired: boolean;
	payload: ChargeAuthorizationPayload;
	scope: IdempotencyScope | undefined;
	externalId: string | undefined;
	/**
	 * Key of the proof that pays: this challenge's, or that of an earlier one whose money moves, or has moved, for the same
	 * `Idempotency-Key` (I6).
	 */
	paidBy: string;
}>;

async function payingProof({ store }: EngineContext, { scope, paidBy }: ChargeOrder): Promise<string> {
	if (scope === undefined) return paidBy;
	const { value } = await store.transact({ idempotency: scope.key }, ({ idempotency }) => ({ value: idempotency }));
	if (value?.state !== "running" || value.paidBy === undefined || value.fingerprint !== scope.fingerprint)
		return paidBy;
	return value.paidBy;
}

/** The credential's fields against the challenge, then its signature. No chain, no store. */
async function verify(
	{ terms, signatures, tokenDomain }: EngineContext,
	{ credential, request }: ScreenedCharge,
): Promise<Readonly<{ payload: ChargeAuthorizationPayload }> | Readonly<{ problem: Problem }>> {
	let payload: ReturnType<typeof parseChargePayload>;
	try {
		payload = parseChargePayload(credential.payload);
	} catch (error) {
		if (error instanceof InvalidPayloadError) return { problem: problem("malformed-credential", error.message) };
		throw error;
	}
	if (payload.type !== "authorization" || tokenDomain === undefined)
		return failed(`This server does not take credentials of type "${payload.type}".`);
	const { from, to, value, validAfter, validBefore, nonce, signature } = payload;
	if (to !== terms.recipient) return failed("authorization.to is not the recipient.", { to });
	if (value !== request.amount)
		return failed("authorization.value is not the amount.", { value, amount: request.amount });
	if (nonce.toLowerCase() !== chargeNonce(credential.challenge.id, credential.challenge.realm)) {
		return failed("The nonce is not the challenge's hash.");
	}
	const digest = authorizationDigest("transfer", tokenDomain, { from, to, value, validAfter, validBefore, nonce });
	if ((await signatures.verifyDigest(from, digest, signature)) !== "valid")
		return failed("The authorization's signature is not the payer's.");
	return { payload };
}

function failed(detail: string, extensions: Record<string, unknown> = {}) {
	return { problem: problem("verification-failed", detail, extensions) };
}

/** What is known of this credential already: an answer to give again, or a reason to refuse. `undefined`: go on. */
async function look(context: EngineContext, order: ChargeOrder): Promise<Admission | undefined> {
	const { value, durable } = await context.store.transact(keysOf(order), (view) => ({
		value: judge(context, order, view),
	}));
	await durable;
	return value;
}

function judge({ store }: EngineContext, order: ChargeOrder, view: TurnView): Exclude<Admission, Admitted> | undefined {
	const { scope, payload, paidBy } = order;
	const { idempotency } = view;
	const proof = view.proof(paidBy);
	if (proof !== undefined && proof.usedBy !== payload.from) return refused(usedProblem());
	// A request of this key that is not done is told by its proof: the money may move while nobody runs.
	const isDone = idempotency?.state === "done" || idempotency?.fingerprint !== scope?.fingerprint;
	const earlier = isDone ? earlierAnswer(idempotency, scope, store) : undefined;
	if (earlier !== undefined) return earlier;
	switch (proof?.state) {
		// Not paid yet, or not known to be: `pay` finds out.
		case undefined:
		case "held":
		case "paid":
			return undefined;
		case "serving":
			// Paid, and its request ended with the process that served it.
			if (store.isGone(proof.owner)) return undefined;
			return refused(idempotency === undefined ? usedProblem() : runningProblem(), 1);
		case "used":
			return refused(usedProblem());
	}
}

/** Moves the money, unless an earlier request has; resolves when that is on disk. */
async function pay(context: EngineContext, order: ChargeOrder): Promise<Admission | undefined> {
	const { terms, transactions } = context;
	const key = chargeKey(order.paidBy);
	try {
		const underWay = transactions.join(key);
		if (underWay !== undefined) {
			await underWay;
			return undefined;
		}
		const proof = await readProof(context, order.paidBy);
		if (proof?.state === "held") return await settleOrphan(context, order);
		if (proof !== undefined) return undefined;
		// The earlier payment for this key failed a moment ago: the retry will make its own.
		if (order.paidBy !== challengeKey(order.challenge)) return refused(runningProblem(), 1);
		const late = lateProblem(context, order);
		if (late !== undefined) return refused(late);
		const call: Call = transferWithAuthorizationCall(terms.currency, order.payload);
		const purpose = purposeOf(order, terms);
		await transactions.perform({
			...call,
			key: chargeKey(purpose.proof),
			purpose,
			record: (entry) => record(context, order, entry),
		});
		return undefined;
	} catch (error) {
		if (error instanceof ChallengeUsedError) return refused(usedProblem());
		if (error instanceof KeyInUseError) return refused(runningProblem(), 1);
		if (error instanceof TransactionRevertedError) {
			// Its conclusion may have found it paid all the same; see there.
			if ((await readProof(context, order.paidBy))?.state === "paid") return undefined;
			return refused(problem("verification-failed", "The token refused the transfer: nothing was charged."));
		}
		if (error instanceof TransactionPendingError || error instanceof TransactionNotSentError) {
			const detail = "The payment is not mined yet; send the same request again.";
			return refused(problem("service-unavailable", detail), PENDING_RETRY_SECONDS);
		}
		throw error;
	}
}

/**
 * Held, and no transaction under way: its record was lost. The chain says whether it paid; if not, the same authorization
 * may be tried again, since the token takes it once. An earlier one of the same key may still be mined: that is waited for.
 */
async function settleOrphan(context: EngineContext, order: ChargeOrder): Promise<Refused | undefined> {
	const { store, client, terms } = context;
	const { paidBy: key, payload, challenge } = order;
	const isOwn = key === challengeKey(challenge);
	const nonce = chargeNonce(challengeIdOf(key), terms.realm);
	const txHash = await findAuthorizedTransfer(client, terms.currency, { ...payload, nonce });
	if (txHash === undefined && !isOwn) return refused(runningProblem(), PENDING_RETRY_SECONDS);
	const { durable } = await store.transact({ proofs: [key] }, (view): Turn<void> => {
		if (view.proof(key)?.state !== "held") return { value: undefined };
		const proof = txHash === undefined ? null : proofOf(order, "paid", store.owner, txHash, null);
		return { value: undefined, writes: { proofs: { [key]: proof } } };
	});
	await durable;
	return txHash === undefined ? refused(runningProblem(), 1) : undefined;
}

async function readProof({ store }: EngineContext, key: string): Promise<ProofRecord | undefined> {
	const { value } = await store.transact({ proofs: [key] }, (view) => ({ value: view.proof(key) }));
	return value;
}

/** Money is moved only for a challenge and an authorization that are good now. What was paid in time is delivered later, too. */
function lateProblem(context: EngineContext, { expired, payload }: ChargeOrder): Problem | undefined {
	if (expired) return problem("invalid-challenge", "The challenge has expired; answer a fresh one.");
	if (isValidNow(payload, context)) return undefined;
	const { validAfter, validBefore } = payload;
	const detail = "The authorization is not valid now, or not for long enough.";
	return problem("verification-failed", detail, { validAfter, validBefore });
}

/** On disk before the broadcast: the transaction, that this payer has taken the challenge, and for which key it pays. */
async function record(context: EngineContext, order: ChargeOrder, entry: OutboxEntry): Promise<void> {
	const { store } = context;
	const { scope, payload, challenge } = order;
	const key = challengeKey(challenge);
	const { durable } = await store.transact({ proofs: [key], ...(scope && { idempotency: scope.key }) }, (view) => {
		const proof = view.proof(key);
		// A second attempt of our own may replace the first; nobody else's.
		if (proof !== undefined && !(proof.state === "held" && proof.usedBy === payload.from))
			throw new ChallengeUsedError();
		// Another request of the same key was quicker, with another challenge.
		const { idempotency } = view;
		const taken =
			idempotency?.state === "done" || (idempotency?.paidBy !== undefined && idempotency.paidBy !== order.paidBy);
		if (taken) throw new KeyInUseError();
		const running = scope && runningRecord(context, scope, key);
		return {
			value: undefined,
			writes: {
				outbox: [entry],
				proofs: { [key]: proofOf({ ...order, paidBy: key }, "held", store.owner, entry.hash, null) },
				...(running && { idempotency: running }),
			},
		};
	});
	await durable;
}

/** The key's request is on its way, paid for by the proof `paidBy`. */
function runningRecord(
	{ store, limits, now }: EngineContext,
	scope: IdempotencyScope,
	paidBy: string,
): IdempotencyRecord {
	return { ...scope, state: "running", owner: store.owner, paidBy, expiresAt: now() + limits.idempotencyTtlMs };
}

/** Takes the paid proof for this request alone, and lets it be delivered. */
async function claim(context: EngineContext, order: ChargeOrder): Promise<Admission> {
	const { store } = context;
	const { paidBy: key, scope } = order;
	const { value, durable } = await store.transact(keysOf(order), (view): Turn<Claim> => {
		const refusal = judge(context, order, view);
		if (refusal !== undefined) return { value: refusal };
		const proof = view.proof(key);
		if (proof?.reference === undefined || proof.state === "held") {
			return { value: refused(problem("verification-failed", "The transfer did not arrive.")) };
		}
		const txHash = proof.reference as Hex;
		const running = scope && runningRecord(context, scope, key);
		return {
			value: { kind: "claimed", txHash },
			writes: {
				proofs: { [key]: proofOf(order, "serving", store.owner, txHash, null) },
				...(running && { idempotency: running }),
			},
		};
	});
	await durable;
	return value.kind === "claimed" ? admitted(context, order, value.txHash) : value;
}

type Claim = Exclude<Admission, Admitted> | Readonly<{ kind: "claimed"; txHash: Hex }>;

function admitted(context: EngineContext, order: ChargeOrder, txHash: Hex): Admitted {
	let ended = false;
	return {
		kind: "admitted",
		payment: { intent: "charge", amount: order.payload.value, payer: order.payload.from, txHash },
		async capture(response) {
			if (ended) throw new Error("this payment was captured or released already");
			ended = true;
			const receipt = chargeReceipt(context, order, txHash);
			await end(context, order, txHash, "used", response(receipt));
			return { kind: "captured", receipt };
		},
		async release() {
			if (ended) return;
			ended = true;
			// The money has moved: the same credential may be sent again until it is delivered.
			await end(context, order, txHash, "paid");
		},
	};
}

async function end(
	{ store, limits, now }: EngineContext,
	order: ChargeOrder,
	txHash: Hex,
	state: "used" | "paid",
	response?: StoredResponse,
): Promise<void> {
	const { scope, paidBy: key } = order;
	const { durable } = await store.transact(keysOf(order), () => {
		const at = now();
		// Forgotten when no challenge that it could be shown with is good any more; what was not delivered never is.
		const lastUse = Math.max(expiryOf(order.challenge, at), at + limits.challengeTtlSeconds * 1_000 + PROOF_MARGIN_MS);
		const expiresAt = state === "used" ? lastUse : null;
		const done = scope &&
			response && {
				...scope,
				state: "done" as const,
				owner: store.owner,
				response,
				expiresAt: at + limits.idempotencyTtlMs,
			};
		return {
			value: undefined,
			writes: {
				proofs: { [key]: proofOf(order, state, store.owner, txHash, expiresAt) },
				...(done && { idempotency: done }),
			},
		};
	});
	await durable;
}

/** One transaction per challenge at a time. */
export function chargeKey(proof: string | undefined): string {
	return `charge:${proof}`;
}

function purposeOf(
	{ challenge, payload, scope }: ChargeOrder,
	{ currency }: Pick<Terms, "currency">,
): TransactionPurpose & { proof: string } {
	const { from, to, value, nonce } = payload;
	const proof = challengeKey(challenge);
	return {
		kind: "charge",
		currency,
		proof,
		from,
		to,
		value: String(value),
		nonce,
		...(scope && { idempotency: scope.key }),
	};
}

function proofOf(
	{ paidBy: key, payload }: ChargeOrder,
	state: ProofRecord["state"],
	owner: string,
	txHash: Hex,
	expiresAt: number | null,
): ProofRecord {
	return { key, state, owner, usedBy: payload.from, reference: txHash, expiresAt };
}

function keysOf({ paidBy, scope }: ChargeOrder) {
	return { proofs: [paidBy], ...(scope && { idempotency: scope.key }) };
}

/** draft-evm-charge-00, Receipt Generation. */
function chargeReceipt(
	{ terms, now }: EngineContext,
	{ challenge, externalId }: ChargeOrder,
	txHash: Hex,
): ChargeReceipt {
	return {
		method: "evm",
		intent: "charge",
		status: "success",
		timestamp: formatTimestamp(now()),
		challengeId: challenge.id,
		reference: txHash,
		chainId: terms.chainId,
		...(externalId !== undefined && { externalId }),
	};
}

function usedProblem(): Problem {
	return problem("invalid-challenge", "This challenge was paid and answered already; ask for a fresh one.");
}

function runningProblem(): Problem {
	return problem("conflict", "The request with this Idempotency-Key is still running.");
}

class KeyInUseError extends Error {
	override readonly name = "KeyInUseError";
	readonly code = "KEY_IN_USE";
}

class ChallengeUsedError extends Error {
	override readonly name = "ChallengeUsedError";
	readonly code = "CHALLENGE_USED";
}
