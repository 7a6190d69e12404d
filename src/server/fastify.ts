import { createHash } from "node:crypto";
import { PassThrough, type Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import { IDEMPOTENCY_KEY, PAYMENT_RECEIPT, problem, receiptToJson } from "../protocol/index.ts";
import type { Admission, Admitted, PaidRequest, Payment, Refused } from "./admission.ts";
import type { PaymentEngine } from "./engine.ts";
import {
	assertSendableHead,
	clearHeaders,
	hasBegun,
	isStream,
	type Payload,
	replay,
	setReceipt,
	setRefusal,
	settlePayload,
	storedResponse,
} from "./fastifyReply.ts";
import type { Offer, PriceConfig } from "./method.ts";
import { type Screened, unpaid } from "./screen.ts";

declare module "fastify" {
	interface FastifyContextConfig {
		/** What this route costs; several for a choice, the preferred one first. Without it the route is free. */
		payment?: PriceConfig | readonly PriceConfig[];
	}
	interface FastifyRequest {
		/** The payment this request came with; `null` on free routes. */
		payment: Payment | null;
	}
}

/** What the hooks of one paid request hand on to each other. */
type PaidState = {
	readonly offers: readonly Offer[];
	readonly screened: Screened;
	/** Of the body, as far as it was read; final when it has ended. */
	body?: { hash: ReturnType<typeof createHash>; length: number; ended: boolean };
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

/**
 * Fastify plugin: a route with `config.payment` is served to whoever pays for it. A thin face, all rules are the engine's.
 *
 * A request without a good credential is answered before its body is read; the money moves after the body was parsed
 * and validated, right before the handler. Answers below 400 are captured before their first byte leaves, all others cost
 * nothing. Await the registration before you declare routes: then a wrong price is an error at start-up, and an
 * `onSend` hook of yours that fails costs nobody anything.
 *
 * @example
 * await app.register(sluice, { engine });
 * app.get("/quote", { config: { payment: { price: "100" } } }, async () => ({ quote: 42 }));
 */
export const sluice = fastifyPlugin<{ engine: PaymentEngine }>(
	async (app, { engine }) => {
		const offersByConfig = new WeakMap<object, readonly Offer[]>();

		/** Also for routes that were declared before the plugin, which `onRoute` does not see. */
		function offersOf(route: string, price: PriceConfig | readonly PriceConfig[]): readonly Offer[] {
			const known = offersByConfig.get(price);
			if (known !== undefined) return known;
			const offers = engine.offers(route, price);
			offersByConfig.set(price, offers);
			return offers;
		}

		app.decorateRequest("payment", null);

		app.addHook("onRoute", (route) => {
			const { method, url, config } = route;
			if (config?.payment === undefined) return;
			offersOf(`${method} ${url}`, config.payment);
			// After all other hooks, so that none of them can fail once the payment is taken.
			route.onSend = [route.onSend ?? [], settle].flat();
			route.onRequest = [markSettledLast, route.onRequest ?? []].flat();
		});

		app.addHook("onRequest", async (request: PaidFastifyRequest, reply) => {
			const { config, method, url } = request.routeOptions;
			if (config.payment === undefined) return undefined;
			const offers = offersOf(`${method} ${url}`, config.payment);
			const screened = engine.screen({ offers, ...headersOf(request) });
			if (screened.kind === "refused") return refuse(reply, engine, offers, screened);
			const state: PaidState = { offers, screened };
			request[STATE] = state;
			// About the channel itself: the route's handler, body and validation have no part in it (D11).
			return engine.isManagement(request.method, screened) ? admit(request, reply, state) : undefined;
		});

		app.addHook("preParsing", async (request: PaidFastifyRequest, _reply, body) => {
			const state = request[STATE];
			const isRead = request.method !== "GET" && request.method !== "HEAD";
			if (state === undefined || !isRead || headersOf(request).idempotencyKey === undefined) return body;
			state.body = { hash: createHash("sha256"), length: 0, ended: false };
			return hashing(body, state.body);
		});

		app.addHook("preHandler", async (request: PaidFastifyRequest, reply) => {
			const { config, method, url } = request.routeOptions;
			if (config.payment === undefined) return undefined;
			const state = request[STATE];
			// Never without `onRequest`: a paid route that it did not see is not served.
			if (state === undefined) return refuse(reply, engine, offersOf(`${method} ${url}`, config.payment), unpaid());
			return admit(request, reply, state);
		});

		app.addHook("onSend", async (request, reply, payload) => {
			return (request as PaidFastifyRequest)[SETTLED_LAST] ? payload : settle(request, reply, payload);
		});

		async function admit(request: PaidFastifyRequest, reply: FastifyReply, state: PaidState) {
			if (state.body?.ended === false && hasBody(request)) {
				const detail = "An Idempotency-Key needs a body that was read to its end before the handler; send none here.";
				return refuse(reply, engine, state.offers, { kind: "refused", problem: problem("bad-request", detail) });
			}
			const admission = await engine.admit(paidRequest(request, state), state.screened);
			if (admission.kind !== "admitted") return answer(reply, engine, state.offers, admission);
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
			if (state?.admitted === undefined) return isEarned(request, reply) ? sent : withhold(request, reply, sent);
			if (state.answered) {
				// A hook failed after the payment was taken: an error carries no receipt.
				if (reply.statusCode >= 400) reply.removeHeader(PAYMENT_RECEIPT);
				return sent;
			}
			state.answered = true;
			const { admitted, offers } = state;
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
				.capture((receipt) => storedResponse(reply, payload, receipt, engine.limits.maxReplayBytes))
				.catch((error: unknown) => engine.refusalFor(error));
			if (captured.kind === "captured") {
				setReceipt(reply, captured.receipt);
				return payload;
			}
			// Nothing may be delivered: the answer becomes the refusal.
			if (isStream(payload)) payload.destroy();
			clearHeaders(reply);
			return setRefusal(reply, engine, offers, captured);
		}

		/** Something before us has answered a request to a paid route: a cache, another plugin. It was not paid for. */
		function withhold(request: FastifyRequest, reply: FastifyReply, sent: unknown): string {
			const { config, method, url } = request.routeOptions;
			if (isStream(sent)) sent.destroy();
			clearHeaders(reply);
			return setRefusal(reply, engine, offersOf(`${method} ${url}`, config.payment ?? []), unpaid());
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

function paidRequest(request: FastifyRequest, { offers, body }: PaidState): PaidRequest {
	const bodyDigest = body?.ended && body.length > 0 ? `sha-256=:${body.hash.digest("base64")}:` : "";
	return { method: request.method, url: request.url, ...headersOf(request), bodyDigest, offers };
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

function answer(
	reply: FastifyReply,
	engine: PaymentEngine,
	offers: readonly Offer[],
	admission: Exclude<Admission, Admitted>,
): FastifyReply {
	(reply.request as PaidFastifyRequest)[OWN_ANSWER] = true;
	switch (admission.kind) {
		case "refused":
			return refuse(reply, engine, offers, admission);
		case "managed":
			setReceipt(reply, admission.receipt);
			// A string: the route's response schema is for its own answers.
			reply.code(200).header("content-type", "application/json; charset=utf-8");
			return reply.send(JSON.stringify(receiptToJson(admission.receipt)));
		case "replayed":
			return replay(reply, admission.response);
	}
}

function refuse(reply: FastifyReply, engine: PaymentEngine, offers: readonly Offer[], refused: Refused): FastifyReply {
	(reply.request as PaidFastifyRequest)[OWN_ANSWER] = true;
	return reply.send(setRefusal(reply, engine, offers, refused));
}
