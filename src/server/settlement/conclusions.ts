import type { Hex, TransactionReceipt } from "viem";
import { type EscrowEvent, findEscrowEvents } from "../../escrow/escrowEvents.ts";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import { chainNow, unsettled } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { putClosed, reopen } from "../session/closing.ts";
import type { AuditEntry } from "../store/store.ts";
import { type Conclusions, concludedEntry, type FailedOutcome } from "../transactions.ts";
import { type PurposeRow, rowsOf } from "./rows.ts";

export { retireKey, settleKey } from "./rows.ts";

/** How many channels are written at a time. */
const AT_ONCE = 50;

/** What becomes of the ledger when a settlement was mined, or failed. Repeated after a crash it comes to the same. */
export function settleConclusions(context: EngineContext): Conclusions {
	const { chainState } = context;
	return {
		async succeeded(entry, receipt) {
			const rows = rowsOf(entry.purpose);
			await chainState.observe(idsOf(rows), { notBefore: receipt.blockNumber });
			await conclude(context, entry, rows, receipt);
		},
		async failed(entry, outcome) {
			const rows = rowsOf(entry.purpose);
			// The chain has the last word: what was settled there is owed no more.
			if (outcome !== "unsent") await chainState.observe(idsOf(rows));
			await concludeFailed(context, entry, rows, outcome);
		},
	};
}

/** What becomes of the ledger when a close by the server's own decision was mined, or failed. */
export function retireConclusions(context: EngineContext): Conclusions {
	const { chainState, terms, relayed, recloses } = context;
	return {
		async succeeded(entry, receipt) {
			const rows = rowsOf(entry.purpose);
			const closed = closedEvents(findEscrowEvents(receipt, terms.escrow));
			const open = rows.filter(({ channelId }) => !closed.has(channelId));
			const { transactionHash: closeTxHash } = receipt;
			await inPortions(rows, async ({ channelId }) => {
				const event = closed.get(channelId);
				if (event === undefined) return;
				const { settled, refund, blockNumber } = event;
				await putClosed(
					context,
					channelId,
					// The escrow's own word. What was not paid to the payee went back to the payer: together they were the deposit.
					(channel) => ({
						closeRequestedAt: chainNow(channel).closeRequestedAt,
						deposit: settled + refund,
						settledOnChain: settled,
						finalized: true,
						blockNumber: Number(blockNumber),
					}),
					{ closeTxHash },
				);
			});
			if (open.length > 0) await chainState.observe(idsOf(open), { notBefore: receipt.blockNumber });
			await inPortions(open, ({ channelId, cumulativeAmount }) =>
				reopen(context, channelId, { published: cumulativeAmount }),
			);
			await conclude(context, entry, rows, receipt);
		},
		async failed(entry, outcome) {
			const rows = rowsOf(entry.purpose);
			if (outcome !== "unsent") await chainState.observe(idsOf(rows));
			await inPortions(rows, async ({ channelId, cumulativeAmount }) => {
				// Also one that no node took was shown to one.
				if (!relayed) return reopen(context, channelId, { published: cumulativeAmount });
				// Whoever has seen the authorization can use it for a while: no voucher is taken that it would leave out.
				recloses.add(channelId);
			});
			await concludeFailed(context, entry, rows, outcome);
		},
	};
}

async function conclude(
	context: EngineContext,
	entry: OutboxEntry,
	rows: readonly PurposeRow[],
	receipt: TransactionReceipt,
): Promise<void> {
	const { store, terms, listeners, log, now } = context;
	const ours = new Set(idsOf(rows));
	const events = findEscrowEvents(receipt, terms.escrow).filter(({ channelId }) => ours.has(channelId));
	const { transactionHash: txHash } = receipt;
	const audit: AuditEntry[] = [];
	let brought = 0n;
	for (const event of events) {
		if (event.name !== "Settled" && event.name !== "ChannelClosed") continue;
		const { channelId, settled, delta } = event;
		const kind = event.name === "Settled" ? "settled" : "closed";
		audit.push({ at: now(), kind, channelId, values: { settled: String(settled), delta: String(delta), txHash } });
		brought += delta;
	}
	const outbox = [{ ...entry, state: "confirmed" as const }];
	const { durable } = await store.transact({}, () => ({ value: undefined, writes: { outbox, audit } }));
	await durable;
	const values = {
		kind: entry.purpose.kind,
		channels: audit.length,
		of: rows.length,
		brought: String(brought),
		txHash,
	};
	log.info(values, "channels were settled on chain");
	for (const event of events) {
		if (event.name === "SettlementSkipped") await tellFailed(context, event.channelId, event.reason, txHash);
		if (event.name !== "Settled" && event.name !== "ChannelClosed") continue;
		const { channelId, payer, settled, delta } = event;
		if (delta > 0n) listeners.tell("onSettled", { channelId, payer, settled, delta, txHash });
	}
}

async function concludeFailed(
	context: EngineContext,
	entry: OutboxEntry,
	rows: readonly PurposeRow[],
	outcome: FailedOutcome,
): Promise<void> {
	const { store, log } = context;
	const outbox = [concludedEntry(entry, outcome)];
	const { durable } = await store.transact({}, () => ({ value: undefined, writes: { outbox } }));
	await durable;
	const values = { kind: entry.purpose.kind, channels: rows.length, txHash: entry.hash, outcome };
	log.warn(values, "a settlement did not go through");
	for (const { channelId } of rows) {
		const channel = await store.channel(channelId).catch(() => undefined);
		if (channel !== undefined && unsettled(channel) > 0n) await tellFailed(context, channelId, outcome, entry.hash);
	}
}

async function tellFailed(
	{ store, listeners, log }: EngineContext,
	channelId: Hex,
	reason: string,
	txHash: Hex,
): Promise<void> {
	const channel = await store.channel(channelId).catch(() => undefined);
	const owed = channel === undefined ? 0n : unsettled(channel);
	if (channel === undefined) return;
	log.warn({ channelId, unsettled: String(owed), reason, txHash }, "a channel could not be settled");
	listeners.tell("onSettlementFailed", { channelId, payer: channel.payer, unsettled: owed, reason, txHash });
}

function closedEvents(
	events: readonly EscrowEvent[],
): ReadonlyMap<Hex, Extract<EscrowEvent, { name: "ChannelClosed" }>> {
	const closed = new Map<Hex, Extract<EscrowEvent, { name: "ChannelClosed" }>>();
	for (const event of events) if (event.name === "ChannelClosed") closed.set(event.channelId, event);
	return closed;
}

async function inPortions<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
	for (let at = 0; at < items.length; at += AT_ONCE) await Promise.all(items.slice(at, at + AT_ONCE).map(work));
}

function idsOf(rows: readonly PurposeRow[]): readonly Hex[] {
	return rows.map(({ channelId }) => channelId);
}
