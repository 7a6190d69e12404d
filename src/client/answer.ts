import {
	type Challenge,
	type ChargeRequest,
	decodeReceipt,
	isExpired,
	PAYMENT_RECEIPT,
	PROBLEM_CONTENT_TYPE,
	type Problem,
	parseChallenges,
	parseChargeRequest,
	parseProblem,
	parseSessionRequest,
	RETRY_AFTER,
	type Receipt,
	type SessionRequest,
	WWW_AUTHENTICATE,
} from "../protocol/index.ts";
import type { Offered } from "./channel.ts";

/** The longest a server can make a client wait before one retry. */
const MAX_RETRY_AFTER_MS = 10_000;

/** What a 402 offers that this client understands, in the server's order. */
export type Offers = readonly (
	| Readonly<{ intent: "session" } & Offered<SessionRequest>>
	| Readonly<{ intent: "charge" } & Offered<ChargeRequest>>
)[];

/** Reads the challenges of a response; those of other methods, unreadable or expired ones are left out. */
export function offersOf(response: Response, nowMs: number): Offers {
	const header = response.headers.get(WWW_AUTHENTICATE);
	if (header === null) return [];
	return parseChallenges(header).flatMap(({ challenge, request }) => {
		if (challenge.method !== "evm" || isExpired(challenge, nowMs)) return [];
		return offerOf(challenge, request);
	});
}

function offerOf(challenge: Challenge, request: unknown): Offers {
	try {
		if (challenge.intent === "session")
			return [{ intent: "session", challenge, request: parseSessionRequest(request) }];
		if (challenge.intent === "charge") return [{ intent: "charge", challenge, request: parseChargeRequest(request) }];
	} catch {
		// An offer that can't be read can't be answered; there may be others.
	}
	return [];
}

/** The problem body of a refusal, without consuming the response. */
export async function problemOf(response: Response): Promise<Problem | undefined> {
	if (!(response.headers.get("content-type") ?? "").startsWith(PROBLEM_CONTENT_TYPE)) return undefined;
	try {
		return parseProblem(await response.clone().json());
	} catch {
		return undefined;
	}
}

/** The receipt of a paid answer. */
export function receiptOf(response: Response): Receipt | undefined {
	const header = response.headers.get(PAYMENT_RECEIPT);
	try {
		return header === null ? undefined : decodeReceipt(header);
	} catch {
		return undefined;
	}
}

/** How long the server asks to wait before a retry, bounded; `undefined` when it does not. */
export function retryAfterMs(response: Response): number | undefined {
	const seconds = Number(response.headers.get(RETRY_AFTER) ?? Number.NaN);
	return Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds * 1_000, MAX_RETRY_AFTER_MS) : undefined;
}
