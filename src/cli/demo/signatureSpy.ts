import type { LocalAccount } from "viem";

/** Value that an account has signed away. */
export type SignedValue = Readonly<{
	/** Base units. */
	amount: bigint;
	host: string;
	/** Unix milliseconds, by the agent's clock. */
	atMs: number;
	channelId?: string;
	/** Counts requests. */
	request: number;
}>;

/** Where and when it signs. */
export type Occasion = Pick<SignedValue, "host" | "atMs" | "request">;

/**
 * An account that notes what value its signatures give away, whatever its client counts: by what a voucher raises the highest
 * one of its channel, and by each charge.
 *
 * @param occasion tells of each signature what it is for
 */
export function spyOn(account: LocalAccount, occasion: () => Occasion) {
	const values: SignedValue[] = [];
	const deposits: SignedValue[] = [];
	const highest = new Map<string, bigint>();
	let others = 0;
	const note = (message: Readonly<Record<string, unknown>>, primaryType: string) => {
		if (primaryType === "Voucher") {
			const channelId = String(message.channelId);
			const cumulative = message.cumulativeAmount as bigint;
			const before = highest.get(channelId) ?? 0n;
			if (cumulative > before) values.push({ ...occasion(), channelId, amount: cumulative - before });
			if (cumulative > before) highest.set(channelId, cumulative);
		} else if (primaryType === "TransferWithAuthorization") {
			values.push({ ...occasion(), amount: message.value as bigint });
		} else if (primaryType === "ReceiveWithAuthorization") {
			deposits.push({ ...occasion(), amount: message.value as bigint });
		} else others++;
	};
	const spied: LocalAccount = {
		...account,
		signTypedData(typedData) {
			note(typedData.message as Readonly<Record<string, unknown>>, typedData.primaryType);
			return account.signTypedData(typedData);
		},
		signTransaction(transaction, options) {
			others++;
			return account.signTransaction(transaction, options);
		},
		signMessage(message) {
			others++;
			return account.signMessage(message);
		},
		async sign(parameters) {
			others++;
			if (account.sign === undefined) throw new Error("this account signs no hashes");
			return account.sign(parameters);
		},
	};
	return {
		account: spied,
		values: values as readonly SignedValue[],
		/** What was signed into the escrow, by openings and top-ups: the payer's own until it is signed away. */
		deposits: deposits as readonly SignedValue[],
		/** How many signatures there were: on value, on deposits, and of any other kind. */
		get count() {
			return values.length + deposits.length + others;
		},
	};
}

/** The highest sum of a group: each host's within each day, for example. */
export function highestSum(
	values: readonly SignedValue[],
	groupOf: (value: SignedValue) => string | undefined,
): bigint {
	const sums = new Map<string, bigint>();
	for (const value of values) {
		const group = groupOf(value);
		if (group !== undefined) sums.set(group, (sums.get(group) ?? 0n) + value.amount);
	}
	return [...sums.values()].reduce((most, sum) => (sum > most ? sum : most), 0n);
}
