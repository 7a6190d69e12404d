import type { Address, Hex } from "viem";
import { readOpeningReceipt } from "../../escrow/events.ts";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import { TransactionRevertedError } from "../../escrow/sender.ts";
import { type OpenPayload, type Problem, problem } from "../../protocol/index.ts";
import { type Admission, type Refused, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent } from "../ledger.ts";
import { sourceOn } from "../source.ts";
import { bindChallenge, usedByAnother } from "./binding.ts";
import { clientReceipt } from "./clientTransaction.ts";
import { credit, openKey } from "./credit.ts";
import { type Funding, fundingSignatureProblem, fundingTimeProblem, openFunding, typeProblem } from "./funding.ts";
import { describeOpening, type Opening, openingPurpose } from "./opening.ts";
import type { SessionOrder } from "./order.ts";
import { revertedProblem } from "./reverted.ts";
import { spend } from "./spend.ts";
import { tooManyVouchers } from "./voucher.ts";

/**
 * `action="open"`: draft-evm-session-00, Open Verification. Everything that needs no chain is checked first, the
 * initial voucher included (D5); then the deposit is made or found on chain and credited once (D12); then the same
 * credential pays for this request if its voucher covers the price (D11).
 */
export async function open(context: EngineContext, order: SessionOrder<OpenPayload>): Promise<Admission> {
	const { payload, screened, request, offer } = order;
	const { channelId, cumulativeAmount, salt, authorizedSigner } = payload;
	const unlisted = typeProblem(screened, payload.type);
	if (unlisted !== undefined) return refused(unlisted);
	const payer = payerOf(payload, screened.credential.source, context.terms.chainId);
	if (typeof payer !== "string") return refused(payer);

	const signature = payload.type === "hash" ? payload.signature : payload.voucherSignature;
	const claim = { channelId, cumulativeAmount, signature, payer, salt, authorizedSigner };
	const opening = await describeOpening(context, order, claim);
	if ("problem" in opening) return refused(opening.problem);
	const foreign = await usedByAnother(context, screened.credential.challenge, channelId);
	if (foreign !== undefined) return foreign;
	const known = await context.store.channel(channelId);
	if (known !== undefined) {
		const tooMany = tooManyVouchers(context, payload);
		if (tooMany !== undefined) return tooMany;
		await context.chainState.ensureFresh(known);
	} else {
		const refusal = payload.type === "hash" ? await findOpening(context, payload.hash, opening) : await fund();
		if (refusal !== undefined) return refusal;
	}
	return spend(context, {
		request,
		offer,
		challenge: screened.credential.challenge,
		answered: screened.request.amount,
		channelId,
		voucher: { cumulativeAmount, signature },
		credentialKey: screened.credentialKey,
		management: request.method === "HEAD" ? "always" : "when-not-covered",
	});

	async function fund(): Promise<Refused | undefined> {
		if (payload.type === "hash" || "problem" in opening) return undefined;
		const funding = openFunding(context, payload, opening.identity);
		return "problem" in funding ? refused(funding.problem) : sendOpening(context, opening, funding);
	}
}

/**
 * Sends a signed deposit that opens a channel, unless it is under way; resolves when it is credited, or to a refusal
 * (draft-evm-session-00, Open Verification for `authorization` and `permit2`).
 */
export async function sendOpening(
	context: EngineContext,
	described: Opening,
	funding: Funding,
): Promise<Refused | undefined> {
	const { client, terms, transactions } = context;
	const opening = { ...described, depositKey: funding.key };
	const { channelId } = opening.identity;
	// What is on its way already is waited for, however long its authorization is still valid.
	const isUnderWay = transactions.isUnderWay(openKey({ channelId }));
	const invalid = isUnderWay ? undefined : await openingProblem(context, opening, funding);
	if (invalid !== undefined) return refused(invalid);

	const purpose = openingPurpose(opening, terms);
	try {
		await transactions.perform({
			...funding.call,
			draw: funding.draw,
			key: openKey(purpose),
			purpose,
			record: (entry) => record(context, opening, entry),
		});
		return undefined;
	} catch (error) {
		// A stranger who copied our pending call and was first has opened the very channel.
		const mined =
			error instanceof TransactionRevertedError ? await readOpeningReceipt(client, terms.escrow, channelId) : undefined;
		if (mined === undefined) return revertedProblem(error, channelId);
		const outcome = await credit(context, opening, mined);
		return outcome === undefined ? undefined : refused(outcome);
	}
}

/** On disk before the broadcast: the transaction, and that this channel has taken the challenge. */
function record(
	context: EngineContext,
	{ identity, voucher, challengeExpiresAt }: Opening,
	entry: OutboxEntry,
): Promise<void> {
	return bindChallenge(context, {
		challengeId: voucher.challengeId,
		expiresAt: challengeExpiresAt,
		channelId: identity.channelId,
		entry,
	});
}

/** What is wrong with a deposit, checked before any gas is spent on it. */
async function openingProblem(
	context: EngineContext,
	{ identity, voucher, minimum }: Opening,
	funding: Funding,
): Promise<Problem | undefined> {
	const { limits, now } = context;
	// The ledger is asked what it would say of the channel if it were open already.
	const chain = { deposit: funding.amount, settledOnChain: 0n, closeRequestedAt: 0, finalized: false, blockNumber: 0 };
	const least = minimum > limits.minSponsoredDeposit ? minimum : limits.minSponsoredDeposit;
	const foreseen = applyEvent(undefined, { type: "opened", identity, chain, voucher, minimum: least }, now());
	if (!foreseen.ok) return foreseen.problem;
	return fundingTimeProblem(context, funding) ?? (await fundingSignatureProblem(context, funding, identity.channelId));
}

/** Finds the opening that the payer's own transaction made; resolves when it is credited, or to a refusal. */
async function findOpening(context: EngineContext, hash: Hex, opening: Opening): Promise<Refused | undefined> {
	const receipt = await clientReceipt(context, opening.identity.channelId, hash);
	if ("kind" in receipt) return receipt;
	const outcome = await credit(context, opening, receipt);
	return outcome === undefined ? undefined : refused(outcome);
}

/** Who opens: whose tokens are signed for or, by `hash`, who `source` says (D8). */
function payerOf(payload: OpenPayload, source: string | undefined, chainId: number): Address | Problem {
	if (payload.type !== "hash") return payload.authorization.from;
	return sourceOn(chainId, source) ?? sourceProblem(chainId);
}

export function sourceProblem(chainId: number): Problem {
	return problem("bad-request", `type "hash" needs a source did:pkh:eip155:${chainId}:<payer>.`);
}
