import type { Hex } from "viem";
import { closeCall } from "../../escrow/calls.ts";
import type { OutboxEntry, TransactionPurpose } from "../../escrow/outbox.ts";
import type { ClosePayload } from "../../protocol/index.ts";
import { type Admission, type Refused, refused } from "../admission.ts";
import { ChainUnavailableError } from "../chainState.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent, closingVoucher, type Effect } from "../ledger.ts";
import { challengeKey, foreignChallengeProblem } from "../proofs.ts";
import type { Turn } from "../store/store.ts";
import type { Conclusions } from "../transactions.ts";
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
	const checked = await verifyOnChannel(context, payload);
	if (checked.kind === "refused") return checked;
	await context.chainState.ensureFresh(checked.channel);
	const { challenge } = screened.credential;
	try {
		const underWay = context.transactions.join(closeKey({ channelId }));
		const receipt = await (underWay ?? begin(context, payload, challenge.id));
		if ("kind" in receipt) return receipt;
		const channel = await context.store.channel(channelId);
		if (channel === undefined) throw new Error(`channel ${channelId} vanished while it was closed`);
		return {
			kind: "managed",
			receipt: sessionReceipt(context, channel, challenge, { txHash: receipt.transactionHash }),
		};
	} catch (error) {
		return revertedProblem(error, channelId);
	}
}

/** One close of a channel at a time, also across restarts. */
export function closeKey({ channelId }: Readonly<Record<string, string>>): string {
	return `close:${channelId}`;
}

async function begin(context: EngineContext, payload: ClosePayload, challengeId: string) {
	const { store, drains, limits, terms, transactions, now } = context;
	const { channelId } = payload;
	const listening = drains.listen(channelId, limits.drainDeadlineMs);
	const stopped = await stopSelling(context, payload, challengeId);
	if (stopped !== undefined) {
		listening.stop();
		return stopped;
	}
	await listening.done;
	const decided = await decide(context, payload);
	const { cumulativeAmount, signature } = decided;
	const purpose: TransactionPurpose = { kind: "close", channelId, cumulativeAmount: String(cumulativeAmount) };
	try {
		return await transactions.perform({
			...closeCall(terms.escrow, channelId, cumulativeAmount, signature),
			key: closeKey(purpose),
			purpose,
			record: async (entry) =>
				(await store.transact({}, () => ({ value: undefined, writes: { outbox: [entry] } }))).durable,
		});
	} catch (error) {
		// A transaction under way keeps the channel closing; everything else gives it back.
		if (!transactions.isUnderWay(closeKey(purpose))) await reopen(context, channelId, now());
		throw error;
	}
}

/** From here on no new voucher and no new reservation. */
async function stopSelling(
	context: EngineContext,
	payload: ClosePayload,
	challengeId: string,
): Promise<Refused | undefined> {
	const { store, now } = context;
	const { channelId, cumulativeAmount } = payload;
	const key = challengeKey({ id: challengeId });
	const { value, durable } = await store.transact({ channel: channelId, proofs: [key] }, (view): Turn<Stopped> => {
		const bound = view.proof(key);
		if (bound !== undefined && bound.usedBy !== channelId)
			return { value: { refusal: refused(foreignChallengeProblem()) } };
		const at = now();
		const voucher = { cumulativeAmount, challengeId };
		const step = applyEvent(
			withoutTheGone(view.channel, store, at),
			{ type: "close-begun", owner: store.owner, voucher },
			at,
		);
		if (!step.ok) return { value: { refusal: refused(step.problem) } };
		return { value: { effects: step.effects }, writes: { channel: step.channel } };
	});
	if ("refusal" in value) return value.refusal;
	await durable;
	context.onEffects(channelId, value.effects);
	return undefined;
}

type Stopped = Readonly<{ refusal: Refused }> | Readonly<{ effects: readonly Effect[] }>;

/** Fixes amount and signature of the close; requests that are still running are abandoned and cost nothing. */
async function decide({ store, now }: EngineContext, payload: ClosePayload) {
	const { channelId } = payload;
	const { value, durable } = await store.transact({ channel: channelId }, ({ channel }) => {
		if (channel === undefined) throw new Error(`channel ${channelId} vanished while it was closed`);
		const final = closingVoucher(channel, payload);
		const step = applyEvent(channel, { type: "close-decided", ...pick(final) }, now());
		if (!step.ok) throw new Error(`close of ${channelId}: ${step.problem.detail}`);
		return { value: pick(final), writes: { channel: step.channel } };
	});
	await durable;
	return value;
}

function pick({ cumulativeAmount, signature }: Readonly<{ cumulativeAmount: bigint; signature: Hex }>) {
	return { cumulativeAmount, signature };
}

async function reopen({ store }: EngineContext, channelId: Hex, now: number, entry?: OutboxEntry): Promise<void> {
	const { durable } = await store.transact({ channel: channelId }, ({ channel }): Turn<void> => {
		const outbox = entry && { outbox: [entry] };
		if (channel === undefined || channel.finalized) return { value: undefined, ...(outbox && { writes: outbox }) };
		const step = applyEvent(channel, { type: "close-failed" }, now);
		return { value: undefined, writes: { ...(step.ok && { channel: step.channel }), ...outbox } };
	});
	await durable;
}

/** What becomes of the ledger when a close was mined, or failed. */
export function closeConclusions(context: EngineContext): Conclusions {
	const { store, chainState, now, log } = context;
	return {
		async succeeded(entry, receipt) {
			const channelId = entry.purpose.channelId as Hex;
			const askedAt = now();
			const onChain = await chainState.read(channelId);
			if (onChain === undefined || !onChain.finalized)
				throw new ChainUnavailableError(`the chain does not show channel ${channelId} as closed yet`);
			const { deposit, settledOnChain, closeRequestedAt, finalized } = onChain;
			const chain = { deposit, settledOnChain, closeRequestedAt, finalized };
			const { durable } = await store.transact({ channel: channelId }, ({ channel }): Turn<void> => {
				const step = applyEvent(channel, { type: "chain-observed", chain }, askedAt);
				return {
					value: undefined,
					writes: {
						...(step.ok && { channel: step.channel }),
						outbox: [{ ...entry, state: "confirmed" }],
						audit: [
							{
								at: askedAt,
								kind: "closed",
								channelId,
								values: { settled: String(settledOnChain), txHash: receipt.transactionHash },
							},
						],
					},
				};
			});
			await durable;
			log.info({ channelId, settled: String(settledOnChain), txHash: receipt.transactionHash }, "channel closed");
		},
		async failed(entry, state) {
			const channelId = entry.purpose.channelId as Hex;
			await reopen(context, channelId, now(), { ...entry, state });
			log.warn({ channelId, txHash: entry.hash, state }, "a close did not go through; the channel is open again");
		},
	};
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
