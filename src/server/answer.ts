/** Answers of the engine's own, and what an application's answer gets besides: the same for every face. */
import {
	CACHE_CONTROL,
	decodeBase64urlText,
	formatChallenge,
	type JsonObject,
	PAYMENT_RECEIPT,
	PROBLEM_CONTENT_TYPE,
	RETRY_AFTER,
	WWW_AUTHENTICATE,
} from "../protocol/index.ts";
import type { Admission, Admitted, Refused } from "./admission.ts";
import type { ChallengeFor, PaymentEngine } from "./engine.ts";
import type { Offer } from "./method.ts";
import { type AnyReceipt, isSessionReceipt, receiptField, receiptText } from "./receipts.ts";
import type { StoredResponse } from "./store/store.ts";

/** Head and body of an answer in which the application has no part. */
export type OwnAnswer = Readonly<{
	status: number;
	/** Several values where a field stands several times. */
	headers: Readonly<Record<string, string | readonly string[]>>;
	body: string | Uint8Array | null;
}>;

/** The answer to a request that is not served. */
export function ownAnswer(
	engine: PaymentEngine,
	offers: readonly Offer[],
	admission: Exclude<Admission, Admitted>,
	asked: ChallengeFor,
): OwnAnswer {
	switch (admission.kind) {
		case "refused":
			return refusalAnswer(engine, offers, admission, asked);
		case "managed":
			return {
				status: 200,
				headers: {
					"content-type": "application/json; charset=utf-8",
					[PAYMENT_RECEIPT]: receiptField(admission.receipt),
					[CACHE_CONTROL]: "private",
				},
				body: receiptText(admission.receipt),
			};
		case "replayed": {
			const { status, headers, body, receipt } = admission.response;
			return { status, headers: receipt === undefined ? headers : withReceiptField(headers, receipt), body };
		}
	}
}

/** A refusal, with fresh challenges when it is a 402 (draft-httpauth-payment-00, Status Codes). */
export function refusalAnswer(
	engine: PaymentEngine,
	offers: readonly Offer[],
	{ problem, retryAfterSeconds }: Refused,
	asked: ChallengeFor,
): OwnAnswer {
	return {
		status: problem.status,
		headers: {
			"content-type": PROBLEM_CONTENT_TYPE,
			[CACHE_CONTROL]: "no-store",
			...(retryAfterSeconds !== undefined && { [RETRY_AFTER]: String(Math.ceil(retryAfterSeconds)) }),
			...(problem.status === 402 && { [WWW_AUTHENTICATE]: engine.challenge(offers, asked).map(formatChallenge) }),
		},
		body: JSON.stringify(problem),
	};
}

/**
 * What carries a receipt must not get into a shared cache (draft-httpauth-payment-00, Caching).
 *
 * @param own the application's own `Cache-Control`, if any
 */
export function privateCache(own: string): string {
	if (own === "") return "private";
	// `private="field"` is not `private`.
	const directives = own.match(/(?:"[^"]*"|[^,"])+/g)?.map((directive) => directive.trim().toLowerCase()) ?? [];
	if (directives.includes("private") && !directives.includes("public")) return own;
	return directives.includes("no-store") ? "private, no-store" : "private";
}

const RECEIPT_FIELD = PAYMENT_RECEIPT.toLowerCase();

/** Not kept: what belongs to the connection or is made anew for each answer. The receipt is kept apart. */
const OWN_OF_EACH_ANSWER = new Set([
	"connection",
	"content-length",
	"date",
	"keep-alive",
	"transfer-encoding",
	RECEIPT_FIELD,
]);

/**
 * An application's answer as a retry gets it again.
 *
 * @param headers lower-case names
 * @param body `null` where it is a stream, which is not kept; neither are bodies over `maxBytes`
 */
export function storedResponse(
	status: number,
	headers: Iterable<readonly [string, string | readonly string[]]>,
	body: Uint8Array | null,
	receipt: AnyReceipt,
	maxBytes: number,
): StoredResponse {
	const kept: Record<string, string | readonly string[]> = {};
	for (const [name, value] of headers) if (!OWN_OF_EACH_ANSWER.has(name)) kept[name] = value;
	const cache = CACHE_CONTROL.toLowerCase();
	kept[cache] = privateCache(String(kept[cache] ?? ""));
	const whole = body !== null && body.length <= maxBytes ? body : null;
	if (isSessionReceipt(receipt)) return { status, headers: kept, body: whole, receipt };
	return { status, headers: withReceiptField(kept, receipt), body: whole };
}

function withReceiptField(headers: StoredResponse["headers"], receipt: AnyReceipt): StoredResponse["headers"] {
	return { ...headers, [RECEIPT_FIELD]: receiptField(receipt) };
}

/** The receipt of an answer that a retry gets again, as JSON. */
export function storedReceipt({ headers, receipt }: StoredResponse): JsonObject {
	const text = receipt === undefined ? decodeBase64urlText(String(headers[RECEIPT_FIELD] ?? "")) : receiptText(receipt);
	return JSON.parse(text) as JsonObject;
}

/** A store that fails now has nothing promised after its restart; the handler's own answer stands. */
export async function releaseQuietly(engine: PaymentEngine, admitted: Admitted): Promise<void> {
	await admitted.release().catch((error: unknown) => void engine.refusalFor(error));
}
