import { createHash } from "node:crypto";
import {
	ACCEPT_PAYMENT,
	AUTHORIZATION,
	CACHE_CONTROL,
	encodeReceipt,
	IDEMPOTENCY_KEY,
	isLoopback,
	PAYMENT_RECEIPT,
	problem,
	type Receipt,
} from "../protocol/index.ts";
import { type Admitted, type Payment, type Refused, refused } from "./admission.ts";
import { type OwnAnswer, ownAnswer, privateCache, refusalAnswer, storedResponse } from "./answer.ts";
import type { PaymentEngine, Transport } from "./engine.ts";
import { isEventStream, receiptEvent } from "./eventStream.ts";
import type { Offer } from "./method.ts";
import { type Price, PriceList } from "./price.ts";
import { type Opened, openBody, remember } from "./responseBody.ts";
import type { Screened } from "./screen.ts";

/** What serves a paid request. Whatever a framework gives besides the request is handed on. */
export type PaidHandler<Rest extends readonly unknown[] = readonly []> = (
	request: Request,
	payment: Payment,
	...rest: Rest
) => Response | Promise<Response>;

export type FetchOptions = Readonly<{
	/** Names the route in errors. */
	route?: string;
	/** The longest request body that is read to bind a payment to it; 1 MiB by default. */
	maxBodyBytes?: number;
	/**
	 * How a request came here, where its URL does not say it: behind a proxy that ends TLS, for example
	 * `(request) => ({ isSecure: request.headers.get("x-forwarded-proto") === "https", isLoopback: false })`.
	 */
	transport?: (request: Request) => Transport;
}>;

const MAX_BODY_BYTES = 1_048_576;

/**
 * Makes a Web-standard handler out of one that is paid for: for Hono, Next, Bun, Deno, service workers, and whatever else
 * passes a `Request` and takes a `Response`. A thin face, all rules are the engine's.
 *
 * Answers below 400 are captured before their first byte leaves, all others, and handlers that throw, cost nothing.
 *
 * @throws OfferError for a wrong price, at once
 * @example
 * export const GET = paid(engine, { price: "100" }, async (request, payment) => Response.json({ quote: 42 }));
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
		const plain = engine.transportRefusal(transport(request));
		if (plain !== undefined) return toResponse(refusalAnswer(engine, [], plain, {}));
		const offers = await offersOf(request);
		if ("kind" in offers) return toResponse(refusalAnswer(engine, [], offers, {}));

		const screened = engine.screen({ offers, ...headersOf(request) });
		const body = wantsDigest(request, offers, screened) ? await readBody(request, maxBodyBytes) : undefined;
		const asked = {
			acceptPayment: request.headers.get(ACCEPT_PAYMENT) ?? undefined,
			bodyDigest: body === undefined || body === "too long" ? "" : digestOf(body),
		};
		if (body === "too long") return toResponse(refusalAnswer(engine, offers, tooLong(maxBodyBytes), asked));
		if (screened.kind === "refused") return toResponse(refusalAnswer(engine, offers, screened, asked));

		const { pathname, search } = new URL(request.url);
		const admission = await engine.admit(
			{
				method: request.method,
				url: pathname + search,
				...headersOf(request),
				bodyDigest: asked.bodyDigest,
				offers,
			},
			screened,
		);
		if (admission.kind !== "admitted") return toResponse(ownAnswer(engine, offers, admission, asked));
		const forHandler = body === undefined ? request : new Request(request, { body: asBody(body) });
		const outcome = await deliver(engine, admission, request, () => handler(forHandler, admission.payment, ...rest));
		return "kind" in outcome ? toResponse(refusalAnswer(engine, offers, outcome, asked)) : outcome;
	};

	async function offersOf(request: Request): Promise<readonly Offer[] | Refused> {
		try {
			return await prices.of(route, price, request);
		} catch (error) {
			return engine.refusalFor(error);
		}
	}
}

/** Runs the handler, and takes the payment before anything of its answer leaves, or gives it back. */
async function deliver(
	engine: PaymentEngine,
	admitted: Admitted,
	request: Request,
	serve: () => Response | Promise<Response>,
): Promise<Response | Refused> {
	const release = () => admitted.release().catch((error: unknown) => void engine.refusalFor(error));
	let response: Response;
	let opened: Opened;
	try {
		response = await serve();
		// What an answer fails with before it begins, it fails with before it is paid.
		opened = await openBody(response, request.signal);
	} catch (error) {
		await release();
		throw error;
	}
	if (response.status >= 400 || opened.kind === "withdrawn") {
		await release();
		return new Response(opened.kind === "withdrawn" ? null : opened.stream, response);
	}
	const { stream } = opened;
	const whole = opened.kind === "whole" ? opened.bytes : null;
	const captured = await admitted
		.capture((receipt) =>
			storedResponse(response.status, remember(response.headers), whole, receipt, engine.limits.maxReplayBytes),
		)
		.catch((error: unknown) => engine.refusalFor(error));
	if (captured.kind === "refused") {
		await stream?.cancel().catch(() => undefined);
		return captured;
	}
	return withReceipt(response, stream, captured.receipt);
}

function withReceipt(response: Response, stream: ReadableStream<Uint8Array> | null, receipt: Receipt): Response {
	const headers = new Headers(response.headers);
	headers.set(PAYMENT_RECEIPT, encodeReceipt(receipt));
	headers.set(CACHE_CONTROL, privateCache(headers.get(CACHE_CONTROL) ?? ""));
	const { status, statusText } = response;
	if (stream === null || !isEventStream(headers.get("content-type")))
		return new Response(stream, { status, statusText, headers });
	headers.delete("content-length");
	const end = new TransformStream<Uint8Array, Uint8Array>({
		flush: (controller) => controller.enqueue(new TextEncoder().encode(receiptEvent(receipt))),
	});
	return new Response(stream.pipeThrough(end), { status, statusText, headers });
}

function headersOf({ headers }: Request) {
	const authorization = headers.get(AUTHORIZATION);
	return {
		authorization: authorization === null ? [] : [authorization],
		idempotencyKey: headers.get(IDEMPOTENCY_KEY) ?? undefined,
	};
}

/** As the URL says it. */
function transportOf({ url }: Request): Transport {
	const { protocol, hostname } = new URL(url);
	return { isSecure: protocol === "https:", isLoopback: isLoopback(hostname) };
}

/** Whether somebody asks for the digest of the body: a key stands for it, or a challenge is, or will be, bound to it. */
function wantsDigest({ body, headers }: Request, offers: readonly Offer[], screened: Screened | Refused): boolean {
	if (body === null) return false;
	if (screened.kind === "refused") return screened.problem.status === 402 && offers.some(({ bindBody }) => bindBody);
	return headers.has(IDEMPOTENCY_KEY) || screened.credential.challenge.digest !== undefined;
}

async function readBody({ body }: Request, maxBytes: number): Promise<Uint8Array | "too long"> {
	const chunks: Uint8Array[] = [];
	let length = 0;
	for await (const chunk of body ?? []) {
		length += chunk.byteLength;
		if (length > maxBytes) return "too long";
		chunks.push(chunk);
	}
	return Buffer.concat(chunks);
}

/** RFC 9530; empty for an empty body. */
function digestOf(body: Uint8Array): string {
	return body.length === 0 ? "" : `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
}

function asBody(bytes: Uint8Array): Uint8Array<ArrayBuffer> | null {
	return bytes.length === 0 ? null : new Uint8Array(bytes);
}

function tooLong(maxBytes: number): Refused {
	return refused(
		problem("content-too-large", `A body that its payment is bound to has at most ${maxBytes} bytes here.`),
	);
}

function toResponse({ status, headers, body }: OwnAnswer): Response {
	const fields = new Headers();
	for (const [name, value] of Object.entries(headers)) {
		for (const one of typeof value === "string" ? [value] : value) fields.append(name, one);
	}
	return new Response(typeof body === "string" || body === null ? body : asBody(body), { status, headers: fields });
}
