import type { Hex } from "viem";
import { type ChargeReceipt, formatTimestamp, problem } from "../../protocol/index.ts";
import { type Admission, type Admitted, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import { earlierAnswer } from "../idempotency.ts";
import { expiryOf } from "../proofs.ts";
import type { ProofRecord, StoredResponse, Turn, TurnView } from "../store/store.ts";
import type { Means } from "./means.ts";
import {
	type ChargeOrder,
	keysOf,
	PROOF_MARGIN_MS,
	paysItself,
	runningProblem,
	runningRecord,
	tokenUsedProblem,
	usedProblem,
} from "./order.ts";

/** What is known of this credential already: an answer to give again, or a reason to refuse. `undefined`: go on. */
export async function look(context: EngineContext, order: ChargeOrder): Promise<Admission | undefined> {
	const { value, durable } = await context.store.transact(keysOf(order), (view) => ({
		value: judge(context, order, view),
	}));
	await durable;
	return value;
}

function judge({ store }: EngineContext, order: ChargeOrder, view: TurnView): Exclude<Admission, Admitted> | undefined {
	const { scope, means, paidBy } = order;
	const { idempotency } = view;
	const proof = view.proof(paidBy);
	if (proof !== undefined && !isOwn(proof, means)) return refused(usedProblem());
	// A request of this key that is not done is told by its proof: the money may move while nobody runs.
	const isDone = idempotency?.state === "done" || idempotency?.fingerprint !== scope?.fingerprint;
	const earlier = isDone ? earlierAnswer(idempotency, scope, store) : undefined;
	if (earlier !== undefined) return earlier;
	if (paysItself(order) && isTakenByAnother(order, view)) return refused(tokenUsedProblem(means));
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

/** Whoever shows a hash has signed nothing: it stands for what that very transaction paid, and for nothing else (I3). */
function isOwn({ usedBy, reference }: ProofRecord, { payer, movement }: Means): boolean {
	return usedBy === payer && (movement.kind !== "moved" || reference === movement.hash);
}

/** What the credential moves money with was shown with another challenge before (I4). */
export function isTakenByAnother({ means: { token }, paidBy }: ChargeOrder, view: TurnView): boolean {
	const taken = token === undefined ? undefined : view.proof(token);
	return taken !== undefined && taken.usedBy !== paidBy;
}

type Claim = Exclude<Admission, Admitted> | Readonly<{ kind: "claimed"; txHash: Hex }>;

/** Takes the paid proof for this request alone, and lets it be delivered. */
export async function claim(context: EngineContext, order: ChargeOrder): Promise<Admission> {
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
				proofs: [proofOf(order, "serving", store.owner, txHash, null)],
				...(running && { idempotency: running }),
			},
		};
	});
	await durable;
	return value.kind === "claimed" ? admitted(context, order, value.txHash) : value;
}

function admitted(context: EngineContext, order: ChargeOrder, txHash: Hex): Admitted {
	const { amount, means, request } = order;
	const payment = { intent: "charge", amount, payer: means.payer, txHash } as const;
	let ended = false;
	return {
		kind: "admitted",
		payment,
		async capture(response) {
			if (ended) throw new Error("this payment was captured or released already");
			ended = true;
			const receipt = chargeReceipt(context, order, txHash);
			await end(context, order, txHash, "used", response(receipt));
			const { method, url } = request;
			context.listeners.tell("onCharged", { ...payment, method, url });
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
	const { scope } = order;
	const { durable } = await store.transact(keysOf(order), () => {
		const at = now();
		// Forgotten when no challenge that it could be shown with is good any more; what was not delivered never is.
		const lastUse = Math.max(expiryOf(order.challenge), at + limits.challengeTtlSeconds * 1_000 + PROOF_MARGIN_MS);
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
				proofs: [proofOf(order, state, store.owner, txHash, expiresAt)],
				...(done && { idempotency: done }),
			},
		};
	});
	await durable;
}

/** The record that an order's payment stands by. */
export function proofOf(
	{ paidBy: key, means }: Pick<ChargeOrder, "paidBy" | "means">,
	state: ProofRecord["state"],
	owner: string,
	txHash: Hex,
	expiresAt: number | null,
): ProofRecord {
	return { key, state, owner, usedBy: means.payer, reference: txHash, expiresAt };
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
