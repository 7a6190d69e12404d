import { TransactionNotSentError, TransactionRevertedError } from "../escrow/sender.ts";
import { isExpired, type Problem, problemType, type SessionReceipt, type SessionRequest } from "../protocol/index.ts";
import { computeChannelId, ZERO_ADDRESS } from "../voucher/index.ts";
import { isManagementAnswer, offersOf, receiptFor, refusalOf, takesAuthorization } from "./answer.ts";
import { channelKey, type Offered, PayerChannel } from "./channel.ts";
import type { Channels } from "./channels.ts";
import type { Outgoing } from "./outgoing.ts";
import { depositFor, type Policy } from "./policy.ts";
import { AUTHORIZATION_SECONDS, type CredentialSigner } from "./sign.ts";

/** How much later than it should a deposit's authorization may still be mined: clocks and nodes differ. */
const FUNDING_MARGIN_MS = 60_000;

/** The parts that paying by channel works with. */
export type SessionParts = Readonly<{
	policy: Policy;
	signer: CredentialSigner;
	channels: Channels;
	send: (request: Outgoing, credential?: string) => Promise<Response>;
	/** Unix milliseconds. */
	now: () => number;
}>;

/** What came of one paid try, and whether another one can do better. */
export type Outcome = Readonly<{ response: Response; again: boolean }>;

/** Channels belong to one origin each: a voucher for one is a bearer token that no other may see. */
export function keyOf(request: Pick<Outgoing, "origin">, terms: SessionRequest): string {
	return `${request.origin} ${channelKey(terms)}`;
}

/** Pays one request by the channel for its terms, opening it if there is none. The policy has allowed the terms before. */
export async function paySession(
	parts: SessionParts,
	request: Outgoing,
	offer: Offered<SessionRequest>,
): Promise<Outcome> {
	const { channels } = parts;
	const key = keyOf(request, offer.request);
	// From the last look to the entry in a map nothing is awaited.
	while (channels.isBusy(key)) await channels.free(key, request.signal);
	const channel = channels.usable(key);
	if (channel === undefined) return channels.alone(key, () => open(parts, key, request, offer));
	return channels.run(channel, payVoucher(parts, key, channel, request, offer));
}

async function open(
	parts: SessionParts,
	key: string,
	request: Outgoing,
	offer: Offered<SessionRequest>,
): Promise<Outcome> {
	const { channels, now } = parts;
	const { challenge, request: terms } = offer;
	const channel = await channels.toOpen(key, () => newChannel(parts, request, offer));
	if (channel.open) return payVoucher(parts, key, channel, request, offer);
	channel.challenge = challenge;
	const tried = await tryToPay(parts, channel, request, terms, (amount) =>
		openCredential(parts, channel, terms, amount),
	);
	const { response, receipt, refusal } = tried;
	if (receipt !== undefined) {
		channel.open = true;
		// An answer about the channel alone: its voucher does not cover what the request costs by now (D11).
		return { response, again: await isManagementAnswer(response) };
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
): PayerChannel {
	const { currency, recipient, methodDetails } = terms;
	const parameters = {
		payer: signer.payer,
		payee: recipient,
		token: currency,
		salt: randomSalt(),
		authorizedSigner: ZERO_ADDRESS,
		escrow: methodDetails.escrowContract,
		chainId: methodDetails.chainId,
	};
	const deposit = depositFor(policy, terms);
	const channelId = computeChannelId(parameters);
	return new PayerChannel({ channelId, parameters, deposit, challenge, resource: { url, method } });
}

async function openCredential(
	{ signer, now }: SessionParts,
	channel: PayerChannel,
	terms: SessionRequest,
	amount: bigint,
): Promise<string> {
	const { challenge, channelId, parameters, deposit } = channel;
	if (takesAuthorization(terms) && channel.fundingHash === undefined) {
		const until = now() + AUTHORIZATION_SECONDS * 1_000 + FUNDING_MARGIN_MS;
		channel.fundableUntil = Math.max(channel.fundableUntil, until);
		return signer.openByAuthorization(challenge, channelId, parameters, deposit, amount);
	}
	if (channel.fundingHash === undefined) {
		// A transaction can be mined at any time after.
		channel.fundableUntil = Number.POSITIVE_INFINITY;
		await fund(signer, channel);
	}
	if (channel.fundingHash === undefined) throw new Error(`channel ${channelId} was not funded`);
	return signer.openByTransaction(challenge, channelId, parameters, channel.fundingHash, amount);
}

/** The payer's own `open`. What may be on its way is remembered; what is known to have failed can be tried again. */
async function fund(signer: SessionParts["signer"], channel: PayerChannel): Promise<void> {
	try {
		await signer.fund(channel.channelId, channel.parameters, channel.deposit, (hash) => {
			channel.fundingHash = hash;
		});
	} catch (error) {
		if (error instanceof TransactionRevertedError || error instanceof TransactionNotSentError)
			channel.fundingHash = undefined;
		throw error;
	}
}

async function payVoucher(
	parts: SessionParts,
	key: string,
	channel: PayerChannel,
	request: Outgoing,
	{ challenge, request: terms }: Offered<SessionRequest>,
): Promise<Outcome> {
	const { signer, now } = parts;
	if (isExpired(channel.challenge, now())) channel.challenge = challenge;
	let again = false;
	const { response } = await tryToPay(
		parts,
		channel,
		request,
		terms,
		(amount) => signer.voucher("voucher", channel.challenge, channel, amount),
		(refusal, refused) => {
			again = afterRefusal(parts, key, channel, request, terms, refusal, refused);
		},
	);
	return { response, again };
}

/** What a refusal of a voucher asks for: a fresh challenge, a higher voucher, or another channel. */
function afterRefusal(
	{ channels, now }: SessionParts,
	key: string,
	channel: PayerChannel,
	request: Outgoing,
	terms: SessionRequest,
	refusal: Problem,
	response: Response,
): boolean {
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
			// At another price the next try says another amount by itself.
			if (fresh === undefined || fresh.request.amount === terms.amount) channel.catchUp(BigInt(required));
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

type Tried = Readonly<{ response: Response; receipt: SessionReceipt | undefined; refusal: Problem | undefined }>;

/**
 * One paid try, and its place in the books. Only a receipt proves that it was charged, only a refusal of the payment that
 * it was not. All else (a lost answer, a failure, a success without a receipt) leaves it open: nothing is signed for it
 * again unless the server claims it, and then once.
 */
async function tryToPay(
	{ send }: SessionParts,
	channel: PayerChannel,
	request: Outgoing,
	terms: SessionRequest,
	sign: (amount: bigint) => Promise<string>,
	onRefusal: (refusal: Problem, response: Response) => void = () => undefined,
): Promise<Tried> {
	// HEAD is about the channel and costs nothing (D11).
	const price = request.method === "HEAD" ? 0n : terms.amount;
	const amount = channel.begin(price, terms.methodDetails.minVoucherDelta);
	let booked: "delivered" | "failed" | "lost" = "failed";
	let receipt: SessionReceipt | undefined;
	try {
		const credential = await sign(amount);
		booked = "lost";
		const response = await send(request, credential);
		receipt = receiptFor(response, channel);
		if (receipt !== undefined) booked = "delivered";
		const refusal = receipt === undefined ? await refusalOf(response) : undefined;
		if (refusal !== undefined) {
			if (!request.answerLost) booked = "failed";
			onRefusal(refusal, response);
		}
		return { response, receipt, refusal };
	} finally {
		channel[booked](price);
		if (receipt !== undefined) channel.settleLost(receipt.spent);
	}
}

function randomSalt(): `0x${string}` {
	const bytes = crypto.getRandomValues(new Uint8Array(32));
	return `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
