import { type Challenge, encodeJson, formatChallenge } from "../protocol/index.ts";
import type { Offer, PaymentMethod, PriceConfig } from "./method.ts";

/** A route's price is missing or wrong; the message says where and what to change. Payment methods throw it without the route. */
export class OfferError extends Error {
	override readonly name = "OfferError";
	readonly code = "OFFER";
}

/** The payment method of a price that names none. */
const DEFAULT_METHOD = "evm";

/** The longest challenge (draft-httpauth-payment-00, Size Considerations), less what issuing adds: id, expiry, digest, opaque. */
const MAX_CHALLENGE_LENGTH = 8_192 - 512;

/** The most offers of one route: each costs a header line with every 402. */
const MAX_OFFERS = 16;

/** What offers are checked with: the methods taken, and the realm of their challenges. */
export type OfferRules = Readonly<{ methods: readonly PaymentMethod[]; realm: string }>;

/**
 * Checks a route's price configuration: one price, or several for a choice, the preferred one first.
 *
 * @throws OfferError naming the route and the setting to change
 * @example
 * parseOffers({ methods, realm: "api.example.com" }, "GET /quote", { price: "100", unitType: "request" });
 */
export function parseOffers(
	{ methods, realm }: OfferRules,
	route: string,
	config: PriceConfig | readonly PriceConfig[],
): readonly Offer[] {
	const prices: readonly unknown[] = Array.isArray(config) ? config : [config];
	if (prices.length === 0 || prices.length > MAX_OFFERS)
		throw new OfferError(`${route}: payment: give 1 to ${MAX_OFFERS} prices`);
	const offers: Offer[] = [];
	for (const price of prices) {
		try {
			const method = methodOf(methods, price);
			const offer = method.parseOffer(price);
			assertDistinct(method, realm, offer, offers);
			offers.push(offer);
		} catch (error) {
			if (!(error instanceof OfferError)) throw error;
			throw new OfferError(`${route}: payment ${error.message}`);
		}
	}
	return offers;
}

/** A challenge has to say which offer it stands for, in few enough bytes. */
function assertDistinct(method: PaymentMethod, realm: string, offer: Offer, others: readonly Offer[]): void {
	const challenge: Challenge = {
		id: "id",
		realm,
		method: method.name,
		intent: offer.intent,
		request: encodeJson(method.request(offer)),
		...(offer.description !== undefined && { description: offer.description }),
	};
	const length = formatChallenge(challenge).length;
	if (length > MAX_CHALLENGE_LENGTH)
		throw new OfferError(`description, externalId, memo: the challenge would have ${length} bytes; shorten them`);
	const request = method.decode(challenge);
	const same = others.some((other) => other.method === method.name && method.matches(other, challenge, request));
	if (same) throw new OfferError("intent: two prices that a payment can't be told apart by; vouchers pay both alike");
}

function methodOf(methods: readonly PaymentMethod[], price: unknown): PaymentMethod {
	const named = typeof price === "object" && price !== null && "method" in price ? price.method : undefined;
	const method = methods.find(({ name }) => name === (named ?? DEFAULT_METHOD));
	if (method !== undefined) return method;
	throw new OfferError(
		`method: "${String(named)}" is not known; there are ${methods.map(({ name }) => name).join(", ")}`,
	);
}
