import {
	type ChargeRequest,
	type Credential,
	MalformedCredentialError,
	parseCredential,
	paymentCredentials,
	problem,
	type SessionRequest,
} from "../protocol/index.ts";
import { type PaidRequest, type Refused, refused } from "./admission.ts";
import type { ChallengeBook } from "./challenges.ts";
import { idempotencyKeyProblem } from "./idempotency.ts";
import { matchOffer, type Offer, type Terms } from "./offer.ts";
import { credentialKey } from "./proofs.ts";

/** A credential that answers a challenge of ours for this route. Its signatures are not looked at yet. */
export type Screened = ScreenedSession | ScreenedCharge;

export type ScreenedSession = ScreenedBase & Readonly<{ intent: "session"; request: SessionRequest }>;
export type ScreenedCharge = ScreenedBase & Readonly<{ intent: "charge"; request: ChargeRequest }>;

type ScreenedBase = Readonly<{
	kind: "screened";
	credential: Credential;
	/** The challenge has expired: it can still fetch what was paid with it in time, nothing else. */
	expired: boolean;
	offer: Offer;
	credentialKey: string;
}>;

/** The answer to a request that brings no payment. */
export function unpaid(): Refused {
	return refused(problem("payment-required", "This resource has to be paid for."));
}

/** Whether the request is only about the channel: a `HEAD`, a close, a top-up. The route itself is not asked (D11). */
export function isManagement(method: string, { intent, credential }: Screened): boolean {
	if (intent !== "session") return false;
	const { action } = credential.payload;
	return method === "HEAD" || action === "close" || action === "topUp";
}

/**
 * The first steps of a paid request, all cheap and without I/O: is there exactly one credential, can it be read, was its
 * challenge ours and for this route? (draft-httpauth-payment-00, Status Codes; D9, D18)
 */
export function screen(
	{ offers, authorization, idempotencyKey }: Pick<PaidRequest, "offers" | "authorization" | "idempotencyKey">,
	terms: Terms,
	challenges: ChallengeBook,
	nowMs: number,
): Screened | Refused {
	const [header, second] = paymentCredentials(authorization);
	if (header === undefined) return unpaid();
	if (second !== undefined) return refused(problem("bad-request", "Send one Payment credential, not several."));
	const badKey = idempotencyKeyProblem(idempotencyKey);
	if (badKey !== undefined) return refused(badKey);

	let credential: Credential;
	try {
		credential = parseCredential(header);
	} catch (error) {
		if (error instanceof MalformedCredentialError) return refused(problem("malformed-credential", error.message));
		throw error;
	}
	const { challenge } = credential;
	const recognised = challenges.recognise(challenge, nowMs);
	const offer = recognised && matchOffer(offers, terms, challenge, recognised.request);
	const isSession = challenge.intent === "session";
	// A charge paid in time is still delivered when its challenge has expired; `admitCharge` decides.
	if (recognised === undefined || offer === undefined || (isSession && recognised.expired)) {
		const name = isSession ? "session/challenge-not-found" : "invalid-challenge";
		return refused(problem(name, "The challenge is unknown, expired, or not for this resource; answer the fresh one."));
	}
	return { ...recognised, kind: "screened", credential, offer, credentialKey: credentialKey(header) };
}
