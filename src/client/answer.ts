import {
	type Challenge,
	type ChargeRequest,
	decodeReceipt,
	isExpired,
	PAYMENT_RECEIPT,
	type ParsedChallenge,
	PROBLEM_BASE_URI,
	PROBLEM_CONTENT_TYPE,
	type Problem,
	parseChallenges,
	parseChargeRequest,
	parseProblem,
	parseSessionRequest,
	problem,
	RETRY_AFTER,
	type Receipt,
	receiptFromJson,
	type SessionReceipt,
	type SessionRequest,
	WWW_AUTHENTICATE,
} from "../protocol/index.ts";
import type { Offered, PayerChannel } from "./channel.ts";

/** The longest a server can make a client wait before one retry. */
const MAX_RETRY_AFTER_MS = 10_000;

/** The longest problem or receipt that is read from a body. */
const MAX_BODY_BYTES = 65_536;

/** How long it may take to come: whoever waits for the channel waits for it too. */
const MAX_BODY_MS = 10_000;

/** One challenge that can be read, and its request. */
export type Offer =
	| Readonly<{ intent: "session" } & Offered<SessionRequest>>
	| Readonly<{ intent: "charge" } & Offered<ChargeRequest>>;

/**
 * Reads the challenges of a response, in the server's order. Left out are those of other methods and intents, expired or
 * unreadable ones, and those that take no credential of the drafts.
 */
export function offersOf(response: Response, nowMs: number): readonly Offer[] {
	const header = response.headers.get(WWW_AUTHENTICATE);
	if (header === null) return [];
	let parsed: readonly ParsedChallenge[];
	try {
		parsed = parseChallenges(header);
	} catch {
		return [];
	}
	return parsed.flatMap(({ challenge, request }) => {
		if (challenge.method !== "evm" || isExpired(challenge, nowMs)) return [];
		return offerOf(challenge, request);
	});
}

function offerOf(challenge: Challenge, json: unknown): readonly Offer[] {
	try {
		if (challenge.intent === "session") {
			const request = parseSessionRequest(json);
			return takesSomething(request) ? [{ intent: "session", challenge, request }] : [];
		}
		if (challenge.intent === "charge") {
			const request = parseChargeRequest(json);
			return takesSomething(request) ? [{ intent: "charge", challenge, request }] : [];
		}
	} catch {
		// An offer that can't be read can't be answered; there may be others.
	}
	return [];
}

function takesSomething({ methodDetails }: SessionRequest | ChargeRequest): boolean {
	return methodDetails.credentialTypes?.length !== 0;
}

/**
 * The refusal of a payment, which proves that nothing was charged: any 402, and every problem of the drafts. Other failures
 * prove nothing, a gateway may have lost a paid answer. Does not consume the response.
 */
export async function refusalOf(response: Response): Promise<Problem | undefined> {
	if (response.ok) return undefined;
	const stated = await problemOf(response);
	if (stated?.type.startsWith(PROBLEM_BASE_URI)) return stated;
	return response.status === 402 ? problem("payment-required", "The server gave no reason.") : undefined;
}

/** The problem body of a response, without consuming it. */
export async function problemOf(response: Response): Promise<Problem | undefined> {
	return isOfType(response, PROBLEM_CONTENT_TYPE) ? parseProblem(await jsonOf(response)) : undefined;
}

/** The receipt of an answer. */
export function receiptOf(response: Response): Receipt | undefined {
	const header = response.headers.get(PAYMENT_RECEIPT);
	try {
		return header === null ? undefined : decodeReceipt(header);
	} catch {
		return undefined;
	}
}

/** The receipt that an answer below 400 has for this very channel; what stands elsewhere proves nothing. */
export function receiptFor(response: Response, channel: PayerChannel): SessionReceipt | undefined {
	const receipt = response.status < 400 ? receiptOf(response) : undefined;
	if (receipt?.intent !== "session" || receipt.channelId !== channel.channelId) return undefined;
	return receipt.chainId === channel.parameters.chainId ? receipt : undefined;
}

/** Whether the receipt is all there is: an answer about the channel, in place of the resource (D11). */
export async function isManagementAnswer(response: Response): Promise<boolean> {
	if (!isOfType(response, "application/json")) return false;
	try {
		return receiptFromJson(await jsonOf(response)).intent === "session";
	} catch {
		return false;
	}
}

/** How long the server asks to wait before a retry, in seconds or until a moment, bounded; `undefined` when it does not. */
export function retryAfterMs(response: Response): number | undefined {
	const text = response.headers.get(RETRY_AFTER) ?? "";
	const ms = HTTP_DATE.test(text) ? Math.max(0, Date.parse(text) - Date.now()) : Number(text || Number.NaN) * 1_000;
	return Number.isFinite(ms) && ms >= 0 ? Math.min(ms, MAX_RETRY_AFTER_MS) : undefined;
}

/** A moment as HTTP writes it today (RFC 9110, section 5.6.7). */
const HTTP_DATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

function isOfType(response: Response, type: string): boolean {
	return (response.headers.get("content-type") ?? "").toLowerCase().startsWith(type);
}

/** The JSON of a copy of the body, as far as it is neither too long nor too slow; `undefined` when it is none. */
async function jsonOf(response: Response): Promise<unknown> {
	const reader = response.clone().body?.getReader();
	// Ends only when the other copy is let go of too, so it can't be waited for.
	const stop = () => void reader?.cancel().catch(() => undefined);
	const timer = setTimeout(stop, MAX_BODY_MS);
	try {
		const decoder = new TextDecoder();
		let text = "";
		let bytes = 0;
		for (;;) {
			const { value } = (await reader?.read()) ?? {};
			if (value === undefined) return JSON.parse(text + decoder.decode());
			bytes += value.byteLength;
			if (bytes > MAX_BODY_BYTES) {
				stop();
				return undefined;
			}
			text += decoder.decode(value, { stream: true });
		}
	} catch {
		return undefined;
	} finally {
		clearTimeout(timer);
	}
}
