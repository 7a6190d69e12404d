/** What must come of what the ledger beside the chain is asked and told. */
import { expect } from "vitest";
import { type ChainState, type Channel, chainNow, unsettled } from "../../src/server/channel.ts";
import { applyEvent, type LedgerEvent } from "../../src/server/ledger.ts";

/** Draft, "Voucher Verification"; D1, D4. */
export function mayBeTaken(
	{ deposit, settledOnChain, closeRequestedAt, finalized }: ChainState,
	before: Channel | undefined,
	cumulativeAmount: bigint,
	{ minVoucherDelta }: Readonly<{ minVoucherDelta: bigint }>,
): boolean {
	if (finalized || closeRequestedAt !== 0 || cumulativeAmount > deposit) return false;
	// Opening asks for a unit that is not settled yet, which is the minimum here.
	if (before === undefined) return deposit > settledOnChain;
	const { acceptedCumulative } = before;
	const isExempt = acceptedCumulative === 0n || cumulativeAmount === deposit;
	return isExempt || cumulativeAmount <= acceptedCumulative || cumulativeAmount - acceptedCumulative >= minVoucherDelta;
}

/** Whether this chain would take back what was relied on. */
export function showsLess(channel: Channel, { deposit, settledOnChain, finalized }: ChainState): boolean {
	return (
		deposit < channel.acceptedCumulative || settledOnChain < channel.settledOnChain || (channel.finalized && !finalized)
	);
}

/** I2, and nothing is sold (I10). What is owed is what the chain of that moment would pay for the voucher (I8). */
export function expectFrozen(before: Channel, during: Channel): void {
	const { deposit, settledOnChain, acceptedCumulative, spent, finalized } = during;
	expect({ deposit, settledOnChain, acceptedCumulative, spent, finalized }).toEqual({
		deposit: before.deposit,
		settledOnChain: before.settledOnChain,
		acceptedCumulative: before.acceptedCumulative,
		spent: before.spent,
		finalized: before.finalized,
	});
	const voucher = { cumulativeAmount: deposit, signature: during.voucherSignature, challengeId: "frozen" };
	const asked: readonly LedgerEvent[] = [
		{ type: "voucher", voucher, minVoucherDelta: 0n },
		{ type: "reserve", amount: 0n, owner: "anybody", voucher, minVoucherDelta: 0n },
	];
	for (const event of asked) expect(applyEvent(during, event, during.chainReadAt).ok).toBe(false);
	const shown = chainNow(during);
	const isPayable = !shown.finalized && acceptedCumulative <= shown.deposit;
	expect(unsettled(during)).toBe(isPayable ? acceptedCumulative - shown.settledOnChain : 0n);
}
