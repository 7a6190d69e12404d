import type { Hex, TransactionReceipt } from "viem";
import type { OutboxEntry, TransactionPurpose } from "../../escrow/outbox.ts";
import type { SettlementRow } from "../../escrow/payeeCalls.ts";
import { problem } from "../../protocol/index.ts";
import { type Refused, refused } from "../admission.ts";
import { type Channel, chainNow, reserved } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent, type Effect } from "../ledger.ts";
import { decideClose, endStream, payeeCall, reopen, resumeClosing } from "../session/closing.ts";
import { withoutTheGone } from "../session/current.ts";
import type { Turn } from "../store/store.ts";
import { recordEntry } from "../transactions.ts";
import type { Step } from "./economics.ts";
import { failedResults, minedResults, noteUnsent, type Result, skipped } from "./outcome.ts";
import { retireKey, rowsOf, rowsPurpose } from "./rows.ts";
import { claiming, type Target } from "./targets.ts";

/** Which part of the grace period requests may take up that run when a payer asks the chain to close. */
const URGENT_DRAIN_PART = 20;

/** When a client that asks to close meanwhile may ask again. */
const RETRY_SECONDS = 1;

/**
 * Closes channels in one transaction because the server wants it: nobody uses them, or their payers have asked the chain
 * to. Each with its highest voucher (I8), after its requests have finished or were abandoned (D6); a client that asks to
 * close meanwhile gets the same answer. Never rejects: what went wrong is in the results.
 */
export function retire(context: EngineContext, step: Step<Target>): Promise<readonly Result[]> {
	return claiming(context, step.rows, async (free, taken) => {
		const { closes } = context;
		const results = taken.map((target) => skipped(target, "it is being settled or closed"));
		if (free.length === 0) return results;
		// Up to here nothing was waited for: a client's close begins before this one, or joins it.
		const retirement = retireAll(context, free, step);
		for (const { channel } of free) {
			const joined = retirement.closed.finally(() => closes.delete(channel.channelId));
			joined.catch(() => undefined); // Whoever joins it is told.
			closes.set(channel.channelId, joined);
		}
		await retirement.closed.catch(() => undefined);
		return [...results, ...(await retirement.results)];
	});
}

type Bounds = Pick<Step<Target>, "feeLimit" | "plannedGas">;

type Retirement = Readonly<{ closed: Promise<TransactionReceipt | Refused>; results: Promise<readonly Result[]> }>;

/** `closed` is what a client's own close would resolve to. */
function retireAll(context: EngineContext, targets: readonly Target[], bounds: Bounds): Retirement {
	const results: Result[] = [];
	const closed = (async (): Promise<TransactionReceipt | Refused> => {
		const deciding = await Promise.all(targets.map((target) => lastVoucher(context, target)));
		const vouchers: SettlementRow[] = [];
		const sending: Target[] = [];
		for (const [at, decided] of deciding.entries()) {
			const target = targets[at] as Target;
			if (typeof decided === "string") results.push(skipped(target, decided));
			else vouchers.push(decided) && sending.push(target);
		}
		if (vouchers.length === 0) {
			return refused(
				problem("service-unavailable", "The channel was not closed; send the same request again."),
				RETRY_SECONDS,
			);
		}
		const purpose = rowsPurpose("retire", context.terms, vouchers);
		try {
			const receipt = await send(context, purpose, vouchers, bounds);
			results.push(...minedResults(context, sending, receipt));
			return receipt;
		} catch (error) {
			const failed = failedResults(sending, error, {
				isUnderWay: context.transactions.isUnderWay(retireKey(purpose)),
			});
			if (failed.some(({ fault }) => fault !== undefined)) await noteUnsent(context, failed, error);
			results.push(...failed);
			throw error;
		}
	})();
	return {
		closed,
		results: closed.then(
			() => results,
			() => results,
		),
	};
}

async function send(
	context: EngineContext,
	purpose: TransactionPurpose,
	vouchers: readonly SettlementRow[],
	{ feeLimit, plannedGas }: Bounds,
): Promise<TransactionReceipt> {
	const { transactions, store } = context;
	const key = retireKey(purpose);
	try {
		return await transactions.perform({
			...(await payeeCall(context, "close", vouchers)),
			key,
			purpose,
			...(feeLimit !== undefined && { feeLimit }),
			...(plannedGas !== undefined && { plannedGas }),
			checkFunds: true,
			record: (entry) => recordEntry(store, entry),
		});
	} catch (error) {
		// A transaction under way keeps its channels closing; everything else gives them back.
		if (!transactions.isUnderWay(key)) await Promise.all(vouchers.map(({ channelId }) => giveBack(context, channelId)));
		throw error;
	}
}

/** How long a close waits for requests that run: not for long once the payer can withdraw soon. */
function drainMs({ limits, closeGraceSeconds }: EngineContext, channel: Channel): number {
	if (chainNow(channel).closeRequestedAt === 0) return limits.drainDeadlineMs;
	return Math.min(limits.drainDeadlineMs, (closeGraceSeconds * 1_000) / URGENT_DRAIN_PART);
}

/** Stops selling on a channel, waits for what runs on it, and fixes what it is closed with; or why it is not closed. */
async function lastVoucher(context: EngineContext, target: Target): Promise<SettlementRow | string> {
	const { drains } = context;
	const { channelId } = target.channel;
	const listening = drains.listen(channelId, drainMs(context, target.channel));
	try {
		const refusal = await stopSelling(context, target);
		if (refusal !== undefined) return refusal;
		endStream(context, channelId);
		await listening.done;
		const decided = await decideClose(context, channelId, ({ acceptedCumulative, voucherSignature }) => ({
			cumulativeAmount: acceptedCumulative,
			signature: voucherSignature,
		}));
		if (!("problem" in decided)) {
			const { cumulativeAmount, signature } = decided;
			return { channelId, cumulativeAmount, signature };
		}
		await giveBack(context, channelId);
		return decided.problem.detail ?? decided.problem.title;
	} catch {
		// The store has said why. What was begun on it ends, if that can be written.
		await giveBack(context, channelId).catch(() => undefined);
		return "its record can't be read or written";
	} finally {
		listening.stop();
	}
}

/** From here on no new voucher and no new reservation. */
async function stopSelling(context: EngineContext, target: Target): Promise<string | undefined> {
	const { store, recloses, onEffects, now } = context;
	const { channelId } = target.channel;
	type Stopped = string | Readonly<{ channel: Channel; effects: readonly Effect[] }>;
	const { value, durable } = await store.transact({ channel: channelId }, (view): Turn<Stopped> => {
		const at = now();
		const current = withoutTheGone(view.channel, store, at);
		if (current === undefined) return { value: "it is not in this store" };
		if (current.closingBy !== null && !recloses.has(channelId)) return { value: "it is being closed" };
		const isUsed = current.lastActivityAt > target.channel.lastActivityAt || reserved(current) > 0n;
		if (target.whenIdle && isUsed) return { value: "it is in use again" };
		const step = applyEvent(current, { type: "retire-begun", owner: store.owner }, at);
		if (!step.ok) return { value: step.problem.detail ?? step.problem.title };
		return { value: { channel: step.channel, effects: step.effects }, writes: { channel: step.channel } };
	});
	if (typeof value === "string") return value;
	await durable;
	onEffects(value.channel, value.effects);
	return undefined;
}

/** Takes vouchers again; but not where somebody can still close the channel with the voucher that it was to be closed with. */
async function giveBack(context: EngineContext, channelId: Hex): Promise<void> {
	if (!context.recloses.has(channelId)) await reopen(context, channelId);
}

/** A restart found a close by the server's own decision on its way: its channels sell nothing until the outcome is known. */
export async function resumeRetire(context: EngineContext, { purpose }: OutboxEntry): Promise<void> {
	const resumed = await Promise.allSettled(rowsOf(purpose).map(({ channelId }) => resumeClosing(context, channelId)));
	const failed = resumed.find(({ status }) => status === "rejected");
	// A damaged channel is out of use as it is; the others were taken up.
	if (failed?.status === "rejected") throw failed.reason;
}
