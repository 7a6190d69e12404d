/** What a close that the client asks for and one by the server's own decision do alike. */
import type { Hex } from "viem";
import type { Call } from "../../escrow/calls.ts";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import { closeCall, closeManyCall, type SettlementRow, settleCall, settleManyCall } from "../../escrow/payeeCalls.ts";
import type { Problem } from "../../protocol/index.ts";
import { voucherSigner } from "../../voucher/index.ts";
import { type ChainState, type Channel, chainNow } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent, type LedgerEvent, type Transition } from "../ledger.ts";
import { relayedCall } from "../settlement/relay.ts";
import type { AuditEntry, Turn } from "../store/store.ts";

/** A voucher that a channel is closed with. */
export type LastVoucher = Omit<SettlementRow, "channelId">;

/**
 * The call that settles or closes these channels: the payee's own, or by its authorization where another account pays the
 * gas. Then it is one channel.
 */
export async function payeeCall(
	context: EngineContext,
	way: "settle" | "close",
	rows: readonly SettlementRow[],
): Promise<Call> {
	const { client, terms, voucherDomain, payee, relayed, now } = context;
	const { escrow } = terms;
	const [row, ...others] = rows;
	if (row === undefined) throw new Error("a call settles or closes at least one channel");
	if (others.length > 0) return way === "settle" ? settleManyCall(escrow, rows) : closeManyCall(escrow, rows);
	if (relayed) return relayedCall({ client, escrow, voucherDomain, payee, now }, way, row);
	const call = way === "settle" ? settleCall : closeCall;
	return call(escrow, row.channelId, row.cumulativeAmount, row.signature);
}

/**
 * Ends the stream that runs on a channel which sells no more: what it has delivered is captured before the channel is
 * closed. A request that has not answered yet may still finish with what it has charged.
 */
export function endStream({ streams }: Pick<EngineContext, "streams">, channelId: Hex): void {
	streams.stop(channelId);
}

/** Amount and signature of a close are fixed, durably; by how much the client's own voucher raised what was accepted. */
export type Decided = LastVoucher & Readonly<{ channel: Channel; raisedBy: bigint }>;

/**
 * Fixes amount and signature of the close; requests that are still running are abandoned and cost nothing.
 *
 * @param choose what is captured (I8)
 */
export async function decideClose(
	{ store, signatures, now }: EngineContext,
	channelId: Hex,
	choose: (channel: Channel) => LastVoucher,
): Promise<Decided | Readonly<{ problem: Problem }>> {
	type Outcome = Decided | Readonly<{ problem: Problem }>;
	const { value, durable } = await store.transact({ channel: channelId }, ({ channel }): Turn<Outcome> => {
		if (channel === undefined) throw new Error(`channel ${channelId} vanished while it was closed`);
		const { cumulativeAmount, signature } = choose(channel);
		const byContract = signatures.isContract(voucherSigner(channel));
		const step = applyEvent(channel, { type: "close-decided", cumulativeAmount, signature, byContract }, now());
		if (!step.ok) return { value: { problem: step.problem } };
		const raisedBy = step.channel.acceptedCumulative - channel.acceptedCumulative;
		return {
			value: { cumulativeAmount, signature, channel: step.channel, raisedBy },
			writes: { channel: step.channel },
		};
	});
	await durable;
	return value;
}

/**
 * Takes vouchers again after a close that did not happen.
 *
 * @param published the amount of the close, where somebody may have seen its voucher (D7)
 * @param outbox what is written with it
 */
export async function reopen(
	{ store, now }: EngineContext,
	channelId: Hex,
	{ published, outbox = [] }: Readonly<{ published?: bigint; outbox?: readonly OutboxEntry[] }> = {},
): Promise<void> {
	const { durable } = await store.transact({ channel: channelId }, ({ channel }): Turn<void> => {
		if (channel === undefined || channel.finalized) return { value: undefined, writes: { outbox } };
		const events: LedgerEvent[] = [{ type: "close-failed", owner: store.owner }];
		if (published !== undefined) events.push({ type: "publishing", cumulativeAmount: published });
		let next = channel;
		for (const event of events) {
			const step = applyEvent(next, event, now());
			if (step.ok) next = step.channel;
		}
		return { value: undefined, writes: { channel: next, outbox } };
	});
	await durable;
}

/**
 * Puts into the ledger that a channel is finalized on chain, and by which transaction, if it was ours.
 *
 * @param chain what the chain says, or makes of the channel as it is known
 */
export async function putClosed(
	context: EngineContext,
	channelId: Hex,
	chain: ChainState | ((channel: Channel) => ChainState),
	{
		closeTxHash,
		...writes
	}: Readonly<{ closeTxHash?: Hex; outbox?: readonly OutboxEntry[]; audit?: readonly AuditEntry[] }>,
): Promise<void> {
	const { store, chainState, now, onEffects, recloses } = context;
	type Outcome = Transition | undefined;
	const { value, durable } = await store.transact({ channel: channelId }, ({ channel }): Turn<Outcome> => {
		if (channel === undefined) return { value: undefined, writes };
		const seen = typeof chain === "function" ? chain(channel) : chain;
		// Finalized is for ever: a later block that is known already says nothing else (I12).
		const blockNumber = Math.max(seen.blockNumber, chainNow(channel).blockNumber);
		const observed = { type: "chain-observed", chain: { ...seen, blockNumber } } as const;
		const step = applyEvent(channel, { ...observed, ...(closeTxHash && { closeTxHash }) }, now());
		return { value: step, writes: { ...writes, ...(step.ok && { channel: step.channel }) } };
	});
	await durable;
	recloses.delete(channelId);
	if (!value?.ok) return;
	chainState.readAhead(value.channel);
	onEffects(value.channel, value.effects);
}

/** A restart found a close on its way: the channel sells nothing until its outcome is known. */
export async function resumeClosing({ store, now }: EngineContext, channelId: Hex): Promise<void> {
	const { durable } = await store.transact({ channel: channelId }, ({ channel }): Turn<void> => {
		if (channel === undefined || channel.finalized) return { value: undefined };
		const step = applyEvent(channel, { type: "close-resumed", owner: store.owner }, now());
		return step.ok ? { value: undefined, writes: { channel: step.channel } } : { value: undefined };
	});
	await durable;
}
