/** What came of a settlement: rows, sums, and the exit code. */
import type { Address } from "viem";
import type { Channel } from "../../server/channel.ts";
import type { SettlementRun, SettlementRunRow } from "../../server/settlement/run.ts";
import type { QuarantinedRecord } from "../../server/store/store.ts";
import type { Run } from "./command.ts";
import type { Estimate } from "./estimate.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { type Column, writeTable } from "./table.ts";
import { Totals } from "./totals.ts";
import { coins, gwei, shortHex } from "./words.ts";

/** One channel, for programs. */
export type ReportRow = Readonly<{
	channelId: string;
	payer: string;
	payee: string;
	token: string;
	/** What was owed before, in base units. */
	unsettled: string;
	outcome: SettlementRunRow["outcome"];
	reason?: string;
	txHash?: string;
}>;

export type ReportParts = Readonly<{
	chainId: number;
	payees: readonly Address[];
	dryRun: boolean;
	runs: readonly SettlementRun[];
	channels: ReadonlyMap<string, Channel>;
	others: Readonly<{ chains: number; payees: number }>;
	damaged: readonly QuarantinedRecord[];
	/** Of a dry run. */
	estimate?: Estimate;
}>;

export function reportRow(
	{ clean }: Pick<Run, "clean">,
	row: SettlementRunRow,
	channel: Channel | undefined,
): ReportRow {
	const { channelId, payer, unsettled, outcome, reason, txHash } = row;
	return {
		channelId,
		payer,
		payee: channel?.payee ?? "",
		token: channel?.token ?? "",
		unsettled: String(unsettled),
		outcome,
		...(reason !== undefined && { reason: clean(reason) }),
		...(txHash !== undefined && { txHash }),
	};
}

/** The sums of a report, and what they mean for the exit code. */
export function summaryOf(
	run: Run,
	{ chainId, payees, dryRun, runs, channels, others, damaged, estimate }: ReportParts,
) {
	const rows = runs.flatMap((one) => one.rows).map((row) => reportRow(run, row, channels.get(row.channelId)));
	const count = (...outcomes: readonly SettlementRunRow["outcome"][]) =>
		rows.filter(({ outcome }) => outcomes.includes(outcome)).length;
	const amount = new Totals();
	for (const { token, unsettled, outcome } of rows) {
		if (BROUGHT.includes(outcome)) amount.add(token, BigInt(unsettled));
	}
	const failed = count("failed");
	const pending = count("pending");
	// What is owed and was left is not done, whatever the reason; nor is what can't be known.
	const isLeft = rows.some(({ outcome, unsettled }) => outcome === "skipped" && unsettled !== "0");
	const isFailed = failed > 0 || isLeft || damaged.some(({ key }) => key.startsWith("c:"));
	const code: ExitCode = isFailed ? EXIT.failed : pending > 0 ? EXIT.pending : EXIT.done;
	return {
		code,
		rows,
		summary: {
			outcome: isFailed ? "failed" : pending > 0 ? "pending" : dryRun ? "dry-run" : "done",
			chainId,
			payees,
			transactions: runs.reduce((sum, { transactions }) => sum + transactions, 0),
			settled: count("settled", "would-settle"),
			closed: count("closed", "would-close"),
			pending,
			failed,
			uneconomic: count("uneconomic"),
			skipped: count("skipped"),
			amount,
			...(estimate && { estimate }),
			otherChains: others.chains,
			otherPayees: others.payees,
			damaged,
		},
	} as const;
}

const BROUGHT: readonly SettlementRunRow["outcome"][] = ["settled", "closed", "would-settle", "would-close"];

/** Prints a report; resolves to the exit code. `more` are members that only programs get. */
export async function writeReport(
	run: Run,
	parts: ReportParts,
	{
		columns = COLUMNS,
		rows: shown,
	}: Readonly<{ columns?: readonly Column<ReportRow>[]; rows?: readonly ReportRow[] }> = {},
): Promise<ExitCode> {
	const { out, format, say } = run;
	const { code, rows, summary } = summaryOf(run, parts);
	if (format === "json") {
		await out.line(JSON.stringify({ ...summary, rows: shown ?? rows }));
	} else {
		await writeTable(out, columns, shown ?? rows);
	}
	const { settled, closed, pending, failed, uneconomic, skipped, transactions, amount, otherChains, otherPayees } =
		summary;
	const verb = parts.dryRun ? "would be " : "";
	say(
		`${settled} ${verb}settled, ${closed} ${verb}closed, ${pending} pending, ${failed} failed, ${uneconomic} uneconomic, ${skipped} skipped; ${transactions} transactions; ${parts.dryRun ? "to bring in" : "brought in"}: ${amount}`,
	);
	if (parts.estimate !== undefined) say(describeEstimate(parts.estimate));
	if (otherChains > 0) say(`${otherChains} channels of other chains were left alone: give their chain's --rpc`);
	if (otherPayees > 0) say(`${otherPayees} channels of other payees were left alone: run it with their key`);
	if (pending > 0)
		say("run the same command again to see what became of those that are pending; nothing is sent twice");
	return code;
}

export function describeEstimate({ transactions, gas, gasPrice, cost }: Estimate): string {
	return `estimate: ${transactions} transactions, about ${gas} gas at ${gwei(BigInt(gasPrice))}: ${coins(BigInt(cost))}`;
}

/** One line of progress. */
export function progressLine({ channelId, unsettled, outcome, reason, txHash }: SettlementRunRow): string {
	const more = [txHash, reason].filter((text) => text !== undefined).join(": ");
	return `${outcome} ${channelId} ${unsettled}${more === "" ? "" : ` (${more})`}`;
}

const COLUMNS: readonly Column<ReportRow>[] = [
	{ title: "channel", width: 13, text: ({ channelId }) => shortHex(channelId) },
	{ title: "payer", width: 13, text: ({ payer }) => shortHex(payer) },
	{ title: "token", width: 13, text: ({ token }) => shortHex(token) },
	{ title: "unsettled", width: 12, right: true, text: ({ unsettled }) => unsettled },
	{ title: "outcome", width: 12, text: ({ outcome }) => outcome },
	{ title: "transaction", width: 13, text: ({ txHash }) => (txHash === undefined ? "" : shortHex(txHash)) },
	{ title: "reason", width: 10, text: ({ reason = "" }) => reason },
];
