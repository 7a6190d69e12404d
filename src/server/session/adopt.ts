import type { Hex } from "viem";
import { type Challenge, type Problem, problem } from "../../protocol/index.ts";
import { voucherSigner } from "../../voucher/index.ts";
import { type Refused, refused } from "../admission.ts";
import { ChainUnavailableError } from "../chainState.ts";
import type { ChainState, Channel, ChannelIdentity } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent, type LedgerEvent, type VerifiedVoucher } from "../ledger.ts";
import { consumedChallenge, expiryOf, foreignChallengeProblem, sessionChallengeKey } from "../proofs.ts";
import type { Turn } from "../store/store.ts";
import { openKey } from "./credit.ts";
import { channelNotFoundProblem, signatureProblem, type VoucherClaim } from "./signed.ts";
import { LookupsBusyError } from "./strangers.ts";

/** When to ask again for a channel whose opening is on its way. */
const OPENING_RETRY_SECONDS = 1;

/** The request that a channel may be adopted for. */
export type Occasion = Readonly<{
	challenge: Challenge;
	/** What the request costs; 0 when it is about the channel alone. Base units. */
	price: bigint;
}>;

/** A channel that the escrow has and this store has not, with a voucher whose signature is good. */
export type Foundling = Readonly<{ identity: ChannelIdentity; chain: ChainState; voucher: VerifiedVoucher }>;

/**
 * Takes in a channel that the store has lost or never knew (D10): the chain is asked, the signature verified, and all but
 * this request's price counts as spent.
 */
export async function adopt(
	context: EngineContext,
	claim: VoucherClaim,
	occasion: Occasion,
): Promise<Readonly<{ kind: "verified"; channel: Channel }> | Refused> {
	const found = await find(context, claim, occasion.challenge);
	if ("kind" in found) return found;
	const { store, log, listeners, now } = context;
	const { channelId, payer } = found.identity;
	const at = now();
	const expiresAt = expiryOf(occasion.challenge);
	const key = sessionChallengeKey(occasion.challenge.id, expiresAt);
	const { value, durable } = await store.transact({ channel: channelId, proofs: [key] }, (view): Turn<Adopted> => {
		if (view.channel !== undefined) return { value: { channel: view.channel, isNew: false } };
		const bound = view.proof(key);
		if (bound !== undefined && bound.usedBy !== channelId) return { value: { refusal: foreignChallengeProblem() } };
		const step = applyEvent(undefined, adoption(found, occasion), at);
		if (!step.ok) return { value: { refusal: step.problem } };
		const values = { deposit: String(step.channel.deposit), settled: String(step.channel.settledOnChain), payer };
		return {
			value: { channel: step.channel, isNew: true },
			writes: {
				channel: step.channel,
				proofs: [consumedChallenge(occasion.challenge.id, expiresAt, channelId, store)],
				audit: [{ at, kind: "adopted", channelId, values }],
			},
		};
	});
	await durable;
	if ("refusal" in value) return refused(value.refusal);
	const { channel } = value;
	await context.chainState.caughtUp(channel);
	if (value.isNew) {
		log.warn(
			{ channelId, accepted: String(channel.acceptedCumulative) },
			"a channel unknown to this store was adopted",
		);
		listeners.tell("onChannelOpened", { channelId, payer, deposit: channel.deposit });
		const delta = channel.acceptedCumulative - channel.spent;
		const { acceptedCumulative } = channel;
		if (delta > 0n) listeners.tell("onVoucher", { channelId, payer, acceptedCumulative, delta });
	}
	return { kind: "verified", channel };
}

type Adopted = Readonly<{ channel: Channel; isNew: boolean }> | Readonly<{ refusal: Problem }>;

/** The ledger's event for a foundling. */
export function adoption({ identity, chain, voucher }: Foundling, { price }: Pick<Occasion, "price">): LedgerEvent {
	return { type: "opened", identity, chain, voucher, minimum: 0n, unaccounted: { price } };
}

/** Asks the chain for a channel that is to be ours, and verifies the voucher before anything is said of it (I3). */
export async function find(
	context: EngineContext,
	{ channelId, cumulativeAmount, signature }: VoucherClaim,
	challenge: Pick<Challenge, "id">,
): Promise<Foundling | Refused> {
	const { signatures, voucherDomain, chainState } = context;
	const identity = await identify(context, channelId);
	if ("kind" in identity) return identity;
	const signer = voucherSigner(identity);
	const { verdict } = await signatures.verifyVoucher(voucherDomain, signer, { channelId, cumulativeAmount }, signature);
	const invalid = signatureProblem(verdict, channelId);
	if (invalid !== undefined) return refused(invalid);
	const chain = await chainState.read(channelId);
	// It is there, so this is not the place for a 410: it was opened just now, or another node lags.
	if (chain === undefined) throw new ChainUnavailableError(`channel ${channelId} is not deep enough in the chain yet`);
	const byContract = signatures.isContract(signer);
	return { identity, chain, voucher: { cumulativeAmount, signature, challengeId: challenge.id, byContract } };
}

/** A channel that only the chain knows: it pays us, in this token; or why nothing can be said of it. */
export async function identify(
	{ strangers, terms, transactions }: EngineContext,
	channelId: Hex,
): Promise<ChannelIdentity | Refused> {
	const { chainId, escrow } = terms;
	if (transactions.isUnderWay(openKey({ channelId }))) {
		// Not a lost one: taken in now, what it has to spend would count as spent.
		const detail = "This channel is being opened; send the same request again.";
		return refused(problem("service-unavailable", detail, { channelId }), OPENING_RETRY_SECONDS);
	}
	try {
		const stranger = await strangers.identify(channelId);
		if (stranger === undefined || stranger.payee !== terms.recipient || stranger.token !== terms.currency)
			return refused(channelNotFoundProblem(channelId));
		const { payer, payee, token, authorizedSigner } = stranger;
		return { channelId, chainId, escrow, payer, payee, token, authorizedSigner };
	} catch (error) {
		if (!(error instanceof LookupsBusyError)) throw error;
		return busyWithLookups(channelId, error.waitSeconds);
	}
}

/** Channels that this store does not know are asked for at a rate (D10): this one has to wait. */
export function busyWithLookups(channelId: Hex, waitSeconds: number): Refused {
	const detail = "Too many channels are being looked up on chain; send the same request again.";
	return refused(problem("service-unavailable", detail, { channelId }), Math.ceil(waitSeconds));
}
