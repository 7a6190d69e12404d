import type { PaymentRange } from "../protocol/index.ts";
import { formatAcceptPayment, parseAcceptPayment, preferenceWeight } from "../protocol/index.ts";
import type { AbilityParts } from "./ability.ts";
import { type Offer, offersOf } from "./answer.ts";
import { keyOf } from "./channelKey.ts";
import { chooseCharge } from "./charge.ts";
import { chooseFunding } from "./funding.ts";
import type { Outgoing } from "./outgoing.ts";
import type { SessionParts } from "./parts.ts";
import { assertAllowed, assertSecure, depositFor, PolicyError, PolicyRefusedError, rankOfToken } from "./policy.ts";
import { findNamedChannel } from "./resume.ts";
import { discard } from "./retry.ts";

/** What choosing works with. */
export type ChoiceParts = SessionParts & Readonly<{ prefer: readonly PaymentRange[] | undefined }>;

/**
 * Reads a client's preference among methods and intents: ranges as in `Accept-Payment`, one an entry.
 *
 * @throws PolicyError
 */
export function parsePreference(prefer: readonly string[] | undefined): readonly PaymentRange[] | undefined {
	if (prefer === undefined) return undefined;
	const ranges = parseAcceptPayment(prefer.join(", "));
	if (ranges !== undefined && ranges.length > 0) return ranges;
	throw new PolicyError('prefer: give ranges such as "evm/session" or "evm/charge;q=0.5"');
}

/** The `Accept-Payment` of a preference. */
export function acceptPaymentOf(ranges: readonly PaymentRange[] | undefined): string | undefined {
	return ranges === undefined ? undefined : formatAcceptPayment(ranges);
}

/**
 * The offer of a response to pay: of those that the policy allows and this payer can pay, the one it prefers. First by
 * `prefer`, then by the policy's order of tokens and of chains, then as the server has it.
 *
 * @throws PolicyRefusedError the refusal of the first one, when there are offers and none can be paid: nothing was signed
 */
export async function chooseOffer(
	parts: ChoiceParts,
	request: Outgoing,
	response: Response,
): Promise<Offer | undefined> {
	let refusal: PolicyRefusedError | undefined;
	for (const offer of inOrder(parts, offersOf(response, parts.now()))) {
		try {
			await assertPayable(parts, request, offer);
			return offer;
		} catch (error) {
			if (!(error instanceof PolicyRefusedError)) throw error;
			refusal ??= error;
		}
	}
	if (refusal === undefined) return undefined;
	discard(response);
	throw refusal;
}

/** What the policy does not allow at all comes last: its refusal says least. */
function inOrder({ policy, prefer }: ChoiceParts, offers: readonly Offer[]): readonly Offer[] {
	const placeOf = <Value>(list: readonly Value[], value: Value) =>
		list.includes(value) ? list.indexOf(value) : list.length;
	const rankOf = ({ challenge, request }: Offer) => [
		-weightOf(prefer, challenge),
		rankOfToken(policy, { chainId: request.methodDetails.chainId, token: request.currency }),
		placeOf(policy.chainIds, request.methodDetails.chainId),
	];
	return offers
		.map((offer) => ({ offer, rank: rankOf(offer) }))
		.sort((a, b) => a.rank.map((value, at) => value - (b.rank[at] ?? 0)).find((difference) => difference !== 0) ?? 0)
		.map(({ offer }) => offer);
}

/** Anything is as good as anything else to whoever has no preference; what no range matches weighs nothing. */
function weightOf(prefer: ChoiceParts["prefer"], offered: Offer["challenge"]): number {
	return prefer === undefined ? 1 : preferenceWeight(offered, prefer);
}

/** @throws PolicyRefusedError */
async function assertPayable(parts: ChoiceParts, request: Outgoing, offer: Offer): Promise<void> {
	const { policy, prefer, signer, nodes } = parts;
	assertSecure(request.url);
	assertAllowed(policy, request.host, offer.request);
	if (weightOf(prefer, offer.challenge) === 0)
		throw new PolicyRefusedError("preference", `evm/${offer.intent} is not among what this client prefers`);
	if (!(await request.fits(offer.challenge)))
		throw new PolicyRefusedError("digest", "the challenge is for another body than that of the request");
	await nodes.at(offer.request.methodDetails.chainId);
	if (offer.intent === "charge") {
		// Only vouchers were sent by now: a charge is tried once.
		if (request.answerLost)
			throw new PolicyRefusedError("credential", "what may have been paid by channel is not paid by a charge as well");
		await chooseCharge(parts, offer.request);
		return;
	}
	const { recipient } = offer.request;
	if (signer.authorizedSigner === recipient)
		throw new PolicyRefusedError("signer", `the payee ${recipient} would sign the vouchers that pay it`);
	const { channels } = parts;
	const key = keyOf(request, offer.request);
	// Who opens it has found out.
	if (channels.turns.isBusy(key) || (await channels.recall(key, request.signal)) !== undefined) return;
	if ((await findNamedChannel(parts, request, offer.request)) !== undefined) return;
	await assertFundable(parts, offer.request);
}

async function assertFundable(parts: AbilityParts, terms: Parameters<typeof chooseFunding>[1]): Promise<void> {
	await chooseFunding(parts, terms, depositFor(parts.policy, terms));
}
