import {
	type Challenge,
	type Credential,
	MalformedCredentialError,
	type Problem,
	paymentCredentials,
	problem,
} from "../protocol/index.ts";
import { type PaidRequest, type Refused, refused } from "./admission.ts";
import type { ChallengeBook, ReadCredential } from "./challenges.ts";
import { idempotencyKeyProblem } from "./idempotency.ts";
import type { Offer, PaymentMethod } from "./method.ts";

/** A credential that answers a challenge of ours for this route. Its signatures are not looked at yet. */
export type Screened<O extends Offer = Offer, Request = unknown> = Readonly<{
	kind: "screened";
	method: PaymentMethod;
	credential: Credential;
	/** The challenge has expired: it can still fetch what was paid with it in time, nothing else. */
	expired: boolean;
	offer: O;
	/** The request of its challenge, as its method reads it. */
	request: Request;
	credentialKey: string;
}>;

/** The answer to a request that brings no payment. */
export function unpaid(): Refused {
	return refused(problem("payment-required", "This resource has to be paid for."));
}

/**
 * The first steps of a paid request, all cheap and without I/O: is there exactly one credential, can it be read, was its
 * challenge ours and for this route? (draft-httpauth-payment-00, Status Codes; D9, D18)
 */
export function screen(
	{ offers, authorization, idempotencyKey }: Pick<PaidRequest, "offers" | "authorization" | "idempotencyKey">,
	challenges: ChallengeBook,
	nowMs: number,
): Screened | Refused {
	const [header, second] = paymentCredentials(authorization);
	if (header === undefined) return unpaid();
	if (second !== undefined) return refused(problem("bad-request", "Send one Payment credential, not several."));
	const badKey = idempotencyKeyProblem(idempotencyKey);
	if (badKey !== undefined) return refused(badKey);

	let read: ReadCredential;
	try {
		read = challenges.read(header, nowMs, idempotencyKey !== undefined);
	} catch (error) {
		if (error instanceof MalformedCredentialError) return refused(problem("malformed-credential", error.message));
		throw error;
	}
	if (read.recognised === undefined) return refused(challengeProblem(read.credential.challenge));
	const { credential, recognised, credentialKey } = read;
	const { challenge, method, request, expired } = recognised;
	const offer = offers.find((one) => one.method === method.name && method.matches(one, challenge, request));
	// What was paid in time may still be delivered when its challenge has expired; its method decides.
	if (offer === undefined || (expired && !method.takesExpired(challenge.intent)))
		return refused(challengeProblem(challenge));
	return {
		kind: "screened",
		method,
		credential,
		expired,
		offer,
		request,
		credentialKey,
	};
}

/** Sessions have a problem type of their own (draft-evm-session-00, Error Responses; D18). */
export function challengeProblem({ intent }: Pick<Challenge, "intent">): Problem {
	const name = intent === "session" ? "session/challenge-not-found" : "invalid-challenge";
	return problem(name, "The challenge is unknown, expired, or not for this resource; answer the fresh one.");
}
