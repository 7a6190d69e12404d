import { createHash } from "node:crypto";
import { PassThrough, type Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import {
	CACHE_CONTROL,
	encodeReceipt,
	formatChallenge,
	IDEMPOTENCY_KEY,
	PAYMENT_RECEIPT,
	PROBLEM_CONTENT_TYPE,
	RETRY_AFTER,
	type Receipt,
	receiptToJson,
	WWW_AUTHENTICATE,
} from "../protocol/index.ts";
import type { Admission, Admitted, PaidRequest, Payment, Refused } from "./admission.ts";
import type { PaymentEngine } from "./engine.ts";
import { type Offer, type PriceConfig, parseOffers } from "./offer.ts";
import { isManagement, type Screened, unpaid } from "./screen.ts";
import type { StoredResponse } from "./store/store.ts";

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
	readonly bodyHash: ReturnType<typeof createHash>;
	bodyLength: number;
	admitted?: Admitted;
	/** An answer went through `onSend`. */
	answered?: boolean;
};

const STATE = Symbol("sluice.payment");
type PaidFastifyRequest = FastifyRequest & { [STATE]?: PaidState };

/**
 * Fastify plugin: a route with `config.payment` is served to whoever pays for it. A thin face, all rules are the engine's.
 *
 * A request without a good credential is answered before its body is read; the money moves after the body was parsed
 * and validated, right before the handler. Answers below 400 are captured before their first byte leaves, all others
 * cost nothing.
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
			const offers = parseOffers(route, price);
			offersByConfig.set(price, offers);
			return offers;
		}

		app.decorateRequest("payment", null);

		app.addHook("onRoute", ({ method, url, config }) => {
			if (config?.payment !== undefined) offersOf(`${method} ${url}`, config.payment);
		});

		app.addHook("onRequest", async (request: PaidFastifyRequest, reply) => {
			const { config, method, url } = request.routeOptions;
			if (config.payment === undefined) return undefined;
			const offers = offersOf(`${method} ${url}`, config.payment);
			const screened = engine.screen({ offers, ...headersOf(request) });
			if (screened.kind === "refused") return refuse(reply, engine, offers, screened);
			const state: PaidState = { offers, screened, bodyHash: createHash("sha256"), bodyLength: 0 };
			// About the channel itself: the route's handler, body and validation have no part in it (D11).
			if (isManagement(request.method, screened)) return admit(request, reply, state);
			request[STATE] = state;
			return undefined;
		});

		app.addHook("preParsing", async (request: PaidFastifyRequest, _reply, body) => {
			const state = request[STATE];
			if (state === undefined || headersOf(request).idempotencyKey === undefined) return body;
			return hashing(body, state);
		});

		app.addHook("preHandler", async (request: PaidFastifyRequest, reply) => {
			const { config, method, url } = request.routeOptions;
			if (config.payment === undefined) return undefined;
			const state = request[STATE];
			// Never without `onRequest`: a paid route that it did not see is not served.
			if (state === undefined) return refuse(reply, engine, offersOf(`${method} ${url}`, config.payment), unpaid());
			return admit(request, reply, state);
		});

		async function admit(request: PaidFastifyRequest, reply: FastifyReply, state: PaidState) {
			const admission = await engine.admit(paidRequest(request, state), state.screened);
			if (admission.kind !== "admitted") return answer(reply, engine, state.offers, admission);
			state.admitted = admission;
			request.payment = admission.payment;
			// The client may leave before there is an answer.
			reply.raw.once("close", () => {
				if (!state.answered) void endUnanswered(admission, reply).catch((error) => engine.refusalFor(error));
			});
			return undefined;
		}

		app.addHook("onSend", async (request: PaidFastifyRequest, reply, payload) => {
			const state = request[STATE];
			if (state?.admitted === undefined) return payload;
			const { admitted, offers } = state;
			state.answered = true;
			if (reply.statusCode >= 400 || request.raw.socket?.destroyed === true) {
				await admitted.release();
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
			reply.removeHeader("content-length");
			setRefusal(reply, engine, offers, captured);
			return JSON.stringify(captured.problem);
		});
	},
	{ name: "sluice", fastify: "5.x" },
);

function headersOf({ headers, raw }: FastifyRequest): Pick<PaidRequest, "authorization" | "idempotencyKey"> {
	// Node keeps only the first of several Authorization fields in `headers`; all of them count.
	const authorization = raw.headersDistinct?.authorization ?? [headers.authorization ?? ""];
	const key = headers[IDEMPOTENCY_KEY.toLowerCase()];
	return { authorization, idempotencyKey: Array.isArray(key) ? key.join(",") : key };
}

function paidRequest(request: FastifyRequest, { offers, bodyHash, bodyLength }: PaidState): PaidRequest {
	const bodyDigest = bodyLength === 0 ? "" : bodyHash.digest("base64url");
	return { method: request.method, url: request.url, ...headersOf(request), bodyDigest, offers };
}

/** The body, hashed as it passes. */
function hashing(body: Readable & { receivedEncodedLength?: number }, state: PaidState): Readable {
	const through = new PassThrough();
	body.on("data", (chunk: Buffer) => {
		state.bodyHash.update(chunk);
		state.bodyLength += chunk.length;
	});
	body.on("error", (error) => through.destroy(error));
	return body.pipe(through);
}

async function endUnanswered(admitted: Admitted, reply: FastifyReply): Promise<void> {
	// A hijacked reply passed by `onSend`: whatever it sent, it sent unpaid, so it is paid now.
	if (reply.raw.headersSent) await admitted.capture(() => ({ status: reply.raw.statusCode, headers: {}, body: null }));
	else await admitted.release();
}

function answer(
	reply: FastifyReply,
	engine: PaymentEngine,
	offers: readonly Offer[],
	admission: Exclude<Admission, Admitted>,
): FastifyReply {
	switch (admission.kind) {
		case "refused":
			return refuse(reply, engine, offers, admission);
		case "managed":
			setReceipt(reply, admission.receipt);
			return reply.code(200).send(receiptToJson(admission.receipt));
		case "replayed":
			return replay(reply, admission.response);
	}
}

function refuse(reply: FastifyReply, engine: PaymentEngine, offers: readonly Offer[], refused: Refused): FastifyReply {
	setRefusal(reply, engine, offers, refused);
	return reply.send(JSON.stringify(refused.problem));
}

function setRefusal(
	reply: FastifyReply,
	engine: PaymentEngine,
	offers: readonly Offer[],
	{ problem, retryAfterSeconds }: Refused,
): void {
	reply.code(problem.status).header("content-type", PROBLEM_CONTENT_TYPE).header(CACHE_CONTROL, "no-store");
	if (retryAfterSeconds !== undefined) reply.header(RETRY_AFTER, String(retryAfterSeconds));
	if (problem.status === 402) reply.header(WWW_AUTHENTICATE, engine.challenge(offers).map(formatChallenge));
}

function setReceipt(reply: FastifyReply, receipt: Receipt): void {
	reply.header(PAYMENT_RECEIPT, encodeReceipt(receipt)).header(CACHE_CONTROL, privateCache(reply));
}

/** What carries a receipt must not get into a shared cache (draft-httpauth-payment-00, Caching). */
function privateCache(reply: FastifyReply): string {
	const own = String(reply.getHeader(CACHE_CONTROL) ?? "");
	if (/\bprivate\b/i.test(own)) return own;
	return /\bno-store\b/i.test(own) ? "private, no-store" : "private";
}

function replay(reply: FastifyReply, { status, headers, body }: StoredResponse): FastifyReply {
	return reply
		.code(status)
		.headers(headers)
		.send(body === null ? undefined : Buffer.from(body));
}

/** Not kept: what belongs to the connection or is made anew for each answer. */
const OWN_OF_EACH_ANSWER = new Set(["connection", "content-length", "date", "keep-alive", "transfer-encoding"]);

function storedResponse(reply: FastifyReply, payload: unknown, receipt: Receipt, maxBytes: number): StoredResponse {
	const headers: Record<string, string> = {};
	for (const [name, value] of Object.entries(reply.getHeaders())) {
		if (value !== undefined && !OWN_OF_EACH_ANSWER.has(name))
			headers[name] = Array.isArray(value) ? value.join(", ") : String(value);
	}
	headers[PAYMENT_RECEIPT.toLowerCase()] = encodeReceipt(receipt);
	headers[CACHE_CONTROL.toLowerCase()] = privateCache(reply);
	const body = bytesOf(payload);
	return { status: reply.statusCode, headers, body: body !== null && body.length <= maxBytes ? body : null };
}

function bytesOf(payload: unknown): Uint8Array | null {
	if (payload === undefined || payload === null) return new Uint8Array();
	if (typeof payload === "string") return Buffer.from(payload);
	return payload instanceof Uint8Array ? payload : null;
}

function isStream(payload: unknown): payload is Readable {
	return typeof payload === "object" && payload !== null && "pipe" in payload && "destroy" in payload;
}
