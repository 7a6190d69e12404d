import { createHash } from "node:crypto";
import { type Challenge, canonicalCall, opaqueData, type RpcMessage } from "../../protocol/index.ts";
import type { Payment } from "../admission.ts";
import type { Offer } from "../method.ts";
import { OfferError } from "../offer.ts";

/** What a challenge says of the call that it was asked with. It is in `opaque`, so its id vouches for it. */
const CALL = "call";

/** What a call asks for, as two short names for it. */
export type CallDigest = Readonly<{
	/** In its challenges: what they are bound to (draft-payment-transport-mcp-00, Challenge Binding). */
	call: string;
	/** In place of a body's digest: what an idempotency key stands for. */
	bodyDigest: string;
}>;

/** @throws MalformedRpcPaymentError when its params have no canonical form */
export function digestOfCall(message: Pick<RpcMessage, "method" | "params">): CallDigest {
	const hash = createHash("sha256").update(canonicalCall(message)).digest();
	return { call: hash.toString("base64url"), bodyDigest: `sha-256=:${hash.toString("base64")}:` };
}

/** The offers of one call: their challenges are good for it alone. */
export function boundOffers(offers: readonly Offer[], { call }: CallDigest): readonly Offer[] {
	return offers.map((offer) => ({ ...offer, opaque: { ...offer.opaque, [CALL]: call } }));
}

/** Whether a challenge of ours was asked for with this very call. */
export function isBoundTo(challenge: Challenge, { call }: CallDigest): boolean {
	return opaqueData(challenge)?.[CALL] === call;
}

/** A payment without what is ours of its `opaque`. */
export function withoutBinding({ opaque, ...payment }: Payment): Payment {
	if (opaque === undefined) return payment;
	const { [CALL]: _, ...own } = opaque;
	return Object.keys(own).length === 0 ? payment : { ...payment, opaque: own };
}

/**
 * Prices that JSON-RPC can take: an answer is one message there, so none is paid for by what it uses while it leaves.
 *
 * @throws OfferError
 */
export function assertRpcOffers(route: string, offers: readonly Offer[]): readonly Offer[] {
	for (const offer of offers) {
		if ("metered" in offer && offer.metered !== undefined)
			throw new OfferError(`${route}: payment metered: a JSON-RPC answer is one message, at a price known before it`);
		if (offer.opaque !== undefined && CALL in offer.opaque)
			throw new OfferError(`${route}: payment opaque: the name "${CALL}" is taken; use another`);
	}
	return offers;
}
