import {
	type Challenge,
	isExpired,
	type Problem,
	problemType,
	type SessionReceipt,
	type SessionRequest,
} from "../protocol/index.ts";
import { computeChannelId } from "../voucher/index.ts";
import { isManagementAnswer, offersOf, receiptFor, refusalOf } from "./answer.ts";
import { askSpent } from "./ask.ts";
import { OverchargeError } from "./bookErrors.ts";
import { type Offered, PayerChannel } from "./channel.ts";
import { keyOf } from "./channelKey.ts";
import { orAborted } from "./channels.ts";
import { isClosing, outlive } from "./closing.ts";
import { credit, type MergedTopUp, payCovered, TopUpRefusedError } from "./cover.ts";
import { openCredential } from "./funding.ts";
import type { Outgoing } from "./outgoing.ts";
import type { Outcome, SessionParts, Tried } from "./parts.ts";
import { UnusableSignatureError } from "./payerSignature.ts";
import { randomBytes32 } from "./pending.ts";
import { boundsFor, depositFor } from "./policy.ts";
import { noteChannelReceipt } from "./receipts.ts";
import { type Acknowledged, acknowledge, staleServer } from "./recovery/staleServer.ts";
import { findNamedChannel } from "./resume.ts";
import { discard } from "./retry.ts";
import type { VoucherSigner } from "./sign.ts";
import { HolderLostError } from "./store/store.ts";
import { priceOf, takeEstimate } from "./stream/estimate.ts";
import { mayGoOn, paidAnswer } from "./stream/paidBody.ts";
import { maxStreamOf } from "./stream/vouchers.ts";
import { voucherCredential } from "./voucherCredential.ts";

/** Pays one request by the channel for its terms, opening it if there is none. The policy has allowed the terms before. */
export async function paySession(
	parts: SessionParts,
	request: Outgoing,
	offer: Offered<SessionRequest>,
): Promise<Outcome> {
	const { channels } = parts;
	const key = keyOf(request, offer.request);
	await approve(parts, key, request, offer);
	for (;;) {
		// From the last look to the entry in a map nothing is awaited.
		while (channels.isBusy(key)) await channels.free(key, request.signal);
		const channel = channels.usable(key);
		if (channel?.asksFirst && channel.isIdle) {
			await orAborted(
				channels.alone(key, () => askSpent(parts, key, channel)),
				request.signal,
			);
			continue;
		}
		let outcome: Outcome;
		try {
			outcome = await (channel === undefined
				? channels.alone(key, () => open(parts, key, request, offer))
				: channels.run(channel, payVoucher(parts, key, channel, request, offer)));
		} catch (error) {
			// Nothing was signed: another channel pays.
			if (error instanceof HolderLostError && channels.lost(key, error.channelId)) continue;
			// Nothing left: the payer pays in another way.
			if (error instanceof UnusableSignatureError) continue;
			throw error;
		}
		const { response, closing } = outcome;
		return closing === undefined ? outcome : { response, again: await outlive(parts, key, closing, request) };
	}
}

/** Asks for what this request may take: the deposit of a new channel, or its price. */
async function approve(
	parts: SessionParts,
	key: string,
	request: Outgoing,
	offer: Offered<SessionRequest>,
): Promise<void> {
	const { channels, gate } = parts;
	const { request: terms } = offer;
	const channel = (await channels.recall(key, request.signal)) ?? (await findNamedChannel(parts, request, terms));
	if (channel === undefined) return approveOpening(parts, request, offer);
	const asked = askedFor(offer);
	const amount = request.stream === undefined ? priceOf(request, terms) : maxStreamOf(parts, asked);
	return gate.approve(request, { ...asked, kind: "request", amount, channelId: channel.channelId });
}

/** Asks for the deposit of a new channel, unless this request has asked for as much before. */
function approveOpening(
	{ gate, policy }: SessionParts,
	request: Outgoing,
	offer: Offered<SessionRequest>,
): Promise<void> {
	return gate.approve(request, { ...askedFor(offer), kind: "open", amount: depositFor(policy, offer.request) });
}

function askedFor({ challenge: { description }, request: terms }: Offered<SessionRequest>) {
	const { currency: token, recipient: payee, methodDetails } = terms;
	return { chainId: methodDetails.chainId, token, payee, ...(description !== undefined && { description }) };
}

async function open(
	parts: SessionParts,
	key: string,
	request: Outgoing,
	offer: Offered<SessionRequest>,
): Promise<Outcome> {
	const { channels, signer, now } = parts;
	const { challenge, request: terms } = offer;
	const known = await channels.recall(key, request.signal);
	const named = known === undefined ? await findNamedChannel(parts, request, terms) : undefined;
	// The key of a channel that may be made; where none is, nobody ever hears of it.
	const voucherSigner = await signer.newVoucherSigner(terms.methodDetails.chainId);
	const create = async () => {
		if (named !== undefined) return named;
		// Where a channel was there, of which it turned out that it can't be used, only its price was asked for.
		await approveOpening(parts, request, offer);
		return newChannel(parts, request, offer, voucherSigner);
	};
	const channel = await channels.toOpen(key, terms.amount, create, request.signal);
	if (channel.open) {
		if (channel.asksFirst) await askSpent(parts, key, channel);
		return payVoucher(parts, key, channel, request, offer);
	}
	channel.challenge = challenge;
	const price = priceOf(request, terms);
	const tried = await tryToPay(parts, channel, request, terms, price, (amount) =>
		openCredential(parts, challenge, channel, terms, amount),
	);
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
				const challenge = await challengeFor(parts, channel, request, offer);
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

/** The channel's challenge as long as it is good and fits the request; else the one that came with the offer. */
async function challengeFor(
	{ now, usesChallengesOnce }: SessionParts,
	channel: PayerChannel,
	request: Outgoing,
	{ challenge }: Offered<SessionRequest>,
): Promise<Challenge> {
	const current = usesChallengesOnce(request.url) ? undefined : channel.challenge;
	if (current !== undefined && !isExpired(current, now()) && (await request.fits(current))) return current;
	channel.challenge = challenge;
	return challenge;
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
				if (!(error instanceof OverchargeError && channel.isUnrecorded)) throw error;
				// A channel that nobody here remembers is not worth what the server claims of it.
				channels.forget(key, channel);
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

/**
 * One paid try, and its place in the books. Only a receipt proves that it was charged, only a refusal of the payment that
 * it was not. All else (a lost answer, a failure, a success without a receipt) leaves it open: nothing is signed for it
 * again unless the server claims it, and then once.
 */
async function tryToPay(
	parts: SessionParts,
	channel: PayerChannel,
	request: Outgoing,
	terms: SessionRequest,
	price: bigint,
	sign: (amount: bigint) => Promise<string>,
	onRefusal: (refusal: Problem, response: Response) => void = () => undefined,
	topUp?: MergedTopUp,
): Promise<Tried> {
	const limit = channel.deposit + (topUp?.amount ?? 0n);
	const tried = request.tried?.channel === channel ? request.tried.price : 0n;
	const amount = channel.begin(price, terms.methodDetails.minVoucherDelta, limit, tried);
	let booked: "delivered" | "failed" | "lost" = "failed";
	let receipt: SessionReceipt | undefined;
	let goesOn = false;
	const before = channel.acknowledged;
	try {
		const credential = await sign(amount);
		booked = "lost";
		if (request.stream !== undefined) channel.newestStream.askFor(request.stream);
		const response = await parts.send(request, credential);
		receipt = receiptFor(response, channel);
		if (receipt !== undefined) {
			booked = "delivered";
			acknowledged(parts, channel, before, receipt);
			noteChannelReceipt(parts.keeper, channel.open ? "voucher" : "open", channel, request, price, receipt);
		}
		const refusal = receipt === undefined ? await refusalOf(response) : undefined;
		if (refusal !== undefined) {
			if (!request.answerLost) booked = "failed";
			onRefusal(refusal, response);
		}
		// Its own price is on its way still.
		const mayCostMore = (boundsFor(parts.policy, channel.parameters).maxStream ?? 0n) > price;
		goesOn = receipt !== undefined && mayGoOn(request, response, receipt, channel.needs(0n), mayCostMore);
		return { response, receipt, refusal, goesOn };
	} finally {
		const isEstimate = request.estimate > 0n;
		request.tried = {
			channel,
			price: goesOn ? channel.begun(price, isEstimate, tried) : channel[booked](price, tried),
		};
		if (receipt !== undefined) {
			if (goesOn) channel.noteSpent(receipt.spent);
			// What was estimated and not used is as good as never signed for.
			else channel.settleLost(receipt.spent, isEstimate);
			if (topUp !== undefined) credit(channel, topUp);
		}
	}
}

/** What a receipt acknowledges of a channel, and whether the server had acknowledged more before this try. */
function acknowledged(
	{ onStaleServer }: SessionParts,
	channel: PayerChannel,
	before: Acknowledged | undefined,
	receipt: SessionReceipt,
): void {
	channel.acknowledged = acknowledge(channel.acknowledged, receipt);
	const stale = staleServer(before, receipt);
	if (stale !== undefined) onStaleServer?.(stale);
}
