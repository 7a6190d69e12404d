import type {
	FastifyContextConfig,
	FastifyReply,
	FastifyRequest,
	HookHandlerDoneFunction,
	onRequestHookHandler,
	onSendHookHandler,
} from "fastify";
import fastifyPlugin from "fastify-plugin";
import { problem } from "../protocol/index.ts";
import { type Payment, type Refused, refused } from "./admission.ts";
import { type OwnAnswer, ownAnswer, refusalAnswer, releaseQuietly } from "./answer.ts";
import type { PaymentEngine } from "./engine.ts";
import { meterReply } from "./fastifyMetered.ts";
import {
	asked,
	hasBody,
	hashing,
	headersOf,
	paidRequest,
	routeOf,
	STATE,
	stateOf,
	transportOf,
} from "./fastifyRequest.ts";
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
		const settleRoute: onSendHookHandler<unknown> = settle;
		const isGuarded = (config: FastifyContextConfig) => (config as { [GUARDED]?: unknown })[GUARDED] === prices;
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
		app.decorateRequest(STATE, null);

		const lookAtRoute: onRequestHookHandler = (request, reply, done) =>
			goOn(look(request, reply, request.routeOptions.config), done);

		app.addHook("onRoute", (route) => {
			const { method, url, config } = route;
			if (config?.payment === undefined) return;
			prices.constant(`${method} ${url}`, config.payment);
			// Last of all: after those that may refuse for other reasons, and those that can fail once the payment is taken.
			route.onRequest = [route.onRequest ?? [], lookAtRoute].flat();
			route.onSend = [route.onSend ?? [], settleRoute].flat();
			route.config = { ...config, [GUARDED]: prices } as typeof config;
		});

		// Hooks call `done` where there is nothing to wait for: a promise of each of them takes 1 µs of each paid request. They
		// ask once what route it is, for Fastify makes the answer anew each time.

		// Also for routes that were declared before the plugin, which `onRoute` does not see.
		app.addHook("onRequest", (request, reply, done) => {
			const { config } = request.routeOptions;
			if (!isPaid(config) || isGuarded(config)) return done();
			return goOn(look(request, reply, config), done);
		});

		app.addHook("preParsing", (request, reply, body, done) => {
			const isRead = request.method !== "GET" && request.method !== "HEAD";
			if (!isRead || !isPaid(request.routeOptions.config)) return done(null, body);
			const state = stateOf(request);
			const { offers, looked } = state;
			const isBound =
				offers === undefined || looked === undefined || isBodyBound(looked, offers, headersOf(request).idempotencyKey);
			return done(null, isBound ? hashing(body, reply, state) : body);
		});

		/** The body is there: what had to wait for it. */
		app.addHook("preValidation", (request, reply, done) => {
			const { config } = request.routeOptions;
			if (!isPaid(config)) return done();
			return goOn(stateOf(request).offers === undefined ? decideByRequest() : decide(request, reply), done);

			async function decideByRequest() {
				const made = await offersOf(request, config);
				if ("kind" in made) return refuse(request, reply, made);
				screen(request, made);
				return decide(request, reply);
			}
		});

		app.addHook("preHandler", (request, reply, done) => {
			if (!isPaid(request.routeOptions.config)) return done();
			const { looked, admitted } = stateOf(request);
			if (admitted !== undefined) return done();
			// Never without a look at the payment: a paid route that the hooks before did not see is not served.
			if (looked?.kind !== "screened") return unpaidAnswer(request).then((unpaid) => answer(request, reply, unpaid));
			return admit(request, reply, looked);
		});

		app.addHook("onSend", (request, reply, payload, done) => {
			const { config } = request.routeOptions;
			if (!isPaid(config) || isGuarded(config)) return done(null, payload);
			return settle(request, reply, payload, done);
		});

		/** Looks at the payment, as far as that goes without the body. */
		function look(request: FastifyRequest, reply: FastifyReply, config: RouteConfig): Outcome {
			const plain = engine.transportRefusal(transportOf(request));
			if (plain !== undefined) return refuse(request, reply, plain);
			const offers = prices.constant(routeOf(config), config.payment ?? []);
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
			const state = stateOf(request);
			state.offers = offers;
			state.looked = looked;
			return looked;
		}

		/** Refuses, or answers what is about the payment itself: the route's handler and validation have no part in it (D11). */
		function decide(request: FastifyRequest, reply: FastifyReply): Outcome {
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
			reply.hijack = refuseHijack;
			state.admitted = admission;
			request.payment = admission.payment;
			if (isMetered(admission)) meterReply(engine, request, reply, admission);
			// The client may leave before there is an answer.
			reply.raw.on("close", () => {
				if (!state.answered) void endUnanswered(admission, reply).catch((error) => engine.refusalFor(error));
			});
			return undefined;
		}

		function refuse(request: FastifyRequest, reply: FastifyReply, refusal: Refused): FastifyReply {
			return answer(request, reply, refusalAnswer(engine, stateOf(request).offers ?? [], refusal, asked(request)));
		}

		/** What the application's own price function throws is its own. */
		function offersOf(request: FastifyRequest, config: RouteConfig): Promise<readonly Offer[] | Refused> {
			return prices.of(routeOf(config), config.payment ?? [], request);
		}

		/** For a request whose payment nobody has looked at: it is not served. */
		async function unpaidAnswer(request: FastifyRequest): Promise<OwnAnswer> {
			const plain = engine.transportRefusal(transportOf(request));
			const { config } = request.routeOptions;
			const offers =
				plain ??
				stateOf(request).offers ??
				(await offersOf(request, config).catch((error) => engine.refusalFor(error)));
			return "kind" in offers
				? refusalAnswer(engine, [], offers, asked(request))
				: refusalAnswer(engine, offers, unpaid(), asked(request));
		}
	},
	{ name: "sluice", fastify: "5.x" },
);

type RouteConfig = FastifyRequest["routeOptions"]["config"];

/** Of a look at a payment: nothing, where the request goes on, or the answer that it has got, or gets. */
type Outcome = FastifyReply | undefined | Promise<FastifyReply | undefined>;

/** Goes on with the next hook, at once where nothing has to be waited for. */
function goOn(outcome: Outcome, done: HookHandlerDoneFunction): Outcome {
	if (outcome === undefined) done();
	return outcome;
}

function isPaid({ payment }: FastifyContextConfig): boolean {
	return payment !== undefined;
}

function refuseHijack(): never {
	throw new HijackError();
}
