/** How a settlement or a close by the server's own decision stands in the outbox, and which channels are in it. */
import type { Hex } from "viem";
import { z } from "zod";
import type { OutboxEntry, TransactionPurpose } from "../../escrow/outbox.ts";
import type { SettlementRow } from "../../escrow/payeeCalls.ts";
import type { Terms } from "../evm/terms.ts";

/** One channel of a transaction: what its voucher says, in base units. */
export type PurposeRow = Pick<SettlementRow, "channelId" | "cumulativeAmount">;

/** What a transaction of a settlement does. */
export type SettlementKind = "settle" | "retire";

const rowsSchema = z
	.array(
		z.tuple([
			z
				.string()
				.regex(/^0x[0-9a-f]{64}$/)
				.transform((id) => id as Hex),
			z.string().regex(/^\d+$/).transform(BigInt),
		]),
	)
	.min(1);

/** The purpose of a transaction that settles or retires these channels. */
export function rowsPurpose(
	kind: SettlementKind,
	{ currency, escrow }: Pick<Terms, "currency" | "escrow">,
	rows: readonly PurposeRow[],
): TransactionPurpose {
	const written = rows.map(({ channelId, cumulativeAmount }) => [channelId, String(cumulativeAmount)]);
	return { kind, currency, escrow, rows: JSON.stringify(written) };
}

/** The channels of a recorded transaction; none when it is of another kind. */
export function rowsOf({ kind, rows }: OutboxEntry["purpose"]): readonly PurposeRow[] {
	if (kind !== "settle" && kind !== "retire") return [];
	const parsed = rowsSchema.parse(JSON.parse(rows ?? "null"));
	return parsed.map(([channelId, cumulativeAmount]) => ({ channelId, cumulativeAmount }));
}

/** One transaction at a time for the channels in it: no channel is in two, so that the first names them all. */
export function settleKey(purpose: OutboxEntry["purpose"]): string {
	return `settle:${rowsOf(purpose)[0]?.channelId}`;
}

/** As `settleKey`, for closes by the server's own decision. */
export function retireKey(purpose: OutboxEntry["purpose"]): string {
	return `retire:${rowsOf(purpose)[0]?.channelId}`;
}
