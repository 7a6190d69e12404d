/** Receipts as people and programs read them. */
import { bareUrl } from "../../client/bareUrl.ts";
import { amountText, unitOf } from "../../client/policy/currency.ts";
import type { Policy } from "../../client/policy/schema.ts";
import type { ReceiptRecord } from "../../client/store/store.ts";
import { UsageError } from "../shared/exit.ts";
import { moment } from "../shared/words.ts";

export const KINDS = [
	"charge",
	"open",
	"topUp",
	"voucher",
	"close",
] as const satisfies readonly ReceiptRecord["kind"][];

/** One receipt. Amounts in base units, as decimal strings. `null`: it has none. */
export type ReceiptRow = Readonly<{
	at: string;
	kind: ReceiptRecord["kind"];
	host: string;
	/** Without its query, which may hold what is nobody's business. */
	url: string;
	method: string;
	/** What was paid with this one: of a top-up, what was deposited; of a close, all that its channel has paid. */
	amount: string;
	/** With its unit, where the policy knows it. */
	text: string;
	chainId: number;
	token: string;
	payee: string;
	channelId: string | null;
	/** What the channel had paid by then. */
	spent: string | null;
	txHash: string | null;
	challengeId: string;
}>;

export function receiptRow(record: ReceiptRecord, policy: Policy | undefined): ReceiptRow {
	const { atMs, kind, url, method, amount, chainId, token, payee, channelId, challenge, receipt } = record;
	const { host } = new URL(url);
	const text = (value: unknown) => (typeof value === "string" ? value : null);
	return {
		at: moment(atMs),
		kind,
		host,
		url: bareUrl(url),
		method,
		amount,
		text: textOf(policy, { chainId, token }, BigInt(amount)),
		...{ chainId, token, payee },
		channelId: channelId ?? null,
		spent: channelId === undefined ? null : text(receipt.spent),
		// The reference of a charge is its transaction.
		txHash: text(receipt.txHash) ?? (kind === "charge" ? text(receipt.reference) : null),
		challengeId: challenge.id,
	};
}

type At = Readonly<{ chainId: number; token: string }>;

/** An amount with its unit; in base units without a policy. */
export function textOf(policy: Policy | undefined, at: At, amount: bigint): string {
	return policy === undefined ? `${amount} base units` : amountText(policy, at, amount);
}

export type Filters = Readonly<{
	host?: string;
	since?: number;
	channel?: string;
	kind?: ReceiptRecord["kind"];
	limit?: number;
}>;

/** Those that somebody asks for. */
export function filtered(rows: readonly ReceiptRow[], { host, since, channel, kind, limit }: Filters) {
	const its = host?.toLowerCase();
	return rows
		.filter(
			(row) =>
				(its === undefined || row.host === its || row.host.split(":")[0] === its) &&
				(since === undefined || Date.parse(row.at) >= since) &&
				(channel === undefined || row.channelId === channel) &&
				(kind === undefined || row.kind === kind),
		)
		.slice(0, limit);
}

/** What all of them come to, of one currency, in base units. */
export type Total = Readonly<{ unit: string; charges: string; channels: string; total: string; text: string }>;

/**
 * What was paid by what is listed: charges by their amounts, each channel once, by the highest count of its receipts. Top-ups
 * are deposits, and nothing is paid by them.
 */
export function totalsOf(rows: readonly ReceiptRow[], policy: Policy | undefined): readonly Total[] {
	const sums = new Map<string, { at: At; charges: bigint; channels: Map<string, bigint> }>();
	for (const { chainId, token, kind, amount, channelId, spent } of rows) {
		const at = { chainId, token };
		const unit = policy === undefined ? `${chainId}:${token}` : unitOf(policy, at);
		const sum = sums.get(unit) ?? { at, charges: 0n, channels: new Map() };
		sums.set(unit, sum);
		if (kind === "charge") sum.charges += BigInt(amount);
		if (channelId === null) continue;
		const counted = sum.channels.get(channelId) ?? 0n;
		if (BigInt(spent ?? "0") > counted) sum.channels.set(channelId, BigInt(spent ?? "0"));
	}
	return [...sums].map(([unit, { at, charges, channels }]) => {
		const byChannel = [...channels.values()].reduce((sum, spent) => sum + spent, 0n);
		const total = charges + byChannel;
		const amounts = { charges: String(charges), channels: String(byChannel), total: String(total) };
		return { unit, ...amounts, text: textOf(policy, at, total) };
	});
}

const LENGTHS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/**
 * A moment in ISO 8601, or a length of time before now: `24h`.
 *
 * @returns Unix milliseconds
 * @throws UsageError
 */
export function momentFrom(text: string, nowMs: number): number {
	const [, count, unit] = text.match(/^(\d{1,6})([mhd])$/) ?? [];
	if (count !== undefined) return nowMs - Number(count) * LENGTHS[unit as keyof typeof LENGTHS];
	const at = /^\d{4}-\d{2}-\d{2}(T[\d:.]+(Z|[+-]\d{2}:\d{2})?)?$/.test(text) ? Date.parse(text) : Number.NaN;
	if (!Number.isNaN(at)) return at;
	throw new UsageError("--since is a moment such as 2026-11-26T08:00Z, or a length of time such as 30m, 24h or 7d");
}
