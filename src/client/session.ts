import { type Problem, problemType, type SessionRequest } from "../protocol/index.ts";
import { computeChannelId } from "../voucher/index.ts";
import { isManagementAnswer, offersOf, refusalOf } from "./answer.ts";
import { askSpent } from "./ask.ts";
import { askedFor, askedForRequest } from "./asking.ts";
import { tryToPay } from "./attempt.ts";
import { OverchargeError } from "./bookErrors.ts";
import { type Offered, PayerChannel } from "./channel.ts";
import { keyOf } from "./channelKey.ts";
import { isClosing, outlive } from "./closing.ts";
import { payCovered, TopUpRefusedError } from "./cover.ts";
import { openCredential } from "./funding.ts";
import { orAborted } from "./orAborted.ts";
import type { Outgoing } from "./outgoing.ts";
import type { Outcome, SessionParts, Tried } from "./parts.ts";
import { UnusableSignatureError } from "./payerSignature.ts";
import { randomBytes32 } from "./pending.ts";
import { depositFor } from "./policy.ts";
import { findNamedChannel } from "./resume.ts";
import { discard } from "./retry.ts";
import type { VoucherSigner } from "./sign.ts";
import { SignedLoweredError } from "./store/holds.ts";
import { HolderLostError } from "./store/store.ts";
import { priceOf, takeEstimate } from "./stream/estimate.ts";
import { paidAnswer } from "./stream/paidBody.ts";
import { voucherCredential } from "./voucherCredential.ts";

/** How often in a row a server may claim more than is owed on a channel before it gets no more requests on it. */
const MAX_OVERCLAIMS = 3;

/** How many channels are tried for one request where others have them by then. */
const MAX_CHANNELS = 4;

/** Pays one request by the channel for its terms, opening it if there is none. The policy has allowed the terms before. */
export async function paySession(
	parts: SessionParts,
	request: Outgoing,
	offer: Offered<SessionRequest>,
): Promise<Outcome> {
	const { channels, gate } = parts;
	const key = keyOf(request, offer.request);
	for (let triesLeft = MAX_CHANNELS; ; ) {
		// From the last look to the entry in a map nothing is awaited.
		while (channels.turns.isBusy(key)) await channels.turns.free(key, request.signal);
		const channel = channels.usable(key);
		const asked = channel && askedForRequest(parts, request, offer, channel.channelId);
		if (asked !== undefined && gate.isAsking(request, asked)) {
			await gate.approve(request, asked);
			continue;
		}
		if (channel?.asksFirst && channel.isIdle) {
			await orAborted(
				channels.turns.alone(key, () => askSpent(parts, key, channel)),
				request.signal,
			);
			continue;
		}
		let outcome: Outcome | undefined;
		try {
			outcome = await (channel === undefined
				? channels.turns.alone(key, () => open(parts, key, request, offer))
				: channels.turns.run(channel, payVoucher(parts, key, channel, request, offer)));
		} catch (error) {
			channels.lost(key);
			// Nothing was signed: another channel pays, or the payer in another way.
			const isNothingLost = error instanceof HolderLostError || error instanceof SignedLoweredError;
			if ((isNothingLost || error instanceof UnusableSignatureError) && --triesLeft > 0) continue;
			throw error;
		}
		// There is one to be used, for which this request has to be approved.
		if (outcome === undefined) continue;
		const { response, closing } = outcome;
		return closing === undefined ? outcome : { response, again: await outlive(parts, key, closing, request) };
	}
}

/** Asks for the deposit of a new channel: of each one anew. */
function approveOpening(
	{ gate, policy }: SessionParts,
	request: Outgoing,
	offer: Offered<SessionRequest>,
): Promise<void> {
	return gate.approve(request, { ...askedFor(offer), kind: "open", amount: depositFor(policy, offer.request) });
}

async function open(
	parts: SessionParts,
	key: string,
	request: Outgoing,
	offer: Offered<SessionRequest>,
): Promise<Outcome | undefined> {
	const { channels, signer, gate, now } = parts;
	const { challenge, request: terms } = offer;
	const known = await channels.recall(key, request.signal);
	const named = known === undefined ? await findNamedChannel(parts, request, terms) : undefined;
	// The key of a channel that may be made; where none is, nobody ever hears of it.
	const voucherSigner = await signer.newVoucherSigner(terms.methodDetails.chainId);
	let created: PayerChannel | undefined;
	const create = async () => {
		if (named !== undefined) return named;
		await approveOpening(parts, request, offer);
		created = newChannel(parts, request, offer, voucherSigner);
		return created;
	};
	const channel = await channels.toOpen(key, terms.amount, create, request.signal);
	const asked = askedForRequest(parts, request, offer, channel.channelId);
	if (channel !== created && gate.isAsking(request, asked)) {
		// Who thinks about it holds up nobody else.
		if (channel.open) return undefined;
		await gate.approve(request, asked);
	}
	if (channel.open) {
		if (channel.asksFirst) await askSpent(parts, key, channel);
		return payVoucher(parts, key, channel, request, offer);
	}
	channel.challenge = challenge;
	const price = priceOf(request, terms);
	const tried = await tryToPay(parts, channel, request, terms, price, (amount) =>
		openCredential(parts, challenge, channel, terms, amount),
	).catch(async (error: unknown) => {
		await channels.removeUnsigned(key, channel);
		throw error;
	});
	const { response, receipt, refusal } = tried;
	if (receipt !== undefined) {
		channel.open = true;
		// An answer about the channel alone: its voucher does not cover what the request costs by now (D11).
		const again = await isManagementAnswer(response);
		return { response: again ? response : answerOf(parts, key, channel, request, offer, price, tried), again };
	}
	switch (refusal?.type) {
		case problemType("session/challenge-not-found"):
			return { response, again: offersOf(response, now()).length > 0 };
		case problemType("session/channel-not-found"):
		case problemType("session/channel-finalized"):
			channels.forget(key, channel);
			return { response, again: request.reopenOnce() };
		default:
			// Whatever the server says, the deposit may be taken: the next request finds out and uses it.
			return { response, again: false };
	}
}

function newChannel(
	{ policy, signer }: SessionParts,
	{ url, method }: Outgoing,
	{ challenge, request: terms }: Offered<SessionRequest>,
	{ authorizedSigner, sessionKey }: VoucherSigner,
): PayerChannel {
	const { currency, recipient, methodDetails } = terms;
	const parameters = {
		payer: signer.payer,
		payee: recipient,
		token: currency,
		salt: randomBytes32(),
		authorizedSigner,
		escrow: methodDetails.escrowContract,
		chainId: methodDetails.chainId,
	};
	const deposit = depositFor(policy, terms);
	const channelId = computeChannelId(parameters);
	return new PayerChannel({ channelId, parameters, deposit, challenge, sessionKey, resource: { url, method } });
}

async function payVoucher(
	parts: SessionParts,
	key: string,
	channel: PayerChannel,
	request: Outgoing,
	offer: Offered<SessionRequest>,
): Promise<Outcome> {
	const { channels } = parts;
	const { request: terms } = offer;
	const price = priceOf(request, terms);
	let again = false;
	let isMerged = false;
	const paid = await payCovered(parts, key, channel, request, offer, price, (topUp) => {
		isMerged = topUp !== undefined;
		return tryToPay(
			parts,
			channel,
			request,
			terms,
			price,
			async (amount) => {
				// This very offer's: the server charges the price that is answered to, or refuses.
				const { challenge } = offer;
				channel.challenge = challenge;
				return voucherCredential(parts, challenge, channel, amount, topUp);
			},
			(refusal, refused) => {
				again = afterRefusal(parts, key, channel, request, terms, refusal, refused);
			},
			topUp,
		);
	});
	if ("refused" in paid) {
		const { refused: response } = paid;
		const refusal = await refusalOf(response);
		if (refusal === undefined) {
			// It is about another resource: where the channel was opened.
			discard(response);
			throw new TopUpRefusedError(channel.channelId, response.status);
		}
		if (isClosing(refusal)) return { response, again: false, closing: channel };
		// A server that does not know the channel does not take its top-up either (D10).
		return { response, again: isGone(refusal) && afterRefusal(parts, key, channel, request, terms, refusal, response) };
	}
	const { response, refusal } = paid;
	if (isClosing(refusal)) return { response, again: false, closing: channel };
	if (refusal !== undefined && !again && isMerged && channel.needs(price) <= channel.deposit) {
		// A top-up that there was no need for yet must not cost the request.
		channel.topsUpEarly = false;
		return { response, again: channels.has(key, channel) };
	}
	return { response: answerOf(parts, key, channel, request, offer, price, paid), again };
}

/** The answer to a paid request: one that may go on pays for itself while it is read. */
function answerOf(
	parts: SessionParts,
	key: string,
	channel: PayerChannel,
	request: Outgoing,
	offer: Offered<SessionRequest>,
	price: bigint,
	{ response, receipt, goesOn }: Tried,
): Response {
	if (receipt === undefined || !goesOn) return response;
	const settings = request.stream ?? parts.stream;
	return paidAnswer({ parts, key, channel, request, offer, settings, price, response, receipt });
}

/** What a refusal of a voucher asks for: a fresh challenge, a higher voucher, or another channel. */
function afterRefusal(
	parts: SessionParts,
	key: string,
	channel: PayerChannel,
	request: Outgoing,
	terms: SessionRequest,
	refusal: Problem,
	response: Response,
): boolean {
	const { channels, now } = parts;
	const offers = offersOf(response, now());
	const fresh = offers.flatMap((offer) =>
		offer.intent === "session" && keyOf(request, offer.request) === key ? [offer] : [],
	)[0];
	switch (refusal.type) {
		case problemType("payment-required"):
		case problemType("session/challenge-not-found"):
			if (fresh !== undefined) channel.challenge = fresh.challenge;
			return offers.length > 0;
		case problemType("session/insufficient-balance"):
		case problemType("session/delta-too-small"): {
			const required = String(refusal.requiredCumulative ?? "");
			if (!/^\d{1,39}$/.test(required)) return false;
			if (takeEstimate(parts, channel, request, terms, BigInt(required))) return true;
			try {
				// At another price or step the next try says another amount by itself.
				if (fresh === undefined || isSameRate(fresh.request, terms))
					channel.catchUp(BigInt(required), priceOf(request, terms), terms.methodDetails.minVoucherDelta);
			} catch (error) {
				if (!(error instanceof OverchargeError)) throw error;
				// A channel that nobody here remembers is not worth what the server claims of it; nor is one of which it goes on
				// to claim more than is owed, as after the loss of its store: later requests get another one (D10).
				if (channel.isUnrecorded || channel.overclaims >= MAX_OVERCLAIMS) channels.forget(key, channel);
				if (!channel.isUnrecorded) throw error;
				return request.reopenOnce();
			}
			return true;
		}
		case problemType("session/channel-not-found"):
		case problemType("session/channel-finalized"):
			// D10: open another one, once. What the escrow holds of this one can be had back from it.
			channels.forget(key, channel);
			return request.reopenOnce();
		default:
			return false;
	}
}

function isSameRate(a: SessionRequest, b: SessionRequest): boolean {
	return a.amount === b.amount && a.methodDetails.minVoucherDelta === b.methodDetails.minVoucherDelta;
}

function isGone(refusal: Problem | undefined): refusal is Problem {
	const gone = [problemType("session/channel-not-found"), problemType("session/channel-finalized")];
	return refusal !== undefined && gone.includes(refusal.type);
}
