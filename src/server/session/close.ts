import type { Hex, TransactionReceipt } from "viem";
import { findReceipt } from "../../escrow/confirmations.ts";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import type { Challenge, ClosePayload } from "../../protocol/index.ts";
import { type Admission, type Refused, refused } from "../admission.ts";
import { ChainUnavailableError } from "../chainState.ts";
import type { ChainState, Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent, closingVoucher, type Effect } from "../ledger.ts";
import { consumedChallenge, expiryOf, foreignChallengeProblem, sessionChallengeKey } from "../proofs.ts";
import { retireKey, rowsOf } from "../settlement/rows.ts";
import { whenSettled } from "../settlement/targets.ts";
import type { Turn } from "../store/store.ts";
import { type Conclusions, concludedEntry, type FailedOutcome, recordEntry } from "../transactions.ts";
import { decideClose, endStream, payeeCall, putClosed, reopen, resumeClosing } from "./closing.ts";
import { withoutTheGone } from "./current.ts";
import type { SessionOrder } from "./order.ts";
import { sessionReceipt } from "./receipt.ts";
import { revertedProblem } from "./reverted.ts";
import { verifyOnChannel } from "./voucher.ts";

/**
 * `action="close"`: draft-evm-session-00, Cooperative Close; D6. The signature is verified on every path, running
 * requests finish or are abandoned, then the channel is closed on chain with what the ledger says.
 */
export async function close(
	context: EngineContext,
	{ payload, screened }: SessionOrder<ClosePayload>,
): Promise<Admission> {
	const { channelId } = payload;
	const { challenge } = screened.credential;
	const checked = await verifyOnChannel(context, payload, { challenge, price: 0n });
	if (checked.kind === "refused") return checked;
	// Closed before: whoever asks again, because the answer was lost, gets it again.
	if (checked.channel.closeTxHash !== null) return closedAnswer(context, checked.channel, challenge);
	await context.chainState.ensureFresh(checked.channel);
	try {
		for (let attempt = 1; ; attempt++) {
			const outcome = await closeOnce(context, payload, challenge);
			if ("kind" in outcome) return outcome;
			const channel = await context.store.channel(channelId);
			if (channel === undefined) throw new Error(`channel ${channelId} vanished while it was closed`);
			// A batch that was under way may have left it out: then by itself.
			if (channel.finalized || attempt === 2) return closedAnswer(context, channel, challenge);
		}
	} catch (error) {
		return revertedProblem(error, channelId);
	}
}

function closedAnswer(context: EngineContext, channel: Channel, challenge: Challenge): Admission {
	const { closeTxHash } = channel;
	const extra = closeTxHash === null ? {} : { txHash: closeTxHash };
	return { kind: "managed", receipt: sessionReceipt(context, channel, challenge, extra) };
}

/** One close of a channel at a time, also across restarts. */
export function closeKey({ channelId }: Readonly<Record<string, string>>): string {
	return `close:${channelId}`;
}

/** A close under way, this process's or an earlier one's, is waited for; a second one is never begun beside it. */
function closeOnce(
	context: EngineContext,
	payload: ClosePayload,
	challenge: Challenge,
): Promise<TransactionReceipt | Refused> {
	const { transactions, closes } = context;
	const { channelId } = payload;
	const running = closes.get(channelId) ?? transactions.join(closeKey({ channelId })) ?? retirement(context, channelId);
	if (running !== undefined) return running;
	const run = begin(context, payload, challenge).finally(() => closes.delete(channelId));
	closes.set(channelId, run);
	return run;
}

/** A transaction under way by which the server closes this channel of its own accord. */
function retirement({ transactions }: EngineContext, channelId: Hex): Promise<TransactionReceipt> | undefined {
	const entry = transactions
		.pendingEntries()
		.find(({ purpose }) => purpose.kind === "retire" && rowsOf(purpose).some((row) => row.channelId === channelId));
	return entry && transactions.join(retireKey(entry.purpose));
}

async function begin(
	context: EngineContext,
	payload: ClosePayload,
	challenge: Challenge,
): Promise<TransactionReceipt | Refused> {
	const { drains, limits, terms, transactions, listeners, relayed, recloses } = context;
	const { channelId } = payload;
	const key = closeKey({ channelId });
	const listening = drains.listen(channelId, limits.drainDeadlineMs);
	const stopped = await stopSelling(context, payload, challenge);
	if (stopped !== undefined) {
		listening.stop();
		return stopped;
	}
	endStream(context, channelId);
	await listening.done;
	try {
		const decided = await decideClose(context, channelId, (channel) => closingVoucher(channel, payload));
		if ("problem" in decided) {
			await reopen(context, channelId);
			return refused(decided.problem);
		}
		const { cumulativeAmount, signature, channel, raisedBy } = decided;
		const { acceptedCumulative, payer } = channel;
		if (raisedBy > 0n) listeners.tell("onVoucher", { channelId, payer, acceptedCumulative, delta: raisedBy });
		if (relayed) await whenSettled(context, channelId);
		return await transactions.perform({
			...(await payeeCall(context, "close", [{ channelId, cumulativeAmount, signature }])),
			key,
			purpose: {
				kind: "close",
				currency: terms.currency,
				escrow: terms.escrow,
				channelId,
				cumulativeAmount: String(cumulativeAmount),
			},
			checkFunds: true,
			record: (entry) => recordEntry(context.store, entry),
		});
	} catch (error) {
		// A transaction under way keeps the channel closing, and so does one that others can send; everything else gives it back.
		if (!transactions.isUnderWay(key) && !recloses.has(channelId)) await reopen(context, channelId);
		throw error;
	}
}

/** From here on no new voucher and no new reservation. */
async function stopSelling(
	context: EngineContext,
	{ channelId, cumulativeAmount }: ClosePayload,
	challenge: Challenge,
): Promise<Refused | undefined> {
	const { store, now } = context;
	const expiresAt = expiryOf(challenge);
	const key = sessionChallengeKey(challenge.id, expiresAt);
	const { value, durable } = await store.transact({ channel: channelId, proofs: [key] }, (view): Turn<Stopped> => {
		const bound = view.proof(key);
		if (bound !== undefined && bound.usedBy !== channelId) {
			return { value: { refusal: refused(foreignChallengeProblem()) } };
		}
		const at = now();
		const current = withoutTheGone(view.channel, store, at);
		const voucher = { cumulativeAmount, challengeId: challenge.id };
		const step = applyEvent(current, { type: "close-begun", owner: store.owner, voucher }, at);
		if (!step.ok) return { value: { refusal: refused(step.problem) } };
		const proofs = bound === undefined ? [consumedChallenge(challenge.id, expiresAt, channelId, store)] : [];
		return { value: { channel: step.channel, effects: step.effects }, writes: { channel: step.channel, proofs } };
	});
	if ("refusal" in value) return value.refusal;
	await durable;
	context.onEffects(value.channel, value.effects);
	return undefined;
}

type Stopped = Readonly<{ refusal: Refused }> | Readonly<{ channel: Channel; effects: readonly Effect[] }>;

/** What becomes of the ledger when a close was mined, or failed. */
export function closeConclusions(context: EngineContext): Conclusions {
	const { store, client, chainState, relayed, recloses, now, log } = context;
	return {
		async succeeded(entry, receipt) {
			const closed = await closedOnChain(entry);
			if (closed === undefined) throw new ChainUnavailableError("the chain does not show the close yet");
			await conclude({ ...entry, state: "confirmed" }, closed, receipt.transactionHash);
		},
		async failed(entry, outcome) {
			const { channelId } = entry.purpose;
			// The chain has the last word.
			const closed = outcome === "unsent" ? undefined : await closedOnChain(entry);
			if (closed !== undefined) {
				// Ours after all, behind a node that lagged; or the payer has withdrawn.
				const receipt = await findReceipt(client, entry).catch(() => undefined);
				const closeTxHash = receipt?.status === "success" ? receipt.transactionHash : undefined;
				return conclude(concludedEntry(entry, outcome), closed, closeTxHash);
			}
			await notClosed(entry, outcome);
			log.warn({ channelId, txHash: entry.hash, outcome }, "a close did not go through");
		},
	};

	async function notClosed(entry: OutboxEntry, outcome: FailedOutcome): Promise<void> {
		const channelId = entry.purpose.channelId as Hex;
		const outbox = [concludedEntry(entry, outcome)];
		// Also one that no node took was shown to one.
		if (!relayed)
			return reopen(context, channelId, { published: BigInt(entry.purpose.cumulativeAmount ?? "0"), outbox });
		// Whoever has seen the authorization can use it for a while: no voucher is taken that it would leave out.
		recloses.add(channelId);
		const { durable } = await store.transact({}, () => ({ value: undefined, writes: { outbox } }));
		await durable;
	}

	async function closedOnChain({ purpose }: OutboxEntry): Promise<ChainState | undefined> {
		const chain = await chainState.read(purpose.channelId as Hex);
		return chain?.finalized ? chain : undefined;
	}

	async function conclude(entry: OutboxEntry, chain: ChainState, closeTxHash: Hex | undefined): Promise<void> {
		const channelId = entry.purpose.channelId as Hex;
		const values = { settled: String(chain.settledOnChain), txHash: closeTxHash ?? "unknown" };
		const audit = [{ at: now(), kind: "closed", channelId, values }];
		await putClosed(context, channelId, chain, { ...(closeTxHash && { closeTxHash }), outbox: [entry], audit });
		log.info({ channelId, ...values }, "channel closed");
	}
}

/** A restart found a close on its way: the channel sells nothing until its outcome is known. */
export function resumeClose(context: EngineContext, { purpose }: OutboxEntry): Promise<void> {
	return resumeClosing(context, purpose.channelId as Hex);
}
