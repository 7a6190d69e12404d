import { IDEMPOTENCY_KEY } from "../protocol/index.ts";

/** What tells one request from another. */
export type SentRequest = Readonly<{ idempotencyKey: string; method: string; url: string }>;

/** A request of the payer's own, on its way. */
export type OwnRequest = Readonly<{
	/** Its answer is a redirect, which the platform's `fetch` follows: what goes there next is the payer's own as well. */
	redirectedTo(url: string): void;
}>;

/**
 * The requests that a payer has on their way by its own `fetch`. Where that runs on a dispatcher that pays by the same
 * payer, the dispatcher has to know them: one that was paid for again would wait for itself. The application's own requests
 * may have the same `Idempotency-Key`, so the key alone does not tell.
 */
export class OwnRequests {
	/** By key, of each `fetch` the places where it asks. */
	readonly #placesByKey = new Map<string, Set<Set<string>>>();

	/** One of them, unless what was asked for is somebody else's. */
	find({ idempotencyKey, method, url }: SentRequest): OwnRequest | undefined {
		const place = placeOf(method, url);
		const asking = [...(this.#placesByKey.get(idempotencyKey) ?? [])].filter((places) => places.has(place));
		if (asking.length === 0) return undefined;
		return {
			redirectedTo(next) {
				// Some redirects make a GET of what was none.
				for (const places of asking) places.add(placeOf(method, next)).add(placeOf("GET", next));
			},
		};
	}

	/** The same `fetch`, whose requests are known until their answers begin. */
	by(fetch: typeof globalThis.fetch): (request: Request) => Promise<Response> {
		return async (request) => {
			const key = request.headers.get(IDEMPOTENCY_KEY) ?? "";
			const places = new Set([placeOf(request.method, request.url)]);
			const asking = this.#placesByKey.get(key) ?? new Set();
			this.#placesByKey.set(key, asking.add(places));
			try {
				return await fetch(request);
			} finally {
				asking.delete(places);
				if (asking.size === 0) this.#placesByKey.delete(key);
			}
		};
	}
}

/** Without the fragment, which is not sent. */
function placeOf(method: string, url: string): string {
	const { origin, pathname, search } = new URL(url);
	return `${method} ${origin}${pathname}${search}`;
}
