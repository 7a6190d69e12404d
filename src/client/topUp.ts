import { isPermit2NonceUsed, readAuthorizationState } from "../escrow/reads.ts";
import { type Challenge, encodeSessionPayload, type SessionRequest } from "../protocol/index.ts";
import { topUpAuthorizationNonce } from "../voucher/index.ts";
import type { PayerChannel } from "./channel.ts";
import { approve, chooseFunding, FUNDING_MARGIN_MS, type FundingParts } from "./funding.ts";
import { ownTopUpState } from "./ownTopUp.ts";
import { UnusableSignatureError } from "./payerSignature.ts";
import { type PendingTopUp, randomBytes32, randomPermitNonce, type SignedTopUp } from "./pending.ts";

/** A signature that is about to run out is not sent again. */
const FRESH_MS = 30_000;

/** Decides how `amount` is added to a channel. Nothing is signed or sent by this, but an approval if there is need of one. */
export async function planTopUp(
	parts: FundingParts,
	channel: PayerChannel,
	terms: SessionRequest,
	amount: bigint,
): Promise<PendingTopUp> {
	const { chainId, token } = channel.parameters;
	const { type, permit2, needsApproval } = await chooseFunding(parts, terms, amount);
	if (needsApproval) {
		// Not even an approval is sent where nothing may be paid in.
		await parts.gate.deposit(channel);
		await approve(parts, chainId, token, permit2, amount);
	}
	if (type === "authorization") return { type, amount, salt: randomBytes32(), until: 0 };
	return type === "permit2" ? { type, amount, permit2, nonce: randomPermitNonce(), until: 0 } : { type, amount };
}

/** The signature of a top-up: the last one while it is good, else another one that can be executed in its stead. */
export async function signTopUp(
	{ signer, gate, now }: FundingParts,
	challenge: Challenge,
	channel: PayerChannel,
	topUp: Exclude<PendingTopUp, { type: "hash" }>,
): Promise<SignedTopUp> {
	const goodUntilMs = Number(signer.goodUntil(challenge)) * 1_000;
	const isFresh = topUp.signed !== undefined && now() + FRESH_MS < signedUntilMs(topUp.signed);
	const { until } = topUp;
	if (!isFresh) topUp.until = Math.max(until, goodUntilMs + FUNDING_MARGIN_MS);
	try {
		await gate.deposit(channel);
	} catch (error) {
		// Nothing was signed.
		topUp.until = until;
		throw error;
	}
	if (isFresh && topUp.signed !== undefined) return topUp.signed;
	try {
		return await makeTopUp(signer, challenge, channel, topUp);
	} catch (error) {
		// It never left, so nobody can execute it: another one is planned.
		if (error instanceof UnusableSignatureError) topUp.until = until;
		throw error;
	}
}

async function makeTopUp(
	signer: FundingParts["signer"],
	challenge: Challenge,
	{ channelId, parameters }: PayerChannel,
	topUp: Exclude<PendingTopUp, { type: "hash" }>,
): Promise<SignedTopUp> {
	const { chainId, token, escrow } = parameters;
	if (topUp.type === "authorization") {
		const { amount, salt } = topUp;
		const from = signer.payer;
		const nonce = topUpAuthorizationNonce({ channelId, additionalDeposit: amount, from, topUpSalt: salt });
		const transfer = { to: escrow, value: amount, nonce };
		const { signature, ...authorization } = await signer.authorize("receive", challenge, { chainId, token }, transfer);
		topUp.signed = { action: "topUp", type: "authorization", salt, authorization, signature };
		return topUp.signed;
	}
	const { amount, nonce, permit2 } = topUp;
	const witness = { channelId };
	const { permit, signature } = await signer.permitChannel(
		challenge,
		{ chainId, permit2 },
		{
			permitted: { token, amount },
			spender: escrow,
			nonce,
			witness,
		},
	);
	topUp.signed = { action: "topUp", type: "permit2", authorization: { ...permit, witness }, signature };
	return topUp.signed;
}

/** `action="topUp"` alone, without a voucher. */
export async function topUpCredential(
	parts: FundingParts,
	challenge: Challenge,
	channel: PayerChannel,
	topUp: PendingTopUp,
): Promise<string> {
	const { signer } = parts;
	const { channelId, parameters } = channel;
	const common = { action: "topUp", channelId, additionalDeposit: topUp.amount } as const;
	if (topUp.type !== "hash") {
		const { action: _, ...signed } = await signTopUp(parts, challenge, channel, topUp);
		return signer.credential(challenge, encodeSessionPayload({ ...common, ...signed }), parameters.chainId);
	}
	if (topUp.sent === undefined) throw new Error(`the top-up of channel ${channelId} was not sent`);
	const payload = encodeSessionPayload({ ...common, type: "hash", hash: topUp.sent.hash });
	return signer.credential(challenge, payload, parameters.chainId);
}

function signedUntilMs({ type, authorization }: SignedTopUp): number {
	return Number(type === "authorization" ? authorization.validBefore : authorization.deadline) * 1_000;
}

/**
 * Whether the deposit has a top-up by now, as the payer's own node shows it: only the escrow can use its nonce. `lapsed`
 * when nobody can execute it any more.
 */
export async function topUpState(
	parts: FundingParts,
	channel: PayerChannel,
	topUp: PendingTopUp,
): Promise<"done" | "open" | "lapsed"> {
	if (topUp.type === "hash") return ownTopUpState(parts, channel, topUp);
	const { signer, nodes, now } = parts;
	const { channelId, parameters } = channel;
	const { chainId, token } = parameters;
	if (topUp.until === 0) return "lapsed";
	const client = await nodes.at(chainId);
	const from = signer.payer;
	// The clock first: what is executed in between is then still found.
	const late = now() >= topUp.until;
	const used =
		topUp.type === "permit2"
			? await isPermit2NonceUsed(client, topUp.permit2, from, topUp.nonce)
			: await readAuthorizationState(
					client,
					token,
					from,
					topUpAuthorizationNonce({ channelId, additionalDeposit: topUp.amount, from, topUpSalt: topUp.salt }),
				);
	if (used) return "done";
	return late ? "lapsed" : "open";
}
