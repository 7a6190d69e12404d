import type { PaymentEngine } from "./engine.ts";
import type { Offer, PriceConfig } from "./method.ts";

/**
 * What a route costs: a price, several for a choice (the preferred one first), or a function that makes them from the
 * request. A function is asked again when the payment comes: it must then name the same price, or the client is asked anew.
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

	/** The offers for one request. Rejects as the application's own function does, and with OfferError for a wrong price. */
	async of(route: string, price: Price<Request>, request: Request): Promise<readonly Offer[]> {
		const constant = this.constant(route, price);
		if (constant !== undefined || typeof price !== "function") return constant ?? [];
		return this.#engine.offers(route, await price(request));
	}
}
