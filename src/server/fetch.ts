import {
	ACCEPT_PAYMENT,
	AUTHORIZATION,
	CACHE_CONTROL,
	IDEMPOTENCY_KEY,
	isLoopback,
	PAYMENT_RECEIPT,
	problem,
} from "../protocol/index.ts";
import { type Admitted, type Payment, type Refused, refused } from "./admission.ts";
import { type OwnAnswer, ownAnswer, privateCache, refusalAnswer, storedResponse } from "./answer.ts";
import type { PaymentEngine, Transport } from "./engine.ts";
import { isEventStream, receiptEvent } from "./eventStream.ts";
import { type Price, PriceList } from "./price.ts";
import { type AnyReceipt, receiptField } from "./receipts.ts";
import { bodyHash, digestOf, isBodyBound } from "./requestBody.ts";
import { openBody, remember, UnsendableResponseError } from "./responseBody.ts";

/** What serves a paid request. Whatever a framework gives besides the request is handed on. */
export type PaidHandler<Rest extends readonly unknown[] = readonly []> = (
	request: Request,
	payment: Payment,
	...rest: Rest
) => Response | Promise<Response>;

/** How `paid` treats its requests. All of it may be left out. */
export type FetchOptions = Readonly<{
	/** Names the route in errors. */
	route?: string;
	/**
	 * The longest request body that is read before the handler, in bytes; 1 MiB by default. Bodies are where a payment is bound
	 * to them: by an `Idempotency-Key`, a charge's challenge, or a price that is a function. A longer one is a 413 then.
	 */
	maxBodyBytes?: number;
	/**
	 * How a request came here, where its URL does not say it: behind a proxy that ends TLS, for example
	 * `(request) => ({ isSecure: request.headers.get("x-forwarded-proto") === "https", isLoopback: false })`.
	 */
	transport?: (request: Request) => Transport;
}>;

const MAX_BODY_BYTES = 1_048_576;

/**
 * Makes a Web-standard handler out of one that is paid for: for Hono, Next, Bun, Deno, and whatever else passes a `Request`
 * and takes a `Response`. A thin face, all rules are the engine's.
 *
 * Answers below 400 are captured before their first byte leaves; all others, handlers that throw, and clients that leave
 * before there is an answer cost nothing. What the handler throws, the returned function rejects with. Authenticate before
 * it: it answers 402 to whoever has not paid.
 *
 * @param price a price, several for a choice, or a function of the request, which may read its body
 * @returns `(request, ...rest)`, where `rest` is what the handler gets after the payment
 * @throws OfferError for a wrong price, at once
 * @example
 * // Next, Bun, Deno:
 * export const GET = paid(engine, { price: "100" }, async (request, payment) => Response.json({ quote: 42 }));
 * @example
 * // Hono; the context comes along:
 * const quote = paid(engine, { price: "100" }, async (_request, payment, c: Context) => c.json({ paidBy: payment.payer }));
 * app.get("/quote", (c) => quote(c.req.raw, c));
 */
export function paid<Rest extends readonly unknown[] = readonly []>(
	engine: PaymentEngine,
	price: Price<Request>,
	handler: PaidHandler<Rest>,
	{ route = "paid handler", maxBodyBytes = MAX_BODY_BYTES, transport = transportOf }: FetchOptions = {},
): (request: Request, ...rest: Rest) => Promise<Response> {
	const prices = new PriceList<Request>(engine);
	prices.constant(route, price);

	return async function handle(request, ...rest) {
		const head = headOf(request);
		const { idempotencyKey, acceptPayment } = head;
		const hasBody = request.body !== null;
		const plain = engine.transportRefusal(transport(request));
		if (plain !== undefined) return toResponse(refusalAnswer(engine, [], plain, {}));

		const isComputed = typeof price === "function";
		let body = hasBody && isComputed ? await measure(request, maxBodyBytes) : NO_BODY;
		if (body.kind === "refused") return toResponse(refusalAnswer(engine, [], body, {}));
		const offers = await prices.of(route, price, hasBody && isComputed ? request.clone() : request);
		if ("kind" in offers) return toResponse(refusalAnswer(engine, [], offers, {}));

		const screened = engine.screen({ offers, ...head });
		if (hasBody && !isComputed && isBodyBound(screened, offers, idempotencyKey))
			body = await measure(request, maxBodyBytes);
		if (body.kind === "refused") return toResponse(refusalAnswer(engine, offers, body, {}));
		const asked = { acceptPayment, bodyDigest: body.digest };
		if (screened.kind === "refused") return toResponse(refusalAnswer(engine, offers, screened, asked));

		const admission = await engine.admit({ ...head, bodyDigest: body.digest, offers }, screened);
		if (admission.kind !== "admitted") return toResponse(ownAnswer(engine, offers, admission, asked));
		const outcome = await deliver(engine, admission, request.signal, () =>
			handler(request, admission.payment, ...rest),
		);
		return "kind" in outcome ? toResponse(refusalAnswer(engine, offers, outcome, asked)) : outcome;
	};
}

/** Runs the handler, and takes the payment before anything of its answer leaves, or gives it back. */
async function deliver(
	engine: PaymentEngine,
	admitted: Admitted,
	signal: AbortSignal,
	serve: () => Response | Promise<Response>,
): Promise<Response | Refused> {
	// A store that fails now has nothing promised after its restart; the handler's own answer stands.
	const release = () => admitted.release().catch((error: unknown) => void engine.refusalFor(error));
	const { maxReplayBytes } = engine.limits;
	// The client may leave before there is an answer.
	const leave = () => void release();
	signal.addEventListener("abort", leave);
	try {
		if (signal.aborted) return await withdrawn(release);
		const response = await serve();
		assertSendable(response);
		if (response.status >= 400) {
			await release();
			return response;
		}
		// What an answer fails with before it begins, it fails with before it is paid.
		const opened = await openBody(response, signal, maxReplayBytes);
		if (opened.kind === "withdrawn" || signal.aborted) return await withdrawn(release);
		signal.removeEventListener("abort", leave);
		const { status } = response;
		const stored = (receipt: AnyReceipt) => {
			const bytes = opened.kind === "whole" ? withEvent(response, opened.bytes, receipt) : null;
			return storedResponse(status, remember(response.headers), bytes, receipt, maxReplayBytes);
		};
		const captured = await admitted.capture(stored).catch((error: unknown) => engine.refusalFor(error));
		if (captured.kind === "captured") {
			const { receipt } = captured;
			if (opened.kind === "whole") return paidResponse(response, withEvent(response, opened.bytes, receipt), receipt);
			return paidResponse(response, withLastEvent(response, opened.stream, receipt), receipt);
		}
		// Nothing may be delivered: the answer becomes the refusal.
		if (opened.kind === "stream") await opened.stream.cancel().catch(() => undefined);
		return captured;
	} catch (error) {
		await release();
		throw error;
	} finally {
		signal.removeEventListener("abort", leave);
	}
}

/** Nobody reads this answer. */
async function withdrawn(release: () => Promise<void>): Promise<Response> {
	await release();
	return new Response(null, { status: 204 });
}

/** @throws UnsendableResponseError for what is no answer: a network error, an upgrade to a protocol that nobody could charge for */
function assertSendable(response: Response): void {
	if (response?.status >= 200) return;
	throw new UnsendableResponseError(
		"a paid handler must return a Response with a status from 200 on; an upgraded connection can't be paid for",
	);
}

function paidResponse(
	{ headers: own, status, statusText }: Response,
	body: Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>,
	receipt: AnyReceipt,
): Response {
	const headers = new Headers(own);
	headers.set(PAYMENT_RECEIPT, receiptField(receipt));
	headers.set(CACHE_CONTROL, privateCache(headers.get(CACHE_CONTROL) ?? ""));
	// It is of the answer without the receipt's event.
	if (endsWithReceipt({ status, headers })) headers.delete("content-length");
	const isEmpty = body instanceof Uint8Array && body.length === 0;
	return new Response(isEmpty ? null : body, { status, statusText, headers });
}

function endsWithReceipt({ status, headers }: Pick<Response, "status" | "headers">): boolean {
	return isEventStream({
		status,
		contentType: headers.get("content-type"),
		contentEncoding: headers.get("content-encoding"),
	});
}

function withEvent(response: Response, bytes: Uint8Array<ArrayBuffer>, receipt: AnyReceipt): Uint8Array<ArrayBuffer> {
	return endsWithReceipt(response) ? new Uint8Array([...bytes, ...receiptEvent(receipt)]) : bytes;
}

function withLastEvent(
	response: Response,
	stream: ReadableStream<Uint8Array>,
	receipt: AnyReceipt,
): ReadableStream<Uint8Array> {
	if (!endsWithReceipt(response)) return stream;
	return stream.pipeThrough(
		new TransformStream<Uint8Array, Uint8Array>({ flush: (controller) => controller.enqueue(receiptEvent(receipt)) }),
	);
}

function headOf({ method, url, headers }: Request) {
	const { pathname, search } = new URL(url);
	const authorization = headers.get(AUTHORIZATION);
	return {
		method,
		url: pathname + search,
		authorization: authorization === null ? [] : [authorization],
		idempotencyKey: headers.get(IDEMPOTENCY_KEY) ?? undefined,
		acceptPayment: headers.get(ACCEPT_PAYMENT) ?? undefined,
	};
}

/** As the URL says it. */
function transportOf({ url }: Request): Transport {
	const { protocol, hostname } = new URL(url);
	return { isSecure: protocol === "https:", isLoopback: isLoopback(hostname) };
}

type Measured = Readonly<{ kind: "measured"; digest: string }>;

const NO_BODY: Measured | Refused = { kind: "measured", digest: "" };

/**
 * Digest of the body, read from a copy: the handler's own is untouched, and what it has to buffer is at most `maxBytes`.
 *
 * @throws TypeError when something before us has read the body
 */
async function measure(request: Request, maxBytes: number): Promise<Measured | Refused> {
	if (request.bodyUsed)
		throw new TypeError("the body of a paid request was read before its payment was looked at; read it in the handler");
	const hash = bodyHash();
	let length = 0;
	const reader = request.clone().body?.getReader();
	for (;;) {
		const { done, value } = (await reader?.read()) ?? { done: true };
		if (done) return { kind: "measured", digest: digestOf(hash, length) };
		length += value.byteLength;
		if (length > maxBytes) break;
		hash.update(value);
	}
	// Neither is over before the other one.
	void Promise.allSettled([reader?.cancel(), request.body?.cancel()]);
	return refused(problem("content-too-large", `The body of this paid request can have ${maxBytes} bytes at most.`));
}

function toResponse({ status, headers, body }: OwnAnswer): Response {
	const fields = new Headers();
	for (const [name, value] of Object.entries(headers)) {
		for (const one of typeof value === "string" ? [value] : value) fields.append(name, one);
	}
	const bytes = body instanceof Uint8Array ? new Uint8Array(body) : body;
	return new Response(bytes?.length ? bytes : null, { status, headers: fields });
}
