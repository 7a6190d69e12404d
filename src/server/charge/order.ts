import { type Challenge, type Problem, problem } from "../../protocol/index.ts";
import type { PaidRequest } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import type { IdempotencyScope } from "../idempotency.ts";
import { challengeKey } from "../proofs.ts";
import type { IdempotencyRecord, ProofRecord, TurnKeys } from "../store/store.ts";
import type { Means } from "./means.ts";

/** How long a used proof outlives the longest life of a challenge: clocks differ a little. */
export const PROOF_MARGIN_MS = 60_000;

/** One request that is to be paid by a charge. */
export type ChargeOrder = Readonly<{
	request: PaidRequest;
	challenge: Challenge;
	expired: boolean;
	/** What the payer pays in all, in base units. */
	amount: bigint;
	externalId: string | undefined;
	means: Means;
	scope: IdempotencyScope | undefined;
	/**
	 * Key of the proof that pays: this challenge's, or that of an earlier one whose money moves, or has moved, for the same
	 * `Idempotency-Key` (I6).
	 */
	paidBy: string;
}>;

/** Whether the order is paid by its own credential. */
export function paysItself({ challenge, paidBy }: ChargeOrder): boolean {
	return paidBy === challengeKey(challenge);
}

/** All records that decide over an order. */
export function keysOf({ paidBy, scope, means }: ChargeOrder): TurnKeys {
	return {
		proofs: means.token === undefined ? [paidBy] : [paidBy, means.token],
		...(scope && { idempotency: scope.key }),
	};
}

/** One transaction per challenge at a time. */
export function chargeKey(proof: string | undefined): string {
	return `charge:${proof}`;
}

export async function readProof({ store }: EngineContext, key: string): Promise<ProofRecord | undefined> {
	const { value } = await store.transact({ proofs: [key] }, (view) => ({ value: view.proof(key) }));
	return value;
}

/** The key's request is on its way, paid for by the proof `paidBy`. */
export function runningRecord(
	{ store, limits, now }: EngineContext,
	scope: IdempotencyScope,
	paidBy: string,
): IdempotencyRecord {
	return { ...scope, state: "running", owner: store.owner, paidBy, expiresAt: now() + limits.idempotencyTtlMs };
}

export function usedProblem(): Problem {
	return problem("invalid-challenge", "This challenge was paid and answered already; ask for a fresh one.");
}

export function runningProblem(): Problem {
	return problem("conflict", "The request with this Idempotency-Key is still running.");
}

/** What this credential moves money with pays, or has paid, for another challenge. */
export function tokenUsedProblem({ type }: Means): Problem {
	const what = type === "permit2" ? "Permit2 nonce" : "transaction";
	return problem("verification-failed", `This ${what} pays for another challenge; use each once.`);
}
