import type { Address } from "viem";
import {
	amountText,
	assertStaticallyAllowed,
	boundsFor,
	type Policy,
	PolicyRefusedError,
} from "../../client/policy.ts";
import { countersFor, refusalOf } from "../../client/spending.ts";
import type { PayerStore } from "../../client/store/store.ts";

/** A payment that could be. */
export type Payment = Readonly<{
	host: string;
	/** Base units. */
	amount: bigint;
	payee: Address;
	chainId: number;
	token: Address;
	escrow?: Address;
	/** Whether the amount is that of a whole answer which is paid by what it uses. */
	isStream: boolean;
}>;

/** By which rule a policy refuses a payment, with what the store has counted by now; `undefined` where it does not. */
export async function refusalFor(
	policy: Policy,
	payment: Payment,
	nowMs: number,
	store?: Pick<PayerStore, "counts" | "paused">,
): Promise<PolicyRefusedError | undefined> {
	const reason = await store?.paused();
	if (reason !== undefined) return new PolicyRefusedError("paused", `spending of this wallet is paused: ${reason}`);
	try {
		assertStaticallyAllowed(policy, payment);
	} catch (error) {
		if (error instanceof PolicyRefusedError) return error;
		throw error;
	}
	const { maxPrice, maxStream = maxPrice } = boundsFor(policy, payment);
	const most = payment.isStream ? maxStream : maxPrice;
	if (payment.amount > most)
		return new PolicyRefusedError(
			"price",
			`${payment.isStream ? "a stream" : "a price"} of ${amountText(policy, payment, payment.amount)} is over the limit of ${amountText(policy, payment, most)}`,
		);
	const counters = countersFor(policy, payment, nowMs);
	const counts = (await store?.counts(counters.map(({ key }) => key))) ?? [];
	for (const [at, { key, add, max }] of counters.entries()) {
		const current = counts[at] ?? 0n;
		if (max !== undefined && current + add > max) return refusalOf(policy, counters, { key, current, max });
	}
	return undefined;
}
