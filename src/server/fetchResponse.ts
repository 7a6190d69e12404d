/** What the Web-standard face makes of an application's response. */
import { CACHE_CONTROL, PAYMENT_RECEIPT } from "../protocol/index.ts";
import { type OwnAnswer, privateCache } from "./answer.ts";
import { isEventStream, receiptEvent } from "./eventStream.ts";
import { type AnyReceipt, receiptField } from "./receipts.ts";
import { UnsendableResponseError } from "./responseBody.ts";

/** @throws UnsendableResponseError for what is no answer: a network error, an upgrade to a protocol that nobody could charge for */
export function assertSendable(response: unknown): asserts response is Response {
	if (typeof response === "object" && response !== null && "status" in response && Number(response.status) >= 200)
		return;
	throw new UnsendableResponseError(
		"a paid handler must return a Response with a status from 200 on, of a metered price also an async iterable; an upgraded connection can't be paid for",
	);
}

export function paidResponse(
	{ headers: own, status, statusText }: Pick<Response, "headers" | "status" | "statusText">,
	body: Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array<ArrayBuffer>>,
	receipt: AnyReceipt | undefined,
): Response {
	const headers = new Headers(own);
	if (receipt !== undefined) headers.set(PAYMENT_RECEIPT, receiptField(receipt));
	headers.set(CACHE_CONTROL, privateCache(headers.get(CACHE_CONTROL) ?? ""));
	// It is of the answer without the receipt's event.
	if (endsWithReceipt({ status, headers })) headers.delete("content-length");
	const isEmpty = body instanceof Uint8Array && body.length === 0;
	return new Response(isEmpty ? null : body, { status, statusText, headers });
}

export function endsWithReceipt({ status, headers }: Pick<Response, "status" | "headers">): boolean {
	return isEventStream({
		status,
		contentType: headers.get("content-type"),
		contentEncoding: headers.get("content-encoding"),
	});
}

export function withEvent(
	response: Response,
	bytes: Uint8Array<ArrayBuffer>,
	receipt: AnyReceipt,
): Uint8Array<ArrayBuffer> {
	return endsWithReceipt(response) ? new Uint8Array([...bytes, ...receiptEvent(receipt)]) : bytes;
}

export function withLastEvent(
	response: Response,
	stream: ReadableStream<Uint8Array>,
	receipt: AnyReceipt,
): ReadableStream<Uint8Array<ArrayBuffer>> {
	const bytes = stream as ReadableStream<Uint8Array<ArrayBuffer>>;
	if (!endsWithReceipt(response)) return bytes;
	return bytes.pipeThrough(
		new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
			flush: (controller) => controller.enqueue(new Uint8Array(receiptEvent(receipt))),
		}),
	);
}

export function toResponse({ status, headers, body }: OwnAnswer): Response {
	const fields = new Headers();
	for (const [name, value] of Object.entries(headers)) {
		for (const one of typeof value === "string" ? [value] : value) fields.append(name, one);
	}
	const bytes = body instanceof Uint8Array ? new Uint8Array(body) : body;
	return new Response(bytes?.length ? bytes : null, { status, headers: fields });
}

/** Nobody reads this answer. */
export function withdrawn(): Response {
	return new Response(null, { status: 204 });
}
