/** What a server says of the payment on a socket, as the responses that it would be over HTTP. */
import {
	encodeBase64url,
	isJsonObject,
	PAYMENT_RECEIPT,
	PROBLEM_CONTENT_TYPE,
	parseChallenges,
	parseSocketRefusal,
	RETRY_AFTER,
	WWW_AUTHENTICATE,
} from "../protocol/index.ts";

/** A `payment-receipt`: of the socket's opening with its `body`, an event stream, else of what is about the channel (D11). */
export function receiptAnswer(data: unknown, body: ReadableStream<Uint8Array<ArrayBuffer>> | undefined): Response {
	const json = JSON.stringify(data);
	const type = body === undefined ? "application/json" : "text/event-stream";
	const headers = { "content-type": type, [PAYMENT_RECEIPT]: encodeBase64url(json) };
	return new Response(body ?? json, { headers });
}

/** A `payment-required`: a 402, or another refusal. */
export function refusalAnswer(data: unknown): Response {
	const { challenges = [], problem, retryAfterSeconds } = parseSocketRefusal(data) ?? {};
	const headers = new Headers({ "content-type": PROBLEM_CONTENT_TYPE });
	for (const challenge of challenges) headers.append(WWW_AUTHENTICATE, challenge);
	if (retryAfterSeconds !== undefined) headers.set(RETRY_AFTER, String(retryAfterSeconds));
	const { status = 402 } = problem ?? {};
	return new Response(JSON.stringify(problem), { status: status >= 400 && status < 600 ? status : 402, headers });
}

/** What one unit is, as the first challenge of a `payment-required` says. */
export function unitTypeOf(data: unknown): string | undefined {
	try {
		const [first] = (parseSocketRefusal(data)?.challenges ?? []).flatMap((value) => parseChallenges(value));
		const request: unknown = first?.request;
		return isJsonObject(request) && typeof request.unitType === "string" ? request.unitType : undefined;
	} catch {
		return undefined;
	}
}
