import type { FastifyReply, FastifyRequest } from "fastify";
import fastifyPlugin from "fastify-plugin";
import { problem } from "../protocol/index.ts";
import { type Payment, type Refused, refused } from "./admission.ts";
import { type OwnAnswer, ownAnswer, refusalAnswer, releaseQuietly } from "./answer.ts";
import type { PaymentEngine } from "./engine.ts";
import { meterReply } from "./fastifyMetered.ts";
import { asked, hasBody, hashing, headersOf, paidRequest, routeOf, stateOf, transportOf } from "./fastifyRequest.ts";
import { answer, endUnanswered, settlement } from "./fastifySettle.ts";
import type { PaymentHooks } from "./hooks.ts";
import type { Offer } from "./method.ts";
import { EngineOptionsError } from "./options.ts";
import { type Price, PriceList } from "./price.ts";
import { isBodyBound } from "./requestBody.ts";
import { type Screened, unpaid } from "./screen.ts";
import { watchSilent } from "./silentConnections.ts";
import { isMetered } from "./stream/body.ts";

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

/** A handler took the socket from Fastify: nothing could be captured before its first byte. */
export class HijackError extends Error {
	override readonly name = "HijackError";
	readonly code = "HIJACK";
	constructor() {
		super("a paid route can't hijack its reply: return the body or a stream, so that it is paid before it leaves");
	}
}

/** What the plugin is registered with. */
export type SluiceOptions = Readonly<{
	engine: PaymentEngine;
	/** What the application wants to be told, as long as this Fastify instance lives. */
	hooks?: PaymentHooks;
}>;

/** In a route's configuration: its own, last hooks are ours, so that the ones of all routes leave it alone. */
const GUARDED = Symbol("sluice.guarded");

/**
 * Fastify plugin: a route with `config.payment` is served to whoever pays for it. A thin face, all rules are the engine's.
 *
 * A request without a good credential is answered before its body is read, unless its price is made from the body or its
 * challenge is bound to it; the money moves after the body was parsed and validated, right before the handler. Answers below
 * 400 are captured before their first byte leaves, all others cost nothing.
 *
 * Answers of metered routes are paid for while they leave: their handlers may return an async iterable, also as async
 * generator functions, which becomes a stream of Server-Sent Events unless they set another content type. To a client with
 * `TE: trailers` other streams end with their receipt as a trailer.
 *
 * Register it where all paid routes are: at the root, or in the plugin that declares them; it does not see those outside.
 * Await the registration before you declare routes: then a wrong price is an error at start-up, `onRequest` hooks of yours,
 * also a route's own, answer 401 or 403 before anything is said of payment, and an `onSend` hook that fails costs nobody
 * anything. Unpack request bodies in hooks that you add after it: a payment is bound to the bytes that were sent.
 *
 * @example
 * await app.register(sluice, { engine });
 * app.get("/quote", { config: { payment: { price: "100" } } }, async () => ({ quote: 42 }));
 */
export const sluice = fastifyPlugin<SluiceOptions>(
	async (app, { engine, hooks }) => {
		if (typeof engine?.admit !== "function")
			throw new EngineOptionsError(
				"the plugin needs an engine: app.register(sluice, { engine: await PaymentEngine.start(…) })",
			);
		if (app.hasRequestDecorator("payment"))
			throw new EngineOptionsError(
				"the plugin is registered here already, or another one has decorated request.payment",
			);
		const prices = new PriceList<FastifyRequest>(engine);
		const settle = settlement(engine, unpaidAnswer);
		const isGuarded = ({ routeOptions: { config } }: FastifyRequest) =>
			(config as { [GUARDED]?: unknown })[GUARDED] === prices;
		if (hooks !== undefined) {
			const stop = engine.observe(hooks);
			app.addHook("onClose", async () => stop());
		}

		// A closing server waits for its answers, and a stream may go on for long.
		let ending: NodeJS.Timeout | undefined;
		const endSilent = watchSilent(app.server);
		app.addHook("preClose", async () => {
			endSilent();
			ending = setTimeout(() => engine.endStreams(), engine.limits.drainDeadlineMs).unref();
		});
		app.addHook("onClose", async () => clearTimeout(ending));

		app.decorateRequest("payment", null);

		app.addHook("onRoute", (route) => {
			const { method, url, config } = route;
			if (config?.payment === undefined) return;
			prices.constant(`${method} ${url}`, config.payment);
			// Last of all: after those that may refuse for other reasons, and those that can fail once the payment is taken.
			route.onRequest = [route.onRequest ?? [], look].flat();
			route.onSend = [route.onSend ?? [], settle].flat();
			route.config = { ...config, [GUARDED]: prices } as typeof config;
		});

		// Also for routes that were declared before the plugin, which `onRoute` does not see.
		app.addHook("onRequest", async (request, reply) => {
			return isPaid(request) && !isGuarded(request) ? look(request, reply) : undefined;
		});

		app.addHook("preParsing", async (request, reply, body) => {
			const isRead = request.method !== "GET" && request.method !== "HEAD";
			if (!isPaid(request) || !isRead) return body;
			const state = stateOf(request);
			const { offers, looked } = state;
			const isBound =
				offers === undefined || looked === undefined || isBodyBound(looked, offers, headersOf(request).idempotencyKey);
			return isBound ? hashing(body, reply, state) : body;
		});

		/** The body is there: what had to wait for it. */
		app.addHook("preValidation", async (request, reply) => {
			if (!isPaid(request)) return undefined;
			if (stateOf(request).offers === undefined) {
				const made = await offersOf(request);
				if ("kind" in made) return refuse(request, reply, made);
				screen(request, made);
			}
			return decide(request, reply);
		});

		app.addHook("preHandler", async (request, reply) => {
			if (!isPaid(request)) return undefined;
			const { looked, admitted } = stateOf(request);
			if (admitted !== undefined) return undefined;
			// Never without a look at the payment: a paid route that the hooks before did not see is not served.
			if (looked?.kind !== "screened") return answer(request, reply, await unpaidAnswer(request));
			return admit(request, reply, looked);
		});

		app.addHook("onSend", async (request, reply, payload) => {
			return isPaid(request) && !isGuarded(request) ? settle(request, reply, payload) : payload;
		});

		/** Looks at the payment, as far as that goes without the body. */
		async function look(request: FastifyRequest, reply: FastifyReply) {
			const plain = engine.transportRefusal(transportOf(request));
			if (plain !== undefined) return refuse(request, reply, plain);
			const offers = prices.constant(routeOf(request), request.routeOptions.config.payment ?? []);
			if (offers === undefined) return undefined;
			const looked = screen(request, offers);
			const isDecidedByBody =
				looked.kind === "refused"
					? isBodyBound(looked, offers, undefined)
					: looked.credential.challenge.digest !== undefined;
			return isDecidedByBody && hasBody(request) ? undefined : decide(request, reply);
		}

		/** Keeps what the credential is, or why it is none. */
		function screen(request: FastifyRequest, offers: readonly Offer[]): Screened | Refused {
			const looked = engine.screen({ offers, ...headersOf(request) });
			Object.assign(stateOf(request), { offers, looked });
			return looked;
		}

		/** Refuses, or answers what is about the payment itself: the route's handler and validation have no part in it (D11). */
		async function decide(request: FastifyRequest, reply: FastifyReply) {
			const { looked } = stateOf(request);
			if (looked === undefined) return undefined;
			if (looked.kind === "refused") return refuse(request, reply, looked);
			return engine.isManagement(request.method, looked) ? admit(request, reply, looked) : undefined;
		}

		async function admit(request: FastifyRequest, reply: FastifyReply, screened: Screened) {
			const state = stateOf(request);
			if (state.body?.ended === false && hasBody(request)) {
				const detail =
					"A payment that is bound to its body needs one that is read before the handler; this route does not.";
				return refuse(request, reply, refused(problem("bad-request", detail)));
			}
			const admission = await engine.admit(paidRequest(request), screened);
			if (admission.kind !== "admitted")
				return answer(request, reply, ownAnswer(engine, state.offers ?? [], admission, asked(request)));
			if (reply.raw.destroyed || reply.raw.closed) {
				// The client is gone already: there is nobody to serve.
				await releaseQuietly(engine, admission);
				return reply.hijack();
			}
			reply.hijack = () => {
				throw new HijackError();
			};
			state.admitted = admission;
			request.payment = admission.payment;
			if (isMetered(admission)) meterReply(engine, request, reply, admission);
			// The client may leave before there is an answer.
			reply.raw.once("close", () => {
				if (!state.answered) void endUnanswered(admission, reply).catch((error) => engine.refusalFor(error));
			});
			return undefined;
		}

		function refuse(request: FastifyRequest, reply: FastifyReply, refusal: Refused): FastifyReply {
			return answer(request, reply, refusalAnswer(engine, stateOf(request).offers ?? [], refusal, asked(request)));
		}

		/** What the application's own price function throws is its own. */
		function offersOf(request: FastifyRequest): Promise<readonly Offer[] | Refused> {
			return prices.of(routeOf(request), request.routeOptions.config.payment ?? [], request);
		}

		/** For a request whose payment nobody has looked at: it is not served. */
		async function unpaidAnswer(request: FastifyRequest): Promise<OwnAnswer> {
			const plain = engine.transportRefusal(transportOf(request));
			const offers =
				plain ?? stateOf(request).offers ?? (await offersOf(request).catch((error) => engine.refusalFor(error)));
			return "kind" in offers
				? refusalAnswer(engine, [], offers, asked(request))
				: refusalAnswer(engine, offers, unpaid(), asked(request));
		}
	},
	{ name: "sluice", fastify: "5.x" },
);

function isPaid({ routeOptions }: FastifyRequest): boolean {
	return routeOptions.config.payment !== undefined;
}
