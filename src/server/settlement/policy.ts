/** When channels are settled and closed without being asked: the options, and what they say of one channel. */
import { z } from "zod";

/**
 * When the channels of one token are settled or closed by themselves. Amounts in base units of the token. A channel whose
 * payer has asked the chain to close it is closed at once, whatever is said here of amounts and times, if that brings in
 * more than its gas costs (I9); else `onAtRisk` is told.
 *
 * @example
 * const settlement: SettlementPolicy = {
 * 	maxUnsettled: 5_000_000n, // 5 USDC
 * 	maxAgeSeconds: 6 * 3_600,
 * 	coinPrice: 3_000_000_000n, // one ETH is worth 3,000 USDC
 * 	windows: [{ from: "01:00", to: "05:00" }],
 * };
 */
export type SettlementPolicy = Readonly<{
	/** A channel that owes this much is settled. Default: by age and idleness alone. */
	maxUnsettled?: bigint;
	/** What has been owed this long is settled. Default 86,400: a day. */
	maxAgeSeconds?: number;
	/** A channel without a request for this long is dealt with as `onIdle` says, if it owes anything. Default 86,400. */
	idleSeconds?: number;
	/** Whether an idle channel is closed, which also gives the payer the rest of its deposit, or settled. Default `close`. */
	onIdle?: "close" | "settle";
	/**
	 * Less than this is dust, and is left. Default 1. Of what a close request puts at risk it is only asked for where nothing is
	 * known of what gas costs.
	 */
	minValue?: bigint;
	/**
	 * A settlement has to bring in this many times what its gas costs; needs `coinPrice`. Default 10. It is 1 where the payer
	 * has asked the chain to close: what is worth more than its gas is brought in.
	 */
	minValueToGas?: number;
	/**
	 * What one coin of the chain (10^18 wei) is worth in base units of the token, or who says so. Without it nothing is known of
	 * what gas costs, and only `minValue` counts. Where a function fails its last word counts; before its first one what can
	 * wait has to. What a rollup asks for its data on top of gas is not counted.
	 */
	coinPrice?: bigint | (() => bigint | Promise<bigint>);
	/** Times of the day, UTC `HH:MM`, in which is settled what can wait; `to` before `from` goes over midnight. Default: any time. */
	windows?: readonly Readonly<{ from: string; to: string }>[];
	/** How many channels go into one transaction at most: 1 to 250, default 100. Fewer where they would need more than `limits.maxTransactionGas`. */
	batchSize?: number;
	/**
	 * The same for channels whose voucher only a contract vouches for: it may change its mind. Default: a tenth of the above.
	 */
	contractSigner?: Readonly<{ maxUnsettled?: bigint; maxAgeSeconds?: number }>;
}>;

const DAY_SECONDS = 86_400;
/** A hundred years. */
const MOST_SECONDS = 100 * 365 * DAY_SECONDS;
const DAY_MINUTES = 1_440;

const seconds = z.number().int().positive().max(MOST_SECONDS);
const amount = z.bigint().nonnegative();
const timeOfDay = z
	.string()
	.regex(/^(?:[01]\d|2[0-3]):[0-5]\d$/, "must be a time of the day: HH:MM, UTC")
	.transform((text) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3)));

/** Reads a policy, and fills in what it leaves open. */
export const settlementSchema = z
	.strictObject({
		maxUnsettled: amount.optional(),
		maxAgeSeconds: seconds.default(DAY_SECONDS),
		idleSeconds: seconds.default(DAY_SECONDS),
		onIdle: z.enum(["close", "settle"]).default("close"),
		minValue: amount.default(1n),
		minValueToGas: z.number().min(1, "must be at least 1").max(1_000_000).default(10),
		coinPrice: z
			.union([
				z.bigint().positive(),
				z.custom<() => bigint | Promise<bigint>>(
					(value) => typeof value === "function",
					"must be an amount or a function",
				),
			])
			.optional(),
		windows: z
			.array(
				z
					.strictObject({ from: timeOfDay, to: timeOfDay })
					.refine(({ from, to }) => from !== to, "must begin and end at different times"),
			)
			.min(1, "must be at least one window; leave it out for any time")
			.max(24)
			.optional(),
		batchSize: z.number().int().min(1).max(250).default(100),
		contractSigner: z.strictObject({ maxUnsettled: amount.optional(), maxAgeSeconds: seconds.optional() }).default({}),
	})
	.transform(({ maxUnsettled, coinPrice, windows, contractSigner, ...rest }) => {
		const contractMost = contractSigner.maxUnsettled ?? (maxUnsettled === undefined ? undefined : maxUnsettled / 10n);
		const contractAge = contractSigner.maxAgeSeconds ?? Math.max(1, Math.floor(rest.maxAgeSeconds / 10));
		return {
			...rest,
			...(maxUnsettled !== undefined && { maxUnsettled }),
			...(coinPrice !== undefined && { coinPrice }),
			...(windows !== undefined && { windows }),
			contractSigner: {
				...(contractMost !== undefined && { maxUnsettled: contractMost }),
				maxAgeSeconds: contractAge,
			},
		};
	});

/** A policy, checked and complete. The windows are in minutes of the day. */
export type SettlementSettings = Readonly<z.output<typeof settlementSchema>>;

/**
 * Whether what can wait may be sent now.
 *
 * @param now Unix milliseconds
 */
export function isOpen({ windows }: Pick<SettlementSettings, "windows">, now: number): boolean {
	if (windows === undefined) return true;
	const minute = Math.floor(now / 60_000) % DAY_MINUTES;
	return windows.some(({ from, to }) => (from < to ? minute >= from && minute < to : minute >= from || minute < to));
}
