import type { Address } from "viem";
import { z } from "zod";
import {
	type Challenge,
	type ChargeRequest,
	encodeChargeRequest,
	encodeSessionRequest,
	type SessionRequest,
} from "../protocol/index.ts";

/** What one route asks for: a price by unit out of a channel, or one payment. Amounts in base units of the token. */
export type Offer = Readonly<{
	intent: "session" | "charge";
	amount: bigint;
	/** What one unit is, for example `request` or `llm_token`. Sessions only. */
	unitType?: string;
	/** How much a client should put into a new channel. Sessions only. */
	suggestedDeposit?: bigint;
	description?: string;
	/** The merchant's reference. */
	externalId?: string;
}>;

/** Where and to whom a server is paid: the same for all of its offers. */
export type Terms = Readonly<{
	realm: string;
	chainId: number;
	escrow: Address;
	currency: Address;
	recipient: Address;
	/** Whether the server sends and pays for `open` (draft-evm-session-00, Fee Payment). */
	feePayer: boolean;
	minVoucherDelta: bigint;
}>;

/** A route's price is missing or wrong. Thrown at start-up, never at a request. */
export class OfferError extends Error {
	override readonly name = "OfferError";
	readonly code = "OFFER";
}

const AMOUNT_HINT = "must be base units as a bigint or a decimal string, from 1 to 2^128 - 1";
const amount = z
	.union(
		[
			z.bigint(),
			z
				.string()
				.regex(/^[1-9]\d{0,38}$/)
				.transform(BigInt),
		],
		AMOUNT_HINT,
	)
	.refine((value) => value > 0n && value < 2n ** 128n, AMOUNT_HINT);

/** Travels in a header. */
const text = z.string().regex(/^[^\p{Cc}\p{Cs}]*$/u, "must have no control characters and be well-formed Unicode");

const offerSchema = z.strictObject({
	price: amount,
	intent: z.enum(["session", "charge"]).default("session"),
	unitType: text.optional(),
	suggestedDeposit: amount.optional(),
	description: text.optional(),
	externalId: text.optional(),
});

/** A price as a route's configuration states it; several for a choice, the preferred one first. */
export type PriceConfig = z.input<typeof offerSchema>;

/**
 * Checks a route's price configuration.
 *
 * @throws OfferError naming the route and the setting to change
 * @example
 * parseOffers("GET /quote", { price: "100", unitType: "request" });
 */
export function parseOffers(route: string, config: PriceConfig | readonly PriceConfig[]): readonly Offer[] {
	const parsed = z
		.array(offerSchema)
		.min(1)
		.safeParse(Array.isArray(config) ? config : [config]);
	if (!parsed.success) {
		const [issue] = parsed.error.issues;
		throw new OfferError(
			`${route}: payment ${issue?.path.slice(1).join(".") ?? ""}: ${issue?.message ?? "is invalid"}`,
		);
	}
	if (parsed.data.filter(({ intent }) => intent === "session").length > 1) {
		throw new OfferError(`${route}: payment: one session offer per route; vouchers pay any of them alike`);
	}
	return parsed.data.map(({ price, intent, ...rest }) => ({ intent, amount: price, ...definedOnly(rest) }));
}

/** The `request` parameter of an offer's challenge (draft-evm-session-00 and draft-evm-charge-00, Request Schema). */
export function wireRequest(offer: Offer, terms: Terms): Record<string, unknown> {
	const { chainId, escrow, currency, recipient, feePayer, minVoucherDelta } = terms;
	const shared = {
		amount: offer.amount,
		currency,
		recipient,
		...definedOnly({ description: offer.description, externalId: offer.externalId }),
	};
	if (offer.intent === "charge") {
		return encodeChargeRequest({ ...shared, methodDetails: { chainId, credentialTypes: ["authorization"] } });
	}
	return encodeSessionRequest({
		...shared,
		...definedOnly({ unitType: offer.unitType, suggestedDeposit: offer.suggestedDeposit }),
		methodDetails: {
			chainId,
			escrowContract: escrow,
			...(feePayer && { feePayer }),
			...(minVoucherDelta > 0n && { minVoucherDelta }),
			credentialTypes: feePayer ? ["authorization", "hash"] : ["hash"],
		},
	});
}

/**
 * The offer of this route that a credential's challenge stands for (D9): same realm, intent, currency, recipient, chain
 * and escrow; for a charge also the same amount. A session's price may have changed since: vouchers pay any route.
 */
export function matchOffer(
	offers: readonly Offer[],
	terms: Terms,
	challenge: Pick<Challenge, "realm" | "intent" | "digest" | "description">,
	request: SessionRequest | ChargeRequest,
): Offer | undefined {
	const { methodDetails } = request;
	const sameTerms =
		challenge.realm === terms.realm &&
		// No offer of ours is bound to a body.
		challenge.digest === undefined &&
		methodDetails.chainId === terms.chainId &&
		request.currency === terms.currency &&
		request.recipient === terms.recipient &&
		(!("escrowContract" in methodDetails) || methodDetails.escrowContract === terms.escrow);
	if (!sameTerms) return undefined;
	return offers.find(
		({ intent, amount: price, description }) =>
			intent === challenge.intent &&
			(challenge.description === undefined || challenge.description === description) &&
			(intent === "session" || price === request.amount),
	);
}

type Defined<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Without the members that are `undefined`, for `exactOptionalPropertyTypes`. */
function definedOnly<T extends object>(object: T): Partial<Defined<T>> {
	return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Partial<Defined<T>>;
}
