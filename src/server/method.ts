import type { Challenge, OpaqueData } from "../protocol/index.ts";
import type { Admission, PaidRequest } from "./admission.ts";
import type { MethodPrices } from "./index.ts";
import type { Screened } from "./screen.ts";

/**
 * A price as a route's configuration states it. Amounts in base units of the token, as a bigint or a decimal string.
 *
 * @example
 * const session: PriceConfig = { price: "100", unitType: "request", suggestedDeposit: "10000" };
 * const withFee: PriceConfig = { price: "1000", intent: "charge", splits: [{ recipient: platform, amount: "25" }] };
 */
export type PriceConfig = MethodPrices[keyof MethodPrices];

/**
 * What one route asks for, checked. A method keeps more in its own offers.
 *
 * @example
 * const [offer] = engine.offers("GET /quote", { price: "100" });
 * console.log(offer?.method, offer?.intent, offer?.amount); // evm session 100n
 */
export type Offer = Readonly<{
	/** The method's identifier on the wire, lowercase letters. */
	method: string;
	intent: string;
	/** What one request costs, in the smallest unit of what the method moves. */
	amount: bigint;
	/** For people. */
	description?: string;
	/** What a credential for it brings back: `payment.opaque` (draft-httpauth-payment-00, Optional Parameters). */
	opaque?: OpaqueData;
	/** Whether challenges for requests with a body are good for that body alone (draft-httpauth-payment-00, Request Body Digest Binding). */
	bindBody: boolean;
}>;

/**
 * How one payment method of the registry is taken (draft-httpauth-payment-00, Payment Method Specifications): what it asks
 * for, how it knows its own requests again, and how it is paid. `evm` is the first; give others as option `methods`.
 *
 * The engine has done the scheme's part before: one credential, readable, its challenge ours and not altered. A method
 * never throws for what a client sent: it refuses. `test/support/invoiceMethod.ts` in the repository is a whole one.
 *
 * @example
 * const voucher: PaymentMethod = {
 *   name: "giftcard",
 *   parseOffer: ({ points }: { points: bigint }) => ({ method: "giftcard", intent: "charge", amount: points, bindBody: false }),
 *   request: ({ amount }) => ({ amount: String(amount) }),
 *   decode: (challenge) => decodeRequest(challenge),
 *   matches: (offer, _challenge, request) => (request as { amount: string }).amount === String(offer.amount),
 *   takesExpired: () => false,
 *   isManagement: () => false,
 *   admit: async (request, { credential, offer }) => cards.take(credential.payload, offer.amount),
 *   resume: async () => undefined,
 *   keepHouse: async () => undefined,
 * };
 * await PaymentEngine.start({ ...options, methods: [voucher] });
 */
export interface PaymentMethod<O extends Offer = Offer, Request = unknown> {
	/** Identifier on the wire, lowercase letters. */
	readonly name: string;

	/**
	 * Checks one price of a route, at start-up or, for prices that are made per request, at the request.
	 *
	 * @throws OfferError saying which setting to change
	 */
	parseOffer(price: unknown): O;

	/** The challenge's `request` for an offer: JSON, amounts as decimal strings. */
	request(offer: O): Record<string, unknown>;

	/** The `request` of a challenge of ours, read back; `undefined` when it can't be. */
	decode(challenge: Challenge): Request | undefined;

	/** Whether a challenge of ours, with this request, is good for this offer (D9). */
	matches(offer: O, challenge: Challenge, request: Request): boolean;

	/** Whether a credential of this intent is looked at though its challenge has expired: what was paid in time is delivered. */
	takesExpired(intent: string): boolean;

	/** Whether a request is about the payment alone: then its answer is a receipt, and neither body nor handler have a part in it (D11). */
	isManagement(httpMethod: string, screened: Screened<O, Request>): boolean;

	/** Takes the payment, or says why not. May reject for faults of its own parts: the engine then refuses with 503 (I10). */
	admit(request: PaidRequest, screened: Screened<O, Request>): Promise<Admission>;

	/** Takes up what an earlier run left unfinished; called once before requests are. */
	resume(): Promise<void>;

	/** Called every few seconds. */
	keepHouse(): Promise<void>;

	/** Brings in now what is due, if there is such a thing as bringing it in later. */
	settle?(): Promise<void>;

	/** Ends answers that are still being paid for: what has left of them by then is charged. */
	endStreams?(): void;

	/** No new work; resolves when what is under way has ended, or has been left to the next run after `deadlineMs`. */
	stop?(deadlineMs: number): Promise<void>;
}
