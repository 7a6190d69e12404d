import { ACCEPT_PAYMENT, AUTHORIZATION, IDEMPOTENCY_KEY, isLoopback, problem } from "../protocol/index.ts";
import { type Payment, type Refused, refused } from "./admission.ts";
import { ownAnswer, refusalAnswer } from "./answer.ts";
import type { PaymentEngine, Transport } from "./engine.ts";
import { deliver, type Served } from "./fetchDeliver.ts";
import { toResponse } from "./fetchResponse.ts";
import type { PriceConfig } from "./method.ts";
import { type Price, PriceList } from "./price.ts";
import { bodyHash, digestOf, isBodyBound } from "./requestBody.ts";
import type { MeteredPayment } from "./stream/meterOf.ts";

/**
 * What serves a paid request. Whatever a framework gives besides the request is handed on. Of a metered price it may also
 * return an async iterable of strings, bytes or events, as an async generator function does: a stream of Server-Sent
 * Events, each piece made when its reader asks for it and sent when it is paid for.
 */
export type PaidHandler<Rest extends readonly unknown[] = readonly []> = (
	request: Request,
	payment: Payment,
	...rest: Rest
) => Served | Promise<Served>;

/** The same where every price is metered: then there is a meter. */
export type MeteredHandler<Rest extends readonly unknown[] = readonly []> = (
	request: Request,
	payment: MeteredPayment,
	...rest: Rest
) => Served | Promise<Served>;

/** A price by what a request uses. */
export type MeteredPrice = PriceConfig & Readonly<{ metered: true | object }>;

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

/** What a framework calls. */
export type PaidFetch<Rest extends readonly unknown[]> = (request: Request, ...rest: Rest) => Promise<Response>;

const MAX_BODY_BYTES = 1_048_576;

const LAST_EVENT_ID = "Last-Event-ID";

/**
 * Makes a Web-standard handler out of one that is paid for: for Hono, Next, Bun, Deno, and whatever else passes a `Request`
 * and takes a `Response`. A thin face, all rules are the engine's.
 *
 * Answers below 400 are captured before their first byte leaves; all others, handlers that throw, and clients that leave
 * before there is an answer cost nothing. What the handler throws, the returned function rejects with. Authenticate before
 * it: it answers 402 to whoever has not paid.
 *
 * Answers of a metered price are paid for while they leave, from their first piece on. Event streams end with their receipt;
 * other ones can't have it as a trailer, since a `Response` has none: the client asks for it with `HEAD`.
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
 * @example
 * // By the token, as it is made:
 * const chat = paid(engine, { price: "100", unitType: "token", metered: true }, async function* (request, { meter }) {
 *   for await (const token of model(await request.text(), meter.signal)) {
 *     await meter.charge(1);
 *     yield { data: token };
 *   }
 * });
 */
export function paid<Rest extends readonly unknown[] = readonly []>(
	engine: PaymentEngine,
	price: MeteredPrice | readonly MeteredPrice[],
	handler: MeteredHandler<Rest>,
	options?: FetchOptions,
): PaidFetch<Rest>;
export function paid<Rest extends readonly unknown[] = readonly []>(
	engine: PaymentEngine,
	price: Price<Request>,
	handler: PaidHandler<Rest>,
	options?: FetchOptions,
): PaidFetch<Rest>;
export function paid<Rest extends readonly unknown[] = readonly []>(
	engine: PaymentEngine,
	price: Price<Request>,
	handler: PaidHandler<Rest> | MeteredHandler<Rest>,
	{ route = "paid handler", maxBodyBytes = MAX_BODY_BYTES, transport = transportOf }: FetchOptions = {},
): PaidFetch<Rest> {
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
			handler(request, admission.payment as MeteredPayment, ...rest),
		);
		return "kind" in outcome ? toResponse(refusalAnswer(engine, offers, outcome, asked)) : outcome;
	};
}

function headOf({ method, url, headers }: Request) {
	const { pathname, search } = new URL(url);
	const authorization = headers.get(AUTHORIZATION);
	return {
		method,
		url: pathname + search,
		authorization: authorization === null ? [] : [authorization],
		idempotencyKey: headers.get(IDEMPOTENCY_KEY) ?? undefined,
		lastEventId: headers.get(LAST_EVENT_ID) || undefined,
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
