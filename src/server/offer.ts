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

/**
 * The longest that all challenges of one 402 may be together: clients read a head of 16 KB, Node's `fetch` among them, and
 * the answer has other fields besides.
 */
const MAX_TOGETHER = 15_360;

/** What issuing adds to a challenge at most, so far as it counts for all of them together. */
const ISSUED_LENGTH = 320;

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
	let together = 0;
	for (const price of prices) {
		try {
			const method = methodOf(methods, price);
			const offer = method.parseOffer(price);
			together += ISSUED_LENGTH + assertDistinct(method, realm, offer, offers);
			offers.push(offer);
		} catch (error) {
			if (!(error instanceof OfferError)) throw error;
			throw new OfferError(`${route}: payment ${error.message}`);
		}
	}
	if (together > MAX_TOGETHER)
		throw new OfferError(
			`${route}: payment: the challenges would have ${together} bytes together, more than ${MAX_TOGETHER}, which clients don't read; give fewer prices, or shorten description, externalId, memo, opaque`,
		);
	return offers;
}

/** A challenge has to say which offer it stands for, in few enough bytes. @returns how many, before it is issued */
function assertDistinct(method: PaymentMethod, realm: string, offer: Offer, others: readonly Offer[]): number {
	const challenge: Challenge = {
		id: "id",
		realm,
		method: method.name,
		intent: offer.intent,
		request: encodeJson(method.request(offer)),
		...(offer.description !== undefined && { description: offer.description }),
		...(offer.opaque !== undefined && { opaque: encodeJson(offer.opaque) }),
	};
	const length = formatChallenge(challenge).length;
	if (length > MAX_CHALLENGE_LENGTH)
		throw new OfferError(
			`description, externalId, memo, opaque: the challenge would have ${length} bytes; shorten them`,
		);
	const request = method.decode(challenge);
	const same = others.some((other) => other.method === method.name && method.matches(other, challenge, request));
	if (same) throw new OfferError("intent: two prices that a payment can't be told apart by; vouchers pay both alike");
	return length;
}

function methodOf(methods: readonly PaymentMethod[], price: unknown): PaymentMethod {
	const named = typeof price === "object" && price !== null && "method" in price ? price.method : undefined;
	const method = methods.find(({ name }) => name === (named ?? DEFAULT_METHOD));
	if (method !== undefined) return method;
	throw new OfferError(
		`method: "${String(named)}" is not known; there are ${methods.map(({ name }) => name).join(", ")}`,
	);
}
