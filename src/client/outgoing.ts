import {
	ACCEPT_PAYMENT,
	AUTHORIZATION,
	type Challenge,
	IDEMPOTENCY_KEY,
	matchesContentDigest,
	paymentCredentials,
} from "../protocol/index.ts";
import type { PayerChannel } from "./channel.ts";
import type { StreamSettings } from "./stream/options.ts";

/** Header fields that are about one request and its answer alone. */
const OF_ITS_OWN = /^(content-.*|idempotency-key|last-event-id|range|if-.*|accept-payment)$/;

/** One logical request: sent as often as it takes, with the same bytes and one `Idempotency-Key`. */
export class Outgoing {
	readonly url: string;
	readonly method: string;
	readonly host: string;
	readonly origin: string;
	readonly signal: AbortSignal;
	/** Names the route for its price: query and fragment do not count. */
	readonly route: string;
	/** The answer to a paid try was lost: from then on a refusal no longer proves that nothing was charged. */
	answerLost = false;
	/** How its answer is paid for if it is metered. */
	readonly stream: StreamSettings | undefined;
	/** What a metered answer has to have covered before it begins, in base units, where that is more than its price. */
	estimate = 0n;
	/** What its tries have in the books of a channel, as delivered or as uncertain. */
	tried: Readonly<{ channel: PayerChannel; price: bigint }> | undefined;
	readonly #request: Request;
	readonly #body: Blob | undefined;
	#reopened = false;
	/** How much of what was approved for it. */
	readonly #approved = new Map<string, bigint>();

	private constructor(request: Request, body: Blob | undefined, stream: StreamSettings | undefined) {
		const { host, origin, pathname } = new URL(request.url);
		this.url = request.url;
		this.method = request.method;
		this.host = host;
		this.origin = origin;
		this.signal = request.signal;
		this.route = `${request.method} ${origin}${pathname}`;
		this.stream = stream;
		this.#request = request;
		this.#body = body;
	}

	/**
	 * Reads the body, so that it can be sent again, and gives the request an `Idempotency-Key` and an `Accept-Payment` unless
	 * it has them.
	 */
	static async from(request: Request, acceptPayment?: string, stream?: StreamSettings): Promise<Outgoing> {
		// A Blob: the platform's fetch can't send an ArrayBuffer to where a 307 leads.
		const body = mayHaveBody(request.method) ? await request.blob() : undefined;
		if (!request.headers.has(IDEMPOTENCY_KEY)) request.headers.set(IDEMPOTENCY_KEY, crypto.randomUUID());
		if (acceptPayment !== undefined && !request.headers.has(ACCEPT_PAYMENT))
			request.headers.set(ACCEPT_PAYMENT, acceptPayment);
		return new Outgoing(request, body, stream);
	}

	/** Whether sending it twice does no harm even to a server that knows nothing of `Idempotency-Key`. */
	get isSafe(): boolean {
		return !mayHaveBody(this.method) || this.method === "OPTIONS";
	}

	/**
	 * A copy to send. One with a credential follows no redirect: what is good for this resource must not travel to
	 * another one, and the receipt would be lost on the way.
	 */
	with(credential: string | undefined): Request {
		const body = this.#body === undefined ? {} : { body: this.#body };
		if (credential === undefined) return new Request(this.#request, body);
		const headers = new Headers(this.#request.headers);
		// The caller's own credential of another scheme is not ours to drop; of this scheme there is one (core, Multiple Payment Options).
		const own = headers.get(AUTHORIZATION) ?? "";
		const isOther = own !== "" && paymentCredentials(own).length === 0;
		headers.set(AUTHORIZATION, isOther ? `${own}, ${credential}` : credential);
		const redirect = this.#request.redirect === "follow" ? "manual" : this.#request.redirect;
		return new Request(this.#request, { headers, redirect, ...body });
	}

	/**
	 * The request at the place a redirect led to. Only within the origin, whose host the caller and its headers meant, and
	 * only where a redirect changes neither method nor body.
	 */
	redirectedTo(url: string): Outgoing | undefined {
		if (mayHaveBody(this.method) || new URL(url).origin !== this.origin) return undefined;
		return new Outgoing(new Request(url, this.#request), undefined, this.stream);
	}

	/** A `HEAD` beside this request, as whoever sent it: for a voucher alone (D11). */
	headAt(url: string, signal: AbortSignal): Promise<Outgoing> {
		const headers = new Headers(this.#request.headers);
		for (const name of [...headers.keys()]) if (OF_ITS_OWN.test(name)) headers.delete(name);
		const { credentials } = this.#request;
		return Outgoing.from(new Request(url, { method: "HEAD", headers, credentials, cache: "no-store", signal }));
	}

	/** Whether a challenge is for this very body (draft-httpauth-payment-00, Request Body Digest Binding). */
	async fits({ digest }: Challenge): Promise<boolean> {
		if (digest === undefined) return true;
		return matchesContentDigest(digest, new Uint8Array((await this.#body?.arrayBuffer()) ?? new ArrayBuffer(0)));
	}

	/** Whether that much was approved before, for an earlier try. */
	isApproved(subject: string, amount: bigint): boolean {
		return amount <= (this.#approved.get(subject) ?? -1n);
	}

	approved(subject: string, amount: bigint): void {
		this.#approved.set(subject, amount);
	}

	/** True the first time. */
	reopenOnce(): boolean {
		if (this.#reopened) return false;
		this.#reopened = true;
		return true;
	}
}

function mayHaveBody(method: string): boolean {
	return method !== "GET" && method !== "HEAD";
}
