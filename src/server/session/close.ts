import type { Hex, TransactionReceipt } from "viem";
import { findReceipt } from "../../escrow/confirmations.ts";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import { closeCall } from "../../escrow/payeeCalls.ts";
import type { Challenge, ClosePayload } from "../../protocol/index.ts";
import { type Admission, type Refused, refused } from "../admission.ts";
import { ChainUnavailableError } from "../chainState.ts";
import type { ChainState, Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { VoucherEvent } from "../hooks.ts";
import { applyEvent, closingVoucher, type Effect, type LedgerEvent, type Transition } from "../ledger.ts";
import { challengeKey, consumeChallenge, expiryOf, foreignChallengeProblem } from "../proofs.ts";
import type { Turn } from "../store/store.ts";
import { type Conclusions, concludedEntry, type FailedOutcome, recordEntry } from "../transactions.ts";
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
		const outcome = await closeOnce(context, payload, challenge);
		if ("kind" in outcome) return outcome;
		const channel = await context.store.channel(channelId);
		if (channel === undefined) throw new Error(`channel ${channelId} vanished while it was closed`);
		return closedAnswer(context, channel, challenge);
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
	const running = closes.get(channelId) ?? transactions.join(closeKey({ channelId }));
	if (running !== undefined) return running;
	const run = begin(context, payload, challenge).finally(() => closes.delete(channelId));
	closes.set(channelId, run);
	return run;
}

async function begin(
	context: EngineContext,
	payload: ClosePayload,
	challenge: Challenge,
): Promise<TransactionReceipt | Refused> {
	const { drains, limits, terms, transactions } = context;
	const { channelId } = payload;
	const key = closeKey({ channelId });
	const listening = drains.listen(channelId, limits.drainDeadlineMs);
	const stopped = await stopSelling(context, payload, challenge);
	if (stopped !== undefined) {
		listening.stop();
		return stopped;
	}
	await listening.done;
	try {
		const decided = await decide(context, payload);
		if ("kind" in decided) {
			await reopen(context, channelId);
			return decided;
		}
		const { cumulativeAmount, signature } = decided;
		return await transactions.perform({
			...closeCall(terms.escrow, channelId, cumulativeAmount, signature),
			key,
			purpose: { kind: "close", currency: terms.currency, channelId, cumulativeAmount: String(cumulativeAmount) },
			record: (entry) => recordEntry(context.store, entry),
		});
	} catch (error) {
		// A transaction under way keeps the channel closing; everything else gives it back.
		if (!transactions.isUnderWay(key)) await reopen(context, channelId);
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
	const key = challengeKey(challenge);
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
		const proofs = bound === undefined ? consumeChallenge(challenge.id, expiryOf(challenge, at), channelId, store) : {};
		return { value: { channel: step.channel, effects: step.effects }, writes: { channel: step.channel, proofs } };
	});
	if ("refusal" in value) return value.refusal;
	await durable;
	context.onEffects(value.channel, value.effects);
	return undefined;
}

type Stopped = Readonly<{ refusal: Refused }> | Readonly<{ channel: Channel; effects: readonly Effect[] }>;

/** Fixes amount and signature of the close; requests that are still running are abandoned and cost nothing. */
async function decide({ store, listeners, now }: EngineContext, payload: ClosePayload): Promise<Refused | Decided> {
	const { channelId } = payload;
	const { value, durable } = await store.transact({ channel: channelId }, ({ channel }): Turn<Refused | Decided> => {
		if (channel === undefined) throw new Error(`channel ${channelId} vanished while it was closed`);
		const { cumulativeAmount, signature } = closingVoucher(channel, payload);
		const step = applyEvent(channel, { type: "close-decided", cumulativeAmount, signature }, now());
		if (!step.ok) return { value: refused(step.problem) };
		const { acceptedCumulative, payer } = step.channel;
		const delta = acceptedCumulative - channel.acceptedCumulative;
		const raised = { channelId, payer, acceptedCumulative, delta };
		return { value: { cumulativeAmount, signature, raised }, writes: { channel: step.channel } };
	});
	await durable;
	if ("raised" in value && value.raised.delta > 0n) listeners.tell("onVoucher", value.raised);
	return value;
}

type Decided = Pick<ClosePayload, "cumulativeAmount" | "signature"> & Readonly<{ raised: VoucherEvent }>;

/** The transaction of a close that did not happen, and whether somebody may have seen its voucher. */
type FailedClose = Readonly<{ entry: OutboxEntry; outcome: FailedOutcome }>;

/** Takes vouchers again after a close that did not happen. */
async function reopen({ store, now }: EngineContext, channelId: Hex, failed?: FailedClose): Promise<void> {
	const { durable } = await store.transact({ channel: channelId }, ({ channel }): Turn<void> => {
		const outbox = failed === undefined ? [] : [concludedEntry(failed.entry, failed.outcome)];
		if (channel === undefined || channel.finalized) return { value: undefined, writes: { outbox } };
		const events: LedgerEvent[] = [{ type: "close-failed" }];
		if (failed !== undefined && failed.outcome !== "unsent") {
			// D7: its voucher stood in a transaction.
			const cumulativeAmount = BigInt(failed.entry.purpose.cumulativeAmount ?? "0");
			events.push({ type: "publishing", cumulativeAmount });
		}
		let next = channel;
		for (const event of events) {
			const step = applyEvent(next, event, now());
			if (step.ok) next = step.channel;
		}
		return { value: undefined, writes: { channel: next, outbox } };
	});
	await durable;
}

/** What becomes of the ledger when a close was mined, or failed. */
export function closeConclusions(context: EngineContext): Conclusions {
	const { store, client, chainState, now, log } = context;
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
			await reopen(context, channelId as Hex, { entry, outcome });
			log.warn({ channelId, txHash: entry.hash, outcome }, "a close did not go through");
		},
	};

	async function closedOnChain({ purpose }: OutboxEntry): Promise<ChainState | undefined> {
		const chain = await chainState.read(purpose.channelId as Hex);
		return chain?.finalized ? chain : undefined;
	}

	async function conclude(entry: OutboxEntry, chain: ChainState, closeTxHash: Hex | undefined): Promise<void> {
		const channelId = entry.purpose.channelId as Hex;
		const at = now();
		const values = { settled: String(chain.settledOnChain), txHash: closeTxHash ?? "unknown" };
		const { value, durable } = await store.transact({ channel: channelId }, ({ channel }): Turn<Transition> => {
			const step = applyEvent(channel, { type: "chain-observed", chain, ...(closeTxHash && { closeTxHash }) }, at);
			const audit = [{ at, kind: "closed", channelId, values }];
			return { value: step, writes: { ...(step.ok && { channel: step.channel }), outbox: [entry], audit } };
		});
		await durable;
		log.info({ channelId, ...values }, "channel closed");
		if (value.ok) context.onEffects(value.channel, value.effects);
	}
}

/** A restart found a close on its way: the channel sells nothing until its outcome is known. */
export async function resumeClose({ store, now }: EngineContext, { purpose }: OutboxEntry): Promise<void> {
	const channelId = purpose.channelId as Hex;
	const { durable } = await store.transact({ channel: channelId }, ({ channel }): Turn<void> => {
		if (channel === undefined || channel.finalized) return { value: undefined };
		const step = applyEvent(channel, { type: "close-resumed", owner: store.owner }, now());
		return step.ok ? { value: undefined, writes: { channel: step.channel } } : { value: undefined };
	});
	await durable;
}
