import { bareAmountText, unitOf } from "../../client/policy/currency.ts";
import type { Policy } from "../../client/policy.ts";
import type { ChannelRecord } from "../../client/store/store.ts";

/** The channels of one currency, or of a token of none, that may hold a deposit. Amounts in base units. */
export type Deposits = Readonly<{
	unit: string;
	open: number;
	/** No voucher is signed for them any more, and the escrow may still hold their deposit. */
	forgotten: number;
	deposit: string;
	/** The most that their payees can take. */
	signed: string;
	/** What comes back of them at least, whatever is captured. */
	unsigned: string;
	/** The same with a decimal point, where the policy names the currency. */
	text: Readonly<{ deposit: string; signed: string; unsigned: string }>;
}>;

type Sum = { open: number; forgotten: number; deposit: bigint; signed: bigint };

/** What channels hold, by currency: those that are closed hold nothing. */
export function sumDeposits(policy: Policy | undefined, records: readonly ChannelRecord[]): readonly Deposits[] {
	const sums = new Map<string, Sum>();
	for (const { status, state } of records) {
		if (status === "closed") continue;
		const unit = policy === undefined ? `${state.chainId}:${state.token}` : unitOf(policy, state);
		const sum = sums.get(unit) ?? { open: 0, forgotten: 0, deposit: 0n, signed: 0n };
		sum[status]++;
		sum.deposit += BigInt(state.deposit);
		sum.signed += BigInt(state.signed);
		sums.set(unit, sum);
	}
	const textOf = (unit: string, amount: bigint) =>
		policy === undefined ? String(amount) : bareAmountText(policy, unit, amount);
	return [...sums].map(([unit, { open, forgotten, deposit, signed }]) => {
		const unsigned = deposit > signed ? deposit - signed : 0n;
		return {
			unit,
			open,
			forgotten,
			deposit: String(deposit),
			signed: String(signed),
			unsigned: String(unsigned),
			text: { deposit: textOf(unit, deposit), signed: textOf(unit, signed), unsigned: textOf(unit, unsigned) },
		};
	});
}
