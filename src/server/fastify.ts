import { createHash } from "node:crypto";
import { PassThrough, type Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import { ACCEPT_PAYMENT, IDEMPOTENCY_KEY, isLoopback, PAYMENT_RECEIPT, problem } from "../protocol/index.ts";
import type { Admitted, PaidRequest, Payment, Refused } from "./admission.ts";
import { type OwnAnswer, ownAnswer, refusalAnswer } from "./answer.ts";
import type { ChallengeFor, PaymentEngine } from "./engine.ts";
import { isEventStream } from "./eventStream.ts";
import {
	assertSendableHead,
	clearHeaders,
	hasBegun,
	isStream,
	type Payload,
	setOwnAnswer,
	setReceipt,
	settlePayload,
	storedReply,
	withReceiptEvent,
} from "./fastifyReply.ts";
import type { PaymentHooks } from "./hooks.ts";
import type { Offer } from "./method.ts";
import { type Price, PriceList } from "./price.ts";
import { type Screened, unpaid } from "./screen.ts";

declare module "fastify" {
	interface FastifyContextConfig {
		/**
		 * What this route costs; several prices for a choice, the preferred one first, or a function of the request. Without it
		 * the route is free.
		 */
		payment?: Price<FastifyRequest>;
	}
	interface FastifyRequest {
		/** The payment this request came with; `null` on free routes. */
		payment: Payment | null;
	}
}

/** What the hooks of one paid request hand on to each other. */
type PaidState = {
	/** Absent until they are made, where the price is a function. */
	offers?: readonly Offer[];
	screened?: Screened;
	/** Answered once the body was read, since the challenge is to be bound to it. */
	refused?: Refused;
	/** Of the body, as far as it was read; final when it has ended. */
	body?: { hash: ReturnType<typeof createHash>; length: number; ended: boolean; digest?: string };
	admitted?: Admitted;
	/** An answer went through `onSend`. */
	answered?: boolean;
};

const STATE = Symbol("sluice.payment");
/** The plugin itself has answered: with a refusal, a receipt, or an earlier answer. */
const OWN_ANSWER = Symbol("sluice.ownAnswer");
/** The route's own, last `onSend` hook takes the payment, not the one of all routes. */
const SETTLED_LAST = Symbol("sluice.settledLast");
type PaidFastifyRequest = FastifyRequest & { [STATE]?: PaidState; [OWN_ANSWER]?: true; [SETTLED_LAST]?: true };

/** A handler took the socket from Fastify: nothing could be captured before its first byte. */
export class HijackError extends Error {
	override readonly name = "HijackError";
	readonly code = "HIJACK";
	constructor() {
		super("a paid route can't hijack its reply: return the body or a stream, so that it is paid before it leaves");
	}
}

export type SluiceOptions = Readonly<{
	engine: PaymentEngine;
	/** What the application wants to be told, as long as this Fastify instance lives. */
	hooks?: PaymentHooks;
}>;

/**
 * Fastify plugin: a route with `config.payment` is served to whoever pays for it. A thin face, all rules are the engine's.
 *
 * A request without a good credential is answered before its body is read, unless its price is made from the body or its
 * challenge is bound to it; the money moves after the body was parsed and validated, right before the handler. Answers below
 * 400 are captured before their first byte leaves, all others cost nothing. Await the registration before you declare routes:
 * then a wrong price is an error at start-up, and an `onSend` hook of yours that fails costs nobody anything. Hooks that
 * authenticate belong before it: they answer 401 before anything is said of payment.
 *
 * @example
 * await app.register(sluice, { engine });
 * app.get("/quote", { config: { payment: { price: "100" } } }, async () => ({ quote: 42 }));
 */
export const sluice = fastifyPlugin<SluiceOptions>(
	async (app, { engine, hooks }) => {
		const prices = new PriceList<FastifyRequest>(engine);
		if (hooks !== undefined) {
			const stop = engine.observe(hooks);
			app.addHook("onClose", async () => stop());
		}

		app.decorateRequest("payment", null);

		app.addHook("onRoute", (route) => {
			const { method, url, config } = route;
			if (config?.payment === undefined) return;
			prices.constant(`${method} ${url}`, config.payment);
			// After all other hooks, so that none of them can fail once the payment is taken.
			route.onSend = [route.onSend ?? [], settle].flat();
			route.onRequest = [markSettledLast, route.onRequest ?? []].flat();
		});

		app.addHook("onRequest", async (request: PaidFastifyRequest, reply) => {
			const { payment } = request.routeOptions.config;
			if (payment === undefined) return undefined;
			const state: PaidState = {};
			request[STATE] = state;
			const plain = engine.transportRefusal({ isSecure: request.protocol === "https", isLoopback: isLocal(request) });
			if (plain !== undefined) return refuse(request, reply, [], plain);
			const offers = prices.constant(routeOf(request), payment);
			if (offers === undefined) return undefined;
			const refusal = look(request, state, offers);
			if (refusal === undefined) return manage(request, reply, state);
			const binds = refusal.problem.status === 402 && hasBody(request) && offers.some(({ bindBody }) => bindBody);
			if (!binds) return refuse(request, reply, offers, refusal);
			state.refused = refusal;
			return undefined;
		});

		app.addHook("preParsing", async (request: PaidFastifyRequest, _reply, body) => {
			const state = request[STATE];
			const isRead = request.method !== "GET" && request.method !== "HEAD";
			if (state === undefined || !isRead || !wantsDigest(request, state)) return body;
			state.body = { hash: createHash("sha256"), length: 0, ended: false };
			return hashing(body, state.body);
		});

		/** The body is there: what had to wait for it. */
		app.addHook("preValidation", async (request: PaidFastifyRequest, reply) => {
			const { payment } = request.routeOptions.config;
			const state = request[STATE];
			if (payment === undefined || state === undefined) return undefined;
			if (state.refused !== undefined) return refuse(request, reply, state.offers ?? [], state.refused);
			if (state.offers !== undefined) return undefined;
			const offers = await offersOf(request, payment);
			if ("kind" in offers) return refuse(request, reply, [], offers);
			const refusal = look(request, state, offers);
			return refusal === undefined ? manage(request, reply, state) : refuse(request, reply, offers, refusal);
		});

		app.addHook("preHandler", async (request: PaidFastifyRequest, reply) => {
			if (request.routeOptions.config.payment === undefined) return undefined;
			const state = request[STATE];
			// Never without `onRequest`: a paid route that it did not see is not served.
			if (state?.screened === undefined) return withhold(request, reply);
			return admit(request, reply, state, state.screened);
		});

		app.addHook("onSend", async (request, reply, payload) => {
			return (request as PaidFastifyRequest)[SETTLED_LAST] ? payload : settle(request, reply, payload);
		});

		/** The offers for a request whose price may be the application's to make. What fails there is no free content (I10). */
		async function offersOf(
			request: FastifyRequest,
			payment: Price<FastifyRequest>,
		): Promise<readonly Offer[] | Refused> {
			try {
				return await prices.of(routeOf(request), payment, request);
			} catch (error) {
				return engine.refusalFor(error);
			}
		}

		/** Keeps what the credential is, or says why it is none. */
		function look(request: FastifyRequest, state: PaidState, offers: readonly Offer[]): Refused | undefined {
			state.offers = offers;
			const screened = engine.screen({ offers, ...headersOf(request) });
			if (screened.kind === "refused") return screened;
			state.screened = screened;
			return undefined;
		}

		/** About the payment itself: the route's handler, body and validation have no part in it (D11). */
		async function manage(request: PaidFastifyRequest, reply: FastifyReply, state: PaidState) {
			const { screened } = state;
			if (screened === undefined || !engine.isManagement(request.method, screened)) return undefined;
			return admit(request, reply, state, screened);
		}

		async function admit(request: PaidFastifyRequest, reply: FastifyReply, state: PaidState, screened: Screened) {
			const { offers = [] } = state;
			if (state.body?.ended === false && hasBody(request)) {
				const detail = "An Idempotency-Key needs a body that was read to its end before the handler; send none here.";
				return refuse(request, reply, offers, { kind: "refused", problem: problem("bad-request", detail) });
			}
			const admission = await engine.admit(paidRequest(request, state), screened);
			if (admission.kind !== "admitted")
				return answer(request, reply, ownAnswer(engine, offers, admission, asked(request)));
			if (reply.raw.destroyed || reply.raw.closed) {
				// The client is gone already: there is nobody to serve.
				await admission.release();
				return reply.hijack();
			}
			reply.hijack = () => {
				throw new HijackError();
			};
			state.admitted = admission;
			request.payment = admission.payment;
			// The client may leave before there is an answer.
			reply.raw.once("close", () => {
				if (!state.answered) void endUnanswered(admission, reply).catch((error) => engine.refusalFor(error));
			});
			return undefined;
		}

		async function settle(request: PaidFastifyRequest, reply: FastifyReply, sent: unknown): Promise<unknown> {
			const state = request[STATE];
			if (state?.admitted === undefined) {
				if (isEarned(request, reply)) return sent;
				// Something before us has answered a request to a paid route: a cache, another plugin. It was not paid for.
				if (isStream(sent)) sent.destroy();
				clearHeaders(reply);
				return setOwnAnswer(reply, await unpaidAnswer(request));
			}
			if (state.answered) {
				// A hook failed after the payment was taken: an error carries no receipt.
				if (reply.statusCode >= 400) reply.removeHeader(PAYMENT_RECEIPT);
				return sent;
			}
			state.answered = true;
			const { admitted, offers = [] } = state;
			const payload = await judge(reply, sent, request.raw.socket?.destroyed === true).catch(async (error: unknown) => {
				await release(admitted);
				throw error;
			});
			if (payload === WITHDRAWN) {
				await release(admitted);
				return "";
			}
			if (reply.statusCode >= 400) {
				await release(admitted);
				return payload;
			}
			const captured = await admitted
				.capture((receipt) => storedReply(reply, payload, receipt, engine.limits.maxReplayBytes))
				.catch((error: unknown) => engine.refusalFor(error));
			if (captured.kind === "captured") {
				setReceipt(reply, captured.receipt);
				if (!isEventStream(String(reply.getHeader("content-type") ?? ""))) return payload;
				reply.removeHeader("content-length");
				return withReceiptEvent(payload, captured.receipt);
			}
			// Nothing may be delivered: the answer becomes the refusal.
			if (isStream(payload)) payload.destroy();
			clearHeaders(reply);
			return setOwnAnswer(reply, refusalAnswer(engine, offers, captured, asked(request)));
		}

		/** Nobody has looked at the payment of this request: it is not served. */
		async function withhold(request: PaidFastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
			return answer(request, reply, await unpaidAnswer(request));
		}

		async function unpaidAnswer(request: PaidFastifyRequest): Promise<OwnAnswer> {
			const { payment = [] } = request.routeOptions.config;
			const offers = request[STATE]?.offers ?? (await offersOf(request, payment));
			return "kind" in offers
				? refusalAnswer(engine, [], offers, asked(request))
				: refusalAnswer(engine, offers, unpaid(), asked(request));
		}

		function refuse(
			request: PaidFastifyRequest,
			reply: FastifyReply,
			offers: readonly Offer[],
			refused: Refused,
		): FastifyReply {
			return answer(request, reply, refusalAnswer(engine, offers, refused, asked(request)));
		}

		/** A store that fails now has nothing promised after its restart; the handler's own answer stands. */
		async function release(admitted: Admitted): Promise<void> {
			await admitted.release().catch((error: unknown) => engine.refusalFor(error));
		}
	},
	{ name: "sluice", fastify: "5.x" },
);

/** The client left before there was anything to send. */
const WITHDRAWN = Symbol("sluice.withdrawn");

/** The payload as it is going to be sent, once it is certain that it can be. @throws what keeps it from being sent */
async function judge(reply: FastifyReply, sent: unknown, isGone: boolean): Promise<Payload | typeof WITHDRAWN> {
	const payload = settlePayload(reply, sent);
	if (!isGone) {
		if (reply.statusCode >= 400) return payload;
		assertSendableHead(reply);
		if (!isStream(payload) || (await hasBegun(payload, reply.raw))) return payload;
	}
	// Nobody reads it: whoever feeds it may stop.
	if (isStream(payload)) payload.destroy();
	return WITHDRAWN;
}

/** Errors, our own answers and free routes. */
function isEarned(request: PaidFastifyRequest, reply: FastifyReply): boolean {
	return request.routeOptions.config.payment === undefined || request[OWN_ANSWER] === true || reply.statusCode >= 400;
}

async function markSettledLast(request: PaidFastifyRequest): Promise<void> {
	request[SETTLED_LAST] = true;
}

function headersOf({ headers, raw }: FastifyRequest): Pick<PaidRequest, "authorization" | "idempotencyKey"> {
	// Node keeps only the first of several Authorization fields in `headers`; all of them count.
	const authorization = raw.headersDistinct?.authorization ?? [headers.authorization ?? ""];
	const key = headers[IDEMPOTENCY_KEY.toLowerCase()];
	return { authorization, idempotencyKey: Array.isArray(key) ? key.join(",") : key };
}

function hasBody({ headers }: FastifyRequest): boolean {
	return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}

function paidRequest(request: PaidFastifyRequest, { offers = [] }: PaidState): PaidRequest {
	return { method: request.method, url: request.url, ...headersOf(request), bodyDigest: bodyDigest(request), offers };
}

function routeOf({ routeOptions }: FastifyRequest): string {
	return `${String(routeOptions.method)} ${routeOptions.url ?? ""}`;
}

/** From this very machine, as far as Fastify can tell: behind a proxy that it trusts, the client's own address counts. */
function isLocal({ ip }: FastifyRequest): boolean {
	return !ip || isLoopback(ip);
}

/** Whether somebody will ask for the digest of this body. */
function wantsDigest(request: FastifyRequest, { offers, refused, screened }: PaidState): boolean {
	if (offers === undefined || refused !== undefined) return true;
	return screened?.credential.challenge.digest !== undefined || headersOf(request).idempotencyKey !== undefined;
}

/** Digest of the body (RFC 9530), empty where there is none, or none that was read to its end. */
function bodyDigest(request: PaidFastifyRequest): string {
	const body = request[STATE]?.body;
	if (body === undefined || !body.ended || body.length === 0) return "";
	body.digest ??= `sha-256=:${body.hash.digest("base64")}:`;
	return body.digest;
}

function asked(request: PaidFastifyRequest): ChallengeFor {
	const accept = request.headers[ACCEPT_PAYMENT.toLowerCase()];
	return {
		acceptPayment: Array.isArray(accept) ? accept.join(",") : accept,
		bodyDigest: bodyDigest(request),
	};
}

/** The body, hashed as it passes. */
function hashing(body: Readable & { receivedEncodedLength?: number }, seen: NonNullable<PaidState["body"]>): Readable {
	const through = new PassThrough();
	body.on("data", (chunk: Buffer) => {
		seen.hash.update(chunk);
		seen.length += chunk.length;
	});
	body.on("end", () => {
		seen.ended = true;
	});
	body.on("error", (error) => through.destroy(error));
	// Fastify compares it with Content-Length where a hook before this one has unpacked the body.
	Object.defineProperty(through, "receivedEncodedLength", { get: () => body.receivedEncodedLength });
	return body.pipe(through);
}

async function endUnanswered(admitted: Admitted, { raw }: FastifyReply): Promise<void> {
	// A handler that wrote to the socket past Fastify: what it served, it served unpaid, so it is paid now.
	if (!raw.headersSent || raw.statusCode >= 400) return admitted.release();
	await admitted.capture(() => ({ status: raw.statusCode, headers: {}, body: null }));
}

function answer(request: PaidFastifyRequest, reply: FastifyReply, own: OwnAnswer): FastifyReply {
	request[OWN_ANSWER] = true;
	return reply.send(setOwnAnswer(reply, own));
}
