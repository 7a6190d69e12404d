import type { Refused } from "./admission.ts";
import type { PaymentEngine } from "./engine.ts";
import type { Offer, PriceConfig } from "./method.ts";

/**
 * What a route costs: a price, several for a choice (the preferred one first), or a function that makes them from the
 * request. A function is asked again when the payment comes: it must then name the same price, or the client is asked anew.
 *
 * An error of a function with a `statusCode` from 400 to 499 other than 402, or a Hono `HTTPException` of such a status (there
 * is no such thing, you may not have it), is the application's answer; any other one is a 503 without a challenge.
 *
 * @example
 * const constant: Price<Request> = { price: "100", unitType: "request" };
 * const choice: Price<Request> = [{ price: "100" }, { price: "500", intent: "charge" }];
 * const computed: Price<Request> = async (request) => ({ price: 10n * BigInt((await request.text()).length), intent: "charge" });
 */
export type Price<Request> =
	| PriceConfig
	| readonly PriceConfig[]
	| ((request: Request) => PriceConfig | readonly PriceConfig[] | Promise<PriceConfig | readonly PriceConfig[]>);

/** Reads prices, each constant one only once. */
export class PriceList<Request> {
	readonly #engine: PaymentEngine;
	readonly #constant = new WeakMap<object, readonly Offer[]>();

	constructor(engine: PaymentEngine) {
		this.#engine = engine;
	}

	/**
	 * The offers of a constant price, `undefined` for one that is made per request.
	 *
	 * @throws OfferError naming the route and the setting to change
	 */
	constant(route: string, price: Price<Request>): readonly Offer[] | undefined {
		if (typeof price === "function") return undefined;
		const known = this.#constant.get(price);
		if (known !== undefined) return known;
		const offers = this.#engine.offers(route, price);
		this.#constant.set(price, offers);
		return offers;
	}

	/**
	 * The offers for one request, or why there are none: a price that can't be made is no free content (I10).
	 *
	 * @throws what a price function says itself of a request that it has no price for
	 */
	async of(route: string, price: Price<Request>, request: Request): Promise<readonly Offer[] | Refused> {
		try {
			const constant = this.constant(route, price);
			if (constant !== undefined || typeof price !== "function") return constant ?? [];
			return this.#engine.offers(route, await price(request));
		} catch (error) {
			if (typeof price === "function" && isOwnAnswer(error)) throw error;
			return this.#engine.refusalFor(error);
		}
	}
}

/** Of the kind that frameworks answer a client's mistake with. A mere `status` does not say so: errors of HTTP clients have one. */
function isOwnAnswer(error: unknown): boolean {
	if (!(error instanceof Error)) return false;
	const { statusCode, status, getResponse } = error as Error & Readonly<Record<string, unknown>>;
	const code = typeof getResponse === "function" ? status : statusCode;
	return typeof code === "number" && code >= 400 && code < 500 && code !== 402;
}
