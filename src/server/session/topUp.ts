import type { Hex } from "viem";
import { readToppingUpReceipts } from "../../escrow/events.ts";
import { TransactionRevertedError } from "../../escrow/sender.ts";
import { type Challenge, type Problem, problem, type TopUpPayload } from "../../protocol/index.ts";
import { type Admission, type Refused, refused } from "../admission.ts";
import { ChainUnavailableError } from "../chainState.ts";
import type { Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { topUpProblem } from "../ledger.ts";
import { expiryOf } from "../proofs.ts";
import { finalizedProblem } from "../refusals.ts";
import { sourceOn } from "../source.ts";
import { busyWithLookups, identify } from "./adopt.ts";
import { bindChallenge, usedByAnother } from "./binding.ts";
import { clientReceipt } from "./clientTransaction.ts";
import { type Funding, fundingSignatureProblem, fundingTimeProblem, topUpFunding, typeProblem } from "./funding.ts";
import { sourceProblem } from "./open.ts";
import type { SessionOrder } from "./order.ts";
import { sessionReceipt } from "./receipt.ts";
import { revertedProblem } from "./reverted.ts";
import { channelNotFoundProblem, isOurs } from "./signed.ts";
import { creditTopUp, isProblem, topUpKey, topUpPurpose } from "./topUpCredit.ts";

/**
 * `action="topUp"`: draft-evm-session-00, TopUp Verification. Management (D11). Where the payer's own funds are added, the
 * escrow cancels the close that it has requested (D14); anybody else's leave it as it is (D15).
 */
export async function topUp(context: EngineContext, order: SessionOrder<TopUpPayload>): Promise<Admission> {
	const { payload, screened } = order;
	const { channelId } = payload;
	const { challenge, source } = screened.credential;
	const unlisted = typeProblem(screened, payload.type);
	if (unlisted !== undefined) return refused(unlisted);
	const before = await context.store.channel(channelId);
	if (before === undefined) return unknownChannel(context, channelId);
	if (!isOurs(context, before)) return refused(channelNotFoundProblem(channelId));
	const foreign = await usedByAnother(context, challenge, channelId);
	if (foreign !== undefined) return foreign;

	let done: Refused | Readonly<{ txHash: Hex }>;
	if (payload.type === "hash") {
		const funder = sourceOn(context.terms.chainId, source);
		if (funder === undefined) return refused(sourceProblem(context.terms.chainId));
		const receipt = await clientReceipt(context, channelId, payload.hash);
		if ("kind" in receipt) return receipt;
		const credited = await creditTopUp(context, { channelId, funder, amount: payload.additionalDeposit }, receipt);
		done = isProblem(credited) ? refused(credited) : { txHash: payload.hash };
	} else {
		const funding = topUpFunding(context, payload, channelId);
		done =
			"problem" in funding ? refused(funding.problem) : await sendTopUp(context, { channelId, funding, challenge });
	}
	if ("kind" in done) return done;
	const channel = await context.store.channel(channelId);
	if (channel === undefined) throw new Error(`channel ${channelId} vanished while it was topped up`);
	if (channel.finalized) return refused(finalizedProblem(channelId));
	return { kind: "managed", receipt: sessionReceipt(context, channel, challenge, done) };
}

export type TopUpOrder = Readonly<{
	channelId: Hex;
	funding: Funding;
	challenge: Challenge;
	/** What else speaks against it, before it costs gas. */
	check?: (channel: Channel | undefined) => Problem | undefined;
}>;

/**
 * Sends a signed top-up, unless it was credited before or is under way; resolves when it is credited, or to a refusal. So a
 * credential whose answer was lost gets it again, without a second transaction.
 */
export async function sendTopUp(
	context: EngineContext,
	{ channelId, funding, challenge, check }: TopUpOrder,
): Promise<Refused | Readonly<{ txHash: Hex }>> {
	const { terms, transactions } = context;
	const { from: funder, amount, key: depositKey } = funding;
	// Before anything is said of it, also that it was credited (I3).
	const invalid = await fundingSignatureProblem(context, funding, channelId);
	if (invalid !== undefined) return refused(invalid);
	const before = await credited(context, channelId, depositKey);
	if (before !== undefined) return before;

	const purpose = topUpPurpose({ channelId, funder, amount, depositKey }, terms);
	const key = topUpKey(purpose);
	if (!transactions.isUnderWay(key)) {
		const refusal = await notWorthIt(context, channelId, funding, check);
		if (refusal !== undefined) return refused(refusal);
	}
	try {
		const { transactionHash: txHash } = await transactions.perform({
			...funding.call,
			draw: funding.draw,
			key,
			purpose,
			record: (entry) =>
				bindChallenge(context, {
					challengeId: challenge.id,
					expiresAt: expiryOf(challenge),
					channelId,
					entry,
				}),
		});
		return { txHash };
	} catch (error) {
		const found = error instanceof TransactionRevertedError ? await alreadyDone() : undefined;
		return found ?? revertedProblem(error, channelId);
	}

	/** Credited while this request was on its way; or a stranger who copied our pending call was first. */
	async function alreadyDone(): Promise<Readonly<{ txHash: Hex }> | undefined> {
		const meanwhile = await credited(context, channelId, depositKey);
		if (meanwhile !== undefined || !(await funding.isUsed(context.client))) return meanwhile;
		const receipts = await readToppingUpReceipts(context.client, terms.escrow, channelId, { funder, amount });
		for (const receipt of receipts) {
			const topUp = { channelId, funder, amount, depositKey };
			const outcome = await creditTopUp(context, topUp, receipt, { mustBeNew: true });
			if (!isProblem(outcome)) return { txHash: outcome.txHash };
		}
		return undefined;
	}
}

/** The transaction that used this signed deposit for this channel, if it was credited. */
export async function credited(
	{ store }: EngineContext,
	channelId: Hex,
	depositKey: string,
): Promise<Readonly<{ txHash: Hex }> | undefined> {
	const { value } = await store.transact({ proofs: [depositKey] }, (view) => ({ value: view.proof(depositKey) }));
	if (value?.usedBy !== channelId || value.reference === undefined) return undefined;
	return { txHash: value.reference as Hex };
}

/**
 * What speaks against spending gas on a top-up. What is known is asked first; then the channel is read anew: a close may
 * have been requested just now (D14).
 */
async function notWorthIt(
	context: EngineContext,
	channelId: Hex,
	funding: Funding,
	check: TopUpOrder["check"],
): Promise<Problem | undefined> {
	const { store, chainState, limits } = context;
	const wrong = (channel: Channel | undefined) =>
		(channel && topUpProblem(channel, funding.amount, limits.minSponsoredDeposit)) ?? check?.(channel);
	const stored = await store.channel(channelId);
	if (stored !== undefined) await chainState.ensureFresh(stored);
	const known = await store.channel(channelId);
	const refusal = wrong(known) ?? fundingTimeProblem(context, funding);
	if (refusal !== undefined || known === undefined) return refusal;
	await chainState.refresh(channelId);
	return wrong(await store.channel(channelId));
}

/**
 * A top-up of a channel that this store does not know. Without a voucher it can't be taken in: nobody would remember what
 * was spent of it (D10). A voucher, also one with a merged top-up, can.
 */
async function unknownChannel(context: EngineContext, channelId: Hex): Promise<Refused> {
	const identity = await identify(context, channelId);
	if ("kind" in identity) return identity;
	// Nothing of this was signed, so it is asked for at the rate of all strangers.
	const waitSeconds = context.lookupRate.take("");
	if (waitSeconds > 0) return busyWithLookups(channelId, waitSeconds);
	const chain = await context.chainState.read(channelId);
	if (chain === undefined) throw new ChainUnavailableError(`channel ${channelId} is not deep enough in the chain yet`);
	const { finalized, deposit } = chain;
	if (finalized)
		return refused(problem("session/channel-finalized", "This channel is closed for ever.", { channelId }));
	const detail = "This server has no voucher of the channel; send one, then the top-up, or both in one.";
	return refused(problem("session/insufficient-balance", detail, { channelId, deposit }));
}
