import { IDEMPOTENCY_KEY } from "../protocol/index.ts";

/**
 * The requests that a payer has on their way by its own `fetch`. Where that runs on a dispatcher that pays by the same
 * payer, the dispatcher has to know them: one that was paid for again would wait for itself.
 */
export class OwnRequests {
	readonly #keys = new Map<string, number>();

	/** Whether a request with this `Idempotency-Key` is one of them. */
	has(idempotencyKey: string): boolean {
		return this.#keys.has(idempotencyKey);
	}

	/** The same `fetch`, whose requests are known until their answers begin. */
	by(fetch: typeof globalThis.fetch): (request: Request) => Promise<Response> {
		return async (request) => {
			const key = request.headers.get(IDEMPOTENCY_KEY) ?? "";
			this.#keys.set(key, (this.#keys.get(key) ?? 0) + 1);
			try {
				return await fetch(request);
			} finally {
				const left = (this.#keys.get(key) ?? 1) - 1;
				if (left === 0) this.#keys.delete(key);
				else this.#keys.set(key, left);
			}
		};
	}
}
