import type { Hex } from "viem";
import type { Call } from "../escrow/calls.ts";
import { TransactionRevertedError } from "../escrow/sender.ts";
import { type Challenge, type ChargeRequest, encodeChargePayload, isExpired, problemType } from "../protocol/index.ts";
import { offersOf, problemOf, receiptOf } from "./answer.ts";
import type { Offered } from "./channel.ts";
import type { Payment, Payments, Presentable } from "./keptPayments.ts";
import type { Outgoing } from "./outgoing.ts";
import { sendOwn } from "./ownSending.ts";
import type { Outcome, Parts } from "./parts.ts";
import { discard } from "./retry.ts";
import { findTransfer, isUntold } from "./untold.ts";
import type { Wallet } from "./wallet.ts";

/** How often one payment is presented, each time under a fresh challenge. */
const MAX_TRIES = 4;

/** How long a payment that may have been sent is looked for on chain before another one is made. */
const UNTOLD_MS = 600_000;

/**
 * The payer's account may have sent a charge's transfer, and has not told its hash; the chain shows nothing of it yet. It is
 * used as soon as it does; another one is made after a while.
 */
export class PaymentUntoldError extends Error {
	override readonly name = "PaymentUntoldError";
	readonly code = "PAYMENT_UNTOLD";
	/** Unix milliseconds from which on another one is made. */
	readonly retryAtMs: number;
	constructor(retryAtMs: number) {
		super(
			`the payer's account may have paid for this already, and the transfer is not mined yet: look for it in the account's wallet; another one is made from ${new Date(retryAtMs).toISOString()} on`,
		);
		this.retryAtMs = retryAtMs;
	}
}

/** Payments can be used for all charges of an origin with the same terms, and as what they are. */
function termsKey({ origin }: Outgoing, { amount, currency, recipient, methodDetails }: ChargeRequest): string {
	return `${origin} ${methodDetails.chainId}:${currency}:${recipient}:${amount}`;
}

type TransferCall = Call & Readonly<{ to: Hex }>;

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
 *
 * @throws PaymentUntoldError; TransactionRevertedError, TransactionPendingError, TransactionNotSentError, and what the gate throws
 */
export async function payOnce(
	parts: Once["parts"],
	wallet: Wallet,
	request: Outgoing,
	offer: Offered<ChargeRequest>,
	type: Presentable["type"],
	call: TransferCall,
): Promise<Outcome> {
	const terms = termsKey(request, offer.request);
	const once: Once = { parts, wallet, request, offer, terms, key: `${type} ${terms}` };
	const left = await takeGood(once);
	if (left === undefined) return payAnew(once, type, call);
	const { response, verdict } =
		left.type === "hash" ? await present(once, left) : await wallet.lendAgain(left, () => present(once, left));
	if (verdict !== "refused") return { response, again: false };
	await parts.payments.drop(once.key, left);
	const fresh = await freshOffer(once, response);
	if (fresh === undefined) return { response, again: false };
	discard(response);
	return payAnew({ ...once, offer: fresh }, type, call);
}

/** Counted, and on disk, before it is signed for the server, or broadcast. */
async function payAnew(once: Once, type: Presentable["type"], call: TransferCall): Promise<Outcome> {
	const { parts, wallet, request, key } = once;
	const count = () => parts.gate.charge(request.host, once.offer.request);
	if (type === "hash") return presentNew(once, await sendAnew(once, call, count));
	return wallet.lend(
		call,
		async (transaction) => presentNew(once, await parts.payments.keep(key, { type, ...transaction })),
		count,
	);
}

/** The payer's own transfer, mined. What became of one that may have left is for the next request. */
async function sendAnew(once: Once, call: TransferCall, count: () => Promise<void>): Promise<Presentable> {
	const { parts, wallet, request, offer, key } = once;
	const { payments, signer, nodes } = parts;
	let payment: Payment | undefined;
	await sendOwn({
		wallet,
		account: signer.paying.account,
		calls: [call],
		kind: "charge",
		allow: count,
		async write(sent) {
			if (isUntold(sent)) {
				const client = await nodes.at(offer.request.methodDetails.chainId);
				const fromBlock = Number(await client.getBlockNumber({ cacheTime: 0 })) + 1;
				payment = await payments.keep(key, { type: "untold", fromBlock });
			} else payment = await payments.keep(key, { type: "hash", ...sent }, payment);
		},
		async failed(fate) {
			if (payment !== undefined) await payments[fate === "open" ? "free" : "drop"](key, payment);
		},
	});
	if (payment === undefined || payment.type === "untold") throw new Error("the transfer was not sent");
	if (request.signal.aborted) {
		await payments.free(key, payment);
		request.signal.throwIfAborted();
	}
	return payment;
}

async function presentNew(once: Once, payment: Presentable): Promise<Outcome> {
	const { response, verdict } = await present(once, payment);
	// The server's node may be behind the payer's: once more, with the next request.
	if (verdict === "refused") await once.parts.payments.free(once.key, payment);
	return { response, again: false };
}

/** A payment that is left and can still be used, as the payer's own node shows it. */
async function takeGood(once: Once): Promise<Presentable | undefined> {
	const { payments } = once.parts;
	for (;;) {
		const payment = await payments.take(once.key);
		if (payment === undefined) return undefined;
		try {
			const good = await toPresent(once, payment);
			if (good !== undefined) return good;
		} catch (error) {
			if (!(error instanceof TransactionRevertedError)) {
				await payments.free(once.key, payment);
				throw error;
			}
		}
		await payments.drop(once.key, payment);
	}
}

/**
 * A payment as it can be presented; `undefined` where it can't be any more: it did nothing, another transaction took its nonce,
 * or it never was broadcast. The payer's next transaction takes its nonce then, so that at most one of the two is ever mined.
 *
 * @throws PaymentUntoldError
 */
async function toPresent(once: Once, payment: Payment): Promise<Presentable | undefined> {
	const { wallet } = once;
	const told = payment.type === "untold" ? await findUntold(once, payment) : payment;
	if (told === undefined) return undefined;
	const state = await wallet.stateOf(told);
	if (state !== "mined" && state !== "open") return undefined;
	if (state === "open" && told.type === "hash") {
		if (await wallet.isLost(told)) return undefined;
		await wallet.mined(told.hash);
	}
	return told;
}

async function findUntold(
	{ parts, offer, key }: Once,
	payment: Extract<Payment, { type: "untold" }>,
): Promise<Presentable | undefined> {
	const { payments, nodes, signer, now } = parts;
	const { amount, currency: token, recipient: to, methodDetails } = offer.request;
	const transfer = { token, from: signer.payer, to, amount };
	const sent = await findTransfer(await nodes.at(methodDetails.chainId), transfer, payment.fromBlock);
	if (sent !== undefined) return payments.keep(key, { type: "hash", ...sent }, payment);
	const retryAtMs = payment.atMs + UNTOLD_MS;
	if (now() < retryAtMs) throw new PaymentUntoldError(retryAtMs);
	return undefined;
}

/** `refused`: the server does not take this payment. */
type Presented = Readonly<{ response: Response; verdict: "refused" | "used" | "kept" }>;

/**
 * Presents a payment until it is answered: a challenge that is expired, or not known any more, is replaced by a fresh one.
 * What was used is forgotten, and what was not for sure left to the next request; what is refused is the caller's to judge.
 */
async function present(once: Once, payment: Presentable): Promise<Presented> {
	const { payments } = once.parts;
	try {
		const presented = await presentFresh(once, payment);
		if (presented.verdict === "used") await payments.drop(once.key, payment);
		if (presented.verdict === "kept") await payments.free(once.key, payment);
		return presented;
	} catch (error) {
		await payments.free(once.key, payment);
		throw error;
	}
}

async function presentFresh(once: Once, payment: Presentable): Promise<Presented> {
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

function payloadOf(payment: Presentable): Record<string, unknown> {
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
