import { LRUCache } from "lru-cache";
import type { Hex } from "viem";
import type { Call } from "../escrow/calls.ts";
import { TransactionRevertedError } from "../escrow/sender.ts";
import { type Challenge, type ChargeRequest, encodeChargePayload, isExpired, problemType } from "../protocol/index.ts";
import { offersOf, problemOf, receiptOf } from "./answer.ts";
import type { Offered } from "./channel.ts";
import type { Outgoing } from "./outgoing.ts";
import type { Outcome, Parts } from "./parts.ts";
import { discard } from "./retry.ts";
import type { SentTransaction, SignedTransaction, Wallet } from "./wallet.ts";

/** How many payments are kept of which it is not known that they were used. */
const KEPT_PAYMENTS = 1_000;

/** How often one payment is presented, each time under a fresh challenge. */
const MAX_TRIES = 4;

/** A transfer of the payer's own: mined or on its way (`hash`), or signed for the server to broadcast (`transaction`). */
type Payment = Readonly<({ type: "hash" } & SentTransaction) | ({ type: "transaction" } & SignedTransaction)>;

/**
 * Transfers that were made and not used: their requests got no answer, or an error. They are not bound to a challenge, so
 * the next request with the same terms presents one before another one is made.
 */
export class Payments {
	readonly #unused = new LRUCache<string, readonly Payment[]>({ max: KEPT_PAYMENTS });

	/** Takes one out: nobody else presents it meanwhile. */
	take(key: string): Payment | undefined {
		const [first, ...rest] = this.#unused.get(key) ?? [];
		if (rest.length > 0) this.#unused.set(key, rest);
		else this.#unused.delete(key);
		return first;
	}

	keep(key: string, payment: Payment): void {
		this.#unused.set(key, [...(this.#unused.get(key) ?? []), payment]);
	}
}

/** Payments can be used for all charges of an origin with the same terms, and as what they are. */
function termsKey({ origin }: Outgoing, { amount, currency, recipient, methodDetails }: ChargeRequest): string {
	return `${origin} ${methodDetails.chainId}:${currency}:${recipient}:${amount}`;
}

type Once = Readonly<{
	parts: Parts & Readonly<{ payments: Payments }>;
	wallet: Wallet;
	request: Outgoing;
	offer: Offered<ChargeRequest>;
	terms: string;
	key: string;
}>;

/**
 * Pays by a transfer of the payer's own, of which at most one is made for a request, whatever becomes of its answers and
 * challenges (draft-evm-charge-00, Transaction Payload, Hash Payload). One that is left from before is presented first; when
 * the server refuses that, another one is made.
 */
export async function payOnce(
	parts: Once["parts"],
	wallet: Wallet,
	request: Outgoing,
	offer: Offered<ChargeRequest>,
	type: Payment["type"],
	call: Call & Readonly<{ to: Hex }>,
): Promise<Outcome> {
	const terms = termsKey(request, offer.request);
	const once: Once = { parts, wallet, request, offer, terms, key: `${type} ${terms}` };
	const left = await takeGood(once);
	if (left === undefined) return payAnew(once, type, call);
	const { response, verdict } =
		left.type === "hash"
			? await present(once, left)
			: await wallet.lendAgain(left, (transaction) => present(once, { ...left, ...transaction }));
	const fresh = verdict === "refused" ? await freshOffer(once, response) : undefined;
	if (fresh === undefined) return { response, again: false };
	discard(response);
	return payAnew({ ...once, offer: fresh }, type, call);
}

async function payAnew(once: Once, type: Payment["type"], call: Call & Readonly<{ to: Hex }>): Promise<Outcome> {
	const { parts, wallet, request, key } = once;
	const pay = async (payment: Payment): Promise<Outcome> => {
		const { response, verdict } = await present(once, payment);
		// The server's node may be behind the payer's: once more, with the next request.
		if (verdict === "refused") parts.payments.keep(key, payment);
		return { response, again: false };
	};
	await parts.gate.charge(request.host, once.offer.request);
	if (type === "transaction") return wallet.lend(call, (transaction) => pay({ type, ...transaction }));
	let payment: Payment | undefined;
	try {
		await wallet.send([call], "charge", (sent) => {
			payment = { type, ...sent };
		});
		request.signal.throwIfAborted();
	} catch (error) {
		if (payment !== undefined && !(error instanceof TransactionRevertedError)) parts.payments.keep(key, payment);
		throw error;
	}
	if (payment === undefined) throw new Error("the transfer was not sent");
	return pay(payment);
}

/** A payment that is left and can still be used, as the payer's own node shows it. */
async function takeGood({ parts, wallet, key }: Once): Promise<Payment | undefined> {
	for (;;) {
		const payment = parts.payments.take(key);
		if (payment === undefined) return undefined;
		try {
			const state = await wallet.stateOf(payment);
			if (state === "mined" || state === "open") {
				if (state === "open" && payment.type === "hash") await wallet.mined(payment.hash);
				return payment;
			}
		} catch (error) {
			if (error instanceof TransactionRevertedError) continue;
			parts.payments.keep(key, payment);
			throw error;
		}
	}
}

/** `refused`: the server does not take this payment. */
type Presented = Readonly<{ response: Response; verdict: "refused" | "used" | "kept" }>;

/**
 * Presents a payment until it is answered: a challenge that is expired, or not known any more, is replaced by a fresh one.
 * What was not used for sure is kept; what is refused is the caller's to judge.
 */
async function present(once: Once, payment: Payment): Promise<Presented> {
	const { parts, key } = once;
	try {
		const presented = await presentFresh(once, payment);
		if (presented.verdict === "kept") parts.payments.keep(key, payment);
		return presented;
	} catch (error) {
		parts.payments.keep(key, payment);
		throw error;
	}
}

async function presentFresh(once: Once, payment: Payment): Promise<Presented> {
	const { parts, request } = once;
	const { signer, now } = parts;
	const { chainId } = once.offer.request.methodDetails;
	let challenge: Challenge | undefined = once.offer.challenge;
	for (let triesLeft = MAX_TRIES; ; triesLeft--) {
		const usable: Challenge | undefined = challenge && !isExpired(challenge, now()) ? challenge : undefined;
		const credential = usable && signer.credential(usable, payloadOf(payment), chainId);
		const response: Response = await parts.send(request, credential);
		if (response.status !== 402) {
			// A failure of the application's: what was paid for is still to be delivered (I7).
			const isUsed = usable !== undefined && (response.ok || receiptOf(response) !== undefined);
			return { response, verdict: isUsed ? "used" : "kept" };
		}
		const problem = await problemOf(response);
		const isStale = usable === undefined || STALE.has(problem?.type ?? "");
		if (!isStale) return { response, verdict: "refused" };
		challenge = triesLeft > 1 ? (await freshOffer(once, response))?.challenge : undefined;
		if (challenge === undefined) return { response, verdict: "kept" };
		discard(response);
	}
}

/** Refusals of the challenge, not of the payment. */
const STALE = new Set(
	(["payment-required", "payment-expired", "invalid-challenge", "session/challenge-not-found"] as const).map(
		problemType,
	),
);

function payloadOf(payment: Payment): Record<string, unknown> {
	return encodeChargePayload(
		payment.type === "hash" ? { type: "hash", hash: payment.hash } : { type: "transaction", signature: payment.raw },
	);
}

/** The offer of a refusal with the very terms that were paid. */
async function freshOffer(
	{ parts, request, terms }: Once,
	response: Response,
): Promise<Offered<ChargeRequest> | undefined> {
	for (const offer of offersOf(response, parts.now())) {
		if (offer.intent !== "charge" || offer.request.methodDetails.splits !== undefined) continue;
		if (termsKey(request, offer.request) === terms && (await request.fits(offer.challenge))) return offer;
	}
	return undefined;
}
