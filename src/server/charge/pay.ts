import type { Hex } from "viem";
import { findAuthorizedTransfer } from "../../escrow/events.ts";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import { TransactionNotSentError, TransactionPendingError, TransactionRevertedError } from "../../escrow/sender.ts";
import { type Problem, problem } from "../../protocol/index.ts";
import { chargeNonce } from "../../voucher/index.ts";
import { type Refused, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import { drawOf } from "../draws.ts";
import { challengeIdOf, challengeKey } from "../proofs.ts";
import { overdrawnProblem } from "../refusals.ts";
import type { ProofRecord, Turn } from "../store/store.ts";
import { OverdrawnError } from "../transactions.ts";
import { isKnown, readReceipt } from "./chain.ts";
import { isTakenByAnother, proofOf } from "./deliver.ts";
import { failed, hasAllTransfers } from "./means.ts";
import {
	type ChargeOrder,
	chargeKey,
	keysOf,
	paysItself,
	readProof,
	runningProblem,
	runningRecord,
	tokenUsedProblem,
} from "./order.ts";
import { purposeOf } from "./purpose.ts";

const PENDING_RETRY_SECONDS = 5;

/**
 * Moves the money, unless an earlier request has; resolves when that is on disk, or to why it was not moved. Afterwards the
 * proof `order.paidBy` tells how it stands.
 */
export async function pay(context: EngineContext, order: ChargeOrder): Promise<Refused | undefined> {
	const { transactions } = context;
	const key = chargeKey(order.paidBy);
	try {
		const underWay = transactions.join(key);
		if (underWay !== undefined) {
			await underWay;
			return undefined;
		}
		const proof = await readProof(context, order.paidBy);
		if (proof?.state === "held") return await settleOrphan(context, order, proof);
		if (proof !== undefined) return undefined;
		// The earlier payment for this key failed a moment ago: the retry will make its own.
		if (!paysItself(order)) return refused(runningProblem(), 1);
		const wrong = lateProblem(order) ?? (await order.means.foresee());
		if (wrong === undefined) return await move(context, order, key);
		// The same credential may have been quicker in another request, and then it is no wonder.
		return (await hasBegun(context, order)) ? await pay(context, order) : refused(wrong);
	} catch (error) {
		return refusalOf(context, order, error);
	}
}

async function move(context: EngineContext, order: ChargeOrder, key: string): Promise<Refused | undefined> {
	const { movement } = order.means;
	if (movement.kind === "moved") {
		const refusal = await movement.find();
		if (refusal !== undefined) return refusal;
		await take(context, order, "paid", movement.hash);
		return undefined;
	}
	const { type, payer: from, token: once } = order.means;
	await context.transactions.perform({
		...(movement.kind === "call"
			? { ...movement.call, draw: drawOf(context, { type, from, amount: order.amount, once }) }
			: { signed: movement }),
		key,
		purpose: purposeOf(order, context.terms),
		record: (entry) => take(context, order, "held", entry.hash, entry),
	});
	return undefined;
}

async function hasBegun(context: EngineContext, { paidBy }: ChargeOrder): Promise<boolean> {
	return context.transactions.isUnderWay(chargeKey(paidBy)) || (await readProof(context, paidBy)) !== undefined;
}

async function refusalOf(context: EngineContext, order: ChargeOrder, error: unknown): Promise<Refused | undefined> {
	// Whoever was first with this challenge has it: `claim` tells whether that is this payer.
	if (error instanceof ChallengeUsedError) return undefined;
	if (error instanceof KeyInUseError) return refused(runningProblem(), 1);
	if (error instanceof OverdrawnError) return refused(overdrawnProblem("charge"), PENDING_RETRY_SECONDS);
	if (error instanceof TokenUsedError) return refused(tokenUsedProblem(order.means));
	if (error instanceof TransactionRevertedError) {
		// Its conclusion may have found it paid all the same, or another request of the same credential was quicker.
		const proof = await readProof(context, order.paidBy);
		if (proof !== undefined && proof.state !== "held") return undefined;
		return refused(failed("The transfer was refused on chain: nothing was charged.").problem);
	}
	if (error instanceof TransactionNotSentError && order.means.movement.kind === "signed") {
		const detail = "The node refuses this transaction, or another one took its nonce: nothing was charged.";
		return refused(failed(detail).problem);
	}
	if (error instanceof TransactionPendingError || error instanceof TransactionNotSentError) return pendingRefusal();
	throw error;
}

function pendingRefusal(): Refused {
	const detail = "The payment is not mined yet; send the same request again.";
	return refused(problem("service-unavailable", detail), PENDING_RETRY_SECONDS);
}

/** Money is moved only for a challenge and a credential that are good now. What was paid in time is delivered later, too. */
function lateProblem({ expired, means }: ChargeOrder): Problem | undefined {
	if (expired) return problem("invalid-challenge", "The challenge has expired; answer a fresh one.");
	return means.late();
}

/**
 * On disk before the broadcast, or before anything is delivered for what has moved: the transaction, that this payer has
 * taken the challenge, what else the credential uses up, and for which key it pays.
 */
async function take(
	context: EngineContext,
	order: ChargeOrder,
	state: "held" | "paid",
	txHash: Hex,
	entry?: OutboxEntry,
): Promise<void> {
	const { store } = context;
	const { scope, means, challenge } = order;
	const key = challengeKey(challenge);
	const own = { ...order, paidBy: key };
	const { durable } = await store.transact(keysOf(own), (view): Turn<void> => {
		const proof = view.proof(key);
		// A second attempt of our own may replace the first; nobody else's.
		const isRetry = state === "held" && proof?.state === "held" && proof.usedBy === means.payer;
		if (proof !== undefined && !isRetry) throw new ChallengeUsedError();
		if (isTakenByAnother(own, view)) throw new TokenUsedError();
		// Another request of the same key was quicker, with another challenge.
		const { idempotency } = view;
		const isInUse =
			idempotency?.state === "done" || (idempotency?.paidBy !== undefined && idempotency.paidBy !== order.paidBy);
		if (isInUse) throw new KeyInUseError();
		const running = scope && runningRecord(context, scope, key);
		const proofs: ProofRecord[] = [proofOf(own, state, store.owner, txHash, null)];
		if (means.token !== undefined) {
			const record = { key: means.token, owner: store.owner, usedBy: key, reference: txHash, expiresAt: null };
			proofs.push({ ...record, state: state === "held" ? "held" : "used" });
		}
		return {
			value: undefined,
			writes: { proofs, ...(entry && { outbox: [entry] }), ...(running && { idempotency: running }) },
		};
	});
	await durable;
	if (state === "paid") context.log.info({ txHash, amount: String(order.amount) }, "charge paid");
}

/**
 * Held, and no transaction under way: its record was lost. The chain says whether it paid. If not, and it is not on its way,
 * the same credential may be tried again, since the chain takes it once.
 */
async function settleOrphan(
	context: EngineContext,
	order: ChargeOrder,
	{ key, reference = "0x" }: ProofRecord,
): Promise<Refused | undefined> {
	const { store, client } = context;
	const lost = reference as Hex;
	const txHash = await findPayment(context, order, key, lost);
	if (txHash === undefined) {
		if (!paysItself(order)) return refused(runningProblem(), PENDING_RETRY_SECONDS);
		if ((await readReceipt(client, lost)) === undefined && (await isKnown(client, lost))) return pendingRefusal();
	}
	const { token } = order.means;
	const { durable } = await store.transact(keysOf(order), (view): Turn<void> => {
		if (view.proof(key)?.state !== "held") return { value: undefined };
		if (txHash !== undefined) {
			const proof = proofOf(order, "paid", store.owner, txHash, null);
			return { value: undefined, writes: { proofs: [proof] } };
		}
		const isOurs = token !== undefined && view.proof(token)?.usedBy === key;
		return { value: undefined, writes: { deletedProofs: isOurs ? [key, token] : [key] } };
	});
	await durable;
	return txHash === undefined ? refused(runningProblem(), 1) : undefined;
}

/** The transaction that paid for the challenge of `key`: the one that was sent, or a stranger's with the same authorization. */
async function findPayment(
	{ client, terms, tokenDomain }: EngineContext,
	{ means, amount }: ChargeOrder,
	key: string,
	sent: Hex,
): Promise<Hex | undefined> {
	const { currency, recipient, realm } = terms;
	const receipt = await readReceipt(client, sent);
	if (receipt?.status === "success" && hasAllTransfers(receipt, currency, means.payer, means.transfers)) return sent;
	if (tokenDomain === undefined) return undefined;
	const nonce = chargeNonce(challengeIdOf(key), realm);
	return findAuthorizedTransfer(client, currency, { from: means.payer, to: recipient, value: amount, nonce });
}

class KeyInUseError extends Error {
	override readonly name = "KeyInUseError";
	readonly code = "KEY_IN_USE";
}

class ChallengeUsedError extends Error {
	override readonly name = "ChallengeUsedError";
	readonly code = "CHALLENGE_USED";
}

class TokenUsedError extends Error {
	override readonly name = "TokenUsedError";
	readonly code = "TOKEN_USED";
}
