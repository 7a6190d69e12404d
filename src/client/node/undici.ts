/** A payer for undici: what goes through a dispatcher pays for itself. */
import type { IncomingHttpHeaders } from "node:http";
import type { Dispatcher } from "undici";
import { AUTHORIZATION, IDEMPOTENCY_KEY, paymentCredentials } from "../../protocol/index.ts";
import type { PaymentClient } from "../client.ts";
import type { OwnRequest } from "../ownRequests.ts";
import { type RawAnswer, type RawFields, sendBy } from "./undiciAnswer.ts";
import { changedHeaders, headerPairs, type KnownRequest, knownRequest, urlOf } from "./undiciRequest.ts";

export { OddAnswerError } from "./undiciAnswer.ts";
export { UnknownOriginError } from "./undiciRequest.ts";

export type PaymentInterceptorOptions = Readonly<{
	/** Where requests go to that do not say so themselves: those of a `Client` or `Pool`, which has one origin. */
	origin?: string | URL;
}>;

type Payer = Pick<PaymentClient, "fetchBy" | "ownRequest">;

/**
 * Makes every request of a dispatcher pay for itself, by the payer's policy, over this dispatcher's own connections. A body
 * is read whole before its request is sent, for it may be sent again; an answer is read as fast as whoever asked for it
 * reads, and one that is metered pays as it is read. Left as they are: upgrades, `CONNECT`, requests that bring a payment
 * credential, and those that the payer itself sends. Broken connections are tried again as the payer is told to.
 *
 * A refusal by the policy and all other errors of `PaymentClient.fetch` are what the request fails with. Informational
 * answers (1xx) are not told.
 *
 * @example
 * const agent = new Agent().compose(paymentInterceptor(payer));
 * const { body } = await request("https://api.example.com/quote", { dispatcher: agent });
 */
export function paymentInterceptor(
	payer: Payer,
	options: PaymentInterceptorOptions = {},
): Dispatcher.DispatcherComposeInterceptor {
	return (dispatch) => (request, handler) => {
		if (isLeftAlone(request)) return dispatch(request, handler);
		const own = ownRequestOf(payer, request, options.origin);
		if (own !== undefined) return dispatch(request, followed(own.request, own.url, handler));
		const paid = new PaidDispatch(handler);
		void paid.run(payer, dispatch, request, options.origin);
		return true;
	};
}

/**
 * A dispatcher whose requests pay for themselves; what it is made of sends them. Good for `setGlobalDispatcher`, and then
 * for Node's own `fetch` as well.
 *
 * @example
 * setGlobalDispatcher(paymentDispatcher(payer, new Agent()));
 */
export function paymentDispatcher(payer: Payer, dispatcher: Dispatcher): Dispatcher {
	return dispatcher.compose(paymentInterceptor(payer));
}

function isLeftAlone({ method, upgrade, headers }: Dispatcher.DispatchOptions): boolean {
	if (method === "CONNECT" || upgrade) return true;
	return valuesOf(headers, AUTHORIZATION).some((value) => paymentCredentials([value]).length > 0);
}

function ownRequestOf(payer: Payer, request: Dispatcher.DispatchOptions, origin: string | URL | undefined) {
	for (const idempotencyKey of valuesOf(request.headers, IDEMPOTENCY_KEY)) {
		if (request.origin === undefined && origin === undefined) return undefined;
		const { href: url } = urlOf(request, origin);
		const own = payer.ownRequest({ idempotencyKey, method: request.method, url });
		if (own !== undefined) return { request: own, url };
	}
	return undefined;
}

function valuesOf(headers: Dispatcher.DispatchOptions["headers"], wanted: string): readonly string[] {
	return headerPairs(headers)
		.filter(([name]) => name.toLowerCase() === wanted.toLowerCase())
		.flatMap(([, value]) => value);
}

/** The handler of the payer's own request, whose redirects stay its own. */
function followed(own: OwnRequest, url: string, handler: Dispatcher.DispatchHandler): Dispatcher.DispatchHandler {
	return new Proxy(handler, {
		get(target, name) {
			const method = Reflect.get(target, name);
			if (typeof method !== "function") return method;
			if (name !== "onResponseStart") return method.bind(target);
			return (...told: Parameters<NonNullable<Dispatcher.DispatchHandler["onResponseStart"]>>) => {
				const [, status, { location: to }] = told;
				const isRedirect = status >= 300 && status < 400 && typeof to === "string" && URL.canParse(to, url);
				if (isRedirect) own.redirectedTo(new URL(to, url).href);
				return method.apply(target, told);
			};
		},
	});
}

/** What undici says of requests that it would never send. */
const FINAL: ReadonlySet<unknown> = new Set([
	"UND_ERR_INVALID_ARG",
	"UND_ERR_NOT_SUPPORTED",
	"UND_ERR_DESTROYED",
	"UND_ERR_CLOSED",
	"ODD_ANSWER",
]);

/** One request, and what its handler is told of it. */
class PaidDispatch implements Dispatcher.DispatchController {
	readonly #handler: Dispatcher.DispatchHandler;
	readonly #aborting = new AbortController();
	#paused: PromiseWithResolvers<void> | undefined;
	rawHeaders: RawFields = null;
	rawTrailers: RawFields = null;

	constructor(handler: Dispatcher.DispatchHandler) {
		this.#handler = handler;
	}

	get aborted(): boolean {
		return this.#aborting.signal.aborted;
	}

	get reason(): Error | null {
		return this.#aborting.signal.reason ?? null;
	}

	get paused(): boolean {
		return this.#paused !== undefined;
	}

	abort(reason?: Error): void {
		this.#aborting.abort(reason);
		this.resume();
	}

	pause(): void {
		this.#paused ??= Promise.withResolvers();
	}

	resume(): void {
		this.#paused?.resolve();
		this.#paused = undefined;
	}

	/** Sends, pays and hands the answer on. Whatever goes wrong, the handler is told of it. */
	async run(
		payer: Payer,
		dispatch: Dispatcher.Dispatch,
		options: Dispatcher.DispatchOptions,
		origin: string | URL | undefined,
	): Promise<void> {
		const { signal } = this.#aborting;
		let answer: Response | undefined;
		try {
			this.#handler.onRequestStart?.(this, {});
			signal.throwIfAborted();
			const request = await knownRequest(options, origin, signal);
			const sending = new Sending(dispatch, request, signal);
			answer = await payer.fetchBy(async (one) => {
				try {
					return await sending.send(one);
				} catch (error) {
					// The payer takes every failure for a broken connection, unless the request was given up.
					if (FINAL.has((error as { code?: unknown }).code)) this.abort(error as Error);
					throw error;
				}
			}, sending.request);
			await this.#handOn(answer, sending.rawOf(answer));
		} catch (error) {
			const reason = signal.aborted ? signal.reason : error;
			// Ends it also where the handler itself has failed: nothing more is paid.
			this.#aborting.abort(reason);
			if (answer?.body?.locked === false) answer.body.cancel(reason).catch(() => undefined);
			this.#handler.onResponseError?.(this, reason);
		}
	}

	async #handOn(answer: Response, raw: RawAnswer | undefined): Promise<void> {
		const { signal } = this.#aborting;
		const headers = raw?.headers ?? headersOf(answer);
		this.rawHeaders = raw?.rawHeaders ?? headers;
		this.#handler.onResponseStart?.(this, answer.status, headers, raw?.statusMessage ?? answer.statusText);
		const reader = answer.body?.getReader();
		const stop = () => void reader?.cancel(signal.reason).catch(() => undefined);
		signal.addEventListener("abort", stop);
		try {
			for (;;) {
				await this.#paused?.promise;
				signal.throwIfAborted();
				const { value } = (await reader?.read()) ?? {};
				signal.throwIfAborted();
				if (value === undefined) break;
				this.#handler.onResponseData?.(this, Buffer.from(value.buffer, value.byteOffset, value.byteLength));
			}
		} catch (error) {
			reader?.cancel(error).catch(() => undefined);
			throw error;
		} finally {
			signal.removeEventListener("abort", stop);
		}
		const trailers = raw?.trailers ?? {};
		this.rawTrailers = raw?.rawTrailers ?? trailers;
		this.#handler.onResponseEnd?.(this, trailers);
	}
}

/** How the payer sends one request, and the vouchers beside it, by the dispatcher. */
class Sending {
	/** What the payer is asked for. */
	readonly request: Request;
	readonly #dispatch: Dispatcher.Dispatch;
	readonly #known: KnownRequest;
	readonly #given: Headers;
	readonly #raws = new WeakMap<Response, RawAnswer>();
	#newest: RawAnswer | undefined;

	constructor(dispatch: Dispatcher.Dispatch, known: KnownRequest, signal: AbortSignal) {
		const { options, url, headers, body } = known;
		this.#dispatch = dispatch;
		this.#known = known;
		this.#given = new Headers();
		for (const [name, value] of headers)
			for (const one of typeof value === "string" ? [value] : value) this.#given.append(name, one);
		const { method } = options;
		const hasBody = body !== undefined && method !== "GET" && method !== "HEAD";
		this.request = new Request(url, { method, headers: this.#given, signal, ...(hasBody && { body }) });
		if (!this.request.headers.has(IDEMPOTENCY_KEY)) this.request.headers.set(IDEMPOTENCY_KEY, crypto.randomUUID());
	}

	async send(request: Request): Promise<Response> {
		const { options, headers, body } = this.#known;
		const isAsked = request.headers.get(IDEMPOTENCY_KEY) === this.request.headers.get(IDEMPOTENCY_KEY);
		const sent = changedHeaders(headers, this.#given, request.headers).flat() as string[];
		const own = isAsked
			? { ...options, headers: sent, body: body ?? null }
			: { ...options, ...(await partsOf(request)), headers: sent };
		return sendBy(this.#dispatch, own as Dispatcher.DispatchOptions, request.signal, (response, raw) => {
			if (!isAsked) return;
			this.#raws.set(response, raw);
			this.#newest = raw;
		});
	}

	/** How an answer came; one that is paid as it is read was made of the newest. */
	rawOf(answer: Response): RawAnswer | undefined {
		const raw = this.#raws.get(answer) ?? this.#newest;
		return raw?.statusCode === answer.status ? raw : undefined;
	}
}

/** Of a request of the payer's own: a voucher, a top-up. */
async function partsOf(request: Request) {
	const { origin, pathname, search } = new URL(request.url);
	const body = request.body === null ? null : new Uint8Array(await request.arrayBuffer());
	return { origin, path: `${pathname}${search}`, query: undefined, method: request.method, body };
}

function headersOf({ headers }: Response): IncomingHttpHeaders {
	const all: IncomingHttpHeaders = Object.fromEntries(headers);
	const cookies = headers.getSetCookie();
	return cookies.length === 0 ? all : { ...all, "set-cookie": cookies };
}
