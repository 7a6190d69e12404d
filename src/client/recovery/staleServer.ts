import type { SessionReceipt } from "../../protocol/index.ts";

/** The highest that a server has acknowledged of one channel, in base units. */
export type Acknowledged = Readonly<{ acceptedCumulative: bigint; spent: bigint }>;

/** A server that knows less than it has acknowledged before: its store is an older copy, or was lost in part. */
export type StaleServer = Readonly<{
	channelId: SessionReceipt["channelId"];
	/** What fell. */
	fell: readonly (keyof Acknowledged)[];
	before: Acknowledged;
	now: Acknowledged;
}>;

/** What was acknowledged, with one more receipt: neither count ever falls (I2). */
export function acknowledge(before: Acknowledged | undefined, receipt: Acknowledged): Acknowledged {
	const { acceptedCumulative, spent } = receipt;
	if (before === undefined) return { acceptedCumulative, spent };
	return {
		acceptedCumulative: acceptedCumulative > before.acceptedCumulative ? acceptedCumulative : before.acceptedCumulative,
		spent: spent > before.spent ? spent : before.spent,
	};
}

/**
 * Whether a receipt says less than the server has acknowledged before. Answers can overtake each other: `before` is what was
 * acknowledged when the receipt's request left, not when the receipt came.
 *
 * @example
 * const before = acknowledged.get(channelId); // then the request is sent
 * const stale = staleServer(before, receipt);
 * acknowledged.set(channelId, acknowledge(acknowledged.get(channelId), receipt));
 */
export function staleServer(
	before: Acknowledged | undefined,
	receipt: Acknowledged & Pick<SessionReceipt, "channelId">,
): StaleServer | undefined {
	if (before === undefined) return undefined;
	const { channelId, acceptedCumulative, spent } = receipt;
	const now = { acceptedCumulative, spent };
	const fell = (["acceptedCumulative", "spent"] as const).filter((count) => now[count] < before[count]);
	return fell.length === 0 ? undefined : { channelId, fell, before, now };
}
