import type { SettlementRow } from "../../escrow/payeeCalls.ts";
import { owes } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent } from "../ledger.ts";
import { payeeCall } from "../session/closing.ts";
import { recordEntry } from "../transactions.ts";
import type { Step } from "./economics.ts";
import { failedResults, minedResults, noteUnsent, type Result, skipped } from "./outcome.ts";
import { rowsPurpose, settleKey } from "./rows.ts";
import { claiming, type Target } from "./targets.ts";

/**
 * Settles channels in one transaction, each with its highest voucher (I8), and resolves when what follows from that is on disk. They stay open. Never
 * rejects: what went wrong is in the results.
 *
 * Source: draft-evm-session-00, "settle"; D7: a voucher is known to be public before it is sent.
 */
export function settle(
	context: EngineContext,
	{ rows, feeLimit, plannedGas }: Step<Target>,
): Promise<readonly Result[]> {
	return claiming(context, rows, async (free, taken) => {
		const results = taken.map((target) => skipped(target, "it is being settled or closed"));
		const sending: Target[] = [];
		const vouchers: SettlementRow[] = [];
		for (const target of free) {
			const voucher = await highestVoucher(context, target).catch(() => undefined); // A damaged record is reported elsewhere.
			if (voucher === undefined) results.push(skipped(target, "nothing is owed any more"));
			else vouchers.push(voucher) && sending.push(target);
		}
		if (vouchers.length === 0) return results;
		const purpose = rowsPurpose("settle", context.terms, vouchers);
		const key = settleKey(purpose);
		try {
			const receipt = await context.transactions.perform({
				...(await payeeCall(context, "settle", vouchers)),
				key,
				purpose,
				...(feeLimit !== undefined && { feeLimit }),
				...(plannedGas !== undefined && { plannedGas }),
				checkFunds: true,
				async record(entry) {
					await publish(context, vouchers);
					await recordEntry(context.store, entry);
				},
			});
			return [...results, ...minedResults(context, sending, receipt)];
		} catch (error) {
			const failed = failedResults(sending, error, { isUnderWay: context.transactions.isUnderWay(key) });
			if (failed.some(({ fault }) => fault !== undefined)) await noteUnsent(context, failed, error);
			return [...results, ...failed];
		}
	});
}

/** The highest voucher of a channel as it is now, if it still brings in anything. */
async function highestVoucher({ store }: EngineContext, { channel }: Target): Promise<SettlementRow | undefined> {
	const now = await store.channel(channel.channelId);
	if (now === undefined || !owes(now)) return undefined;
	const { channelId, acceptedCumulative: cumulativeAmount, voucherSignature: signature } = now;
	return { channelId, cumulativeAmount, signature };
}

/** Writes down that these vouchers are public from now on (D7). */
async function publish({ store, now }: EngineContext, vouchers: readonly SettlementRow[]): Promise<void> {
	await Promise.all(
		vouchers.map(async ({ channelId, cumulativeAmount }) => {
			const { durable } = await store.transact({ channel: channelId }, ({ channel }) => {
				const step = applyEvent(channel, { type: "publishing", cumulativeAmount }, now());
				return { value: undefined, ...(step.ok && { writes: { channel: step.channel } }) };
			});
			await durable;
		}),
	);
}
