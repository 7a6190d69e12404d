import type { Hex } from "viem";
import { bareUrl } from "../../../client/bareUrl.ts";
import { look, NothingDepositedError, withdrawableAt } from "../../../client/recovery/onChain.ts";
import type { LookParts } from "../../../client/recovery/parts.ts";
import type { ChannelRecord, ReceiptRecord } from "../../../client/store/store.ts";
import type { Run } from "../../shared/command.ts";
import { EXIT, type ExitCode } from "../../shared/exit.ts";
import type { WalletOptions } from "../../shared/payer.ts";
import { type Column, pairs, writeTable } from "../../shared/table.ts";
import { moment } from "../../shared/words.ts";
import { withWallet } from "./open.ts";
import { type PayerRow, payerRow } from "./row.ts";

/** How many of its receipts are shown, the newest. */
const RECEIPTS = 20;

/** Shows one channel of the wallet: its books, receipts and own transactions; with an RPC, what the chain says now. */
export function showPayerChannel(run: Run, channelId: Hex, options: WalletOptions): Promise<ExitCode> {
	const { out, format } = run;
	return withWallet(run, options, [channelId], async ({ parts, listed, store }) => {
		const found = listed.find(({ record }) => record.state.channelId === channelId);
		if (found === undefined) return EXIT.failed;
		const { recovery, ...channel } = payerRow(found);
		const all = (await store.receipts()).filter((receipt) => receipt.channelId === channelId);
		const receipts = all.slice(0, RECEIPTS).map(receiptRow);
		const chain = options.rpc === undefined ? undefined : await onChain(parts, found.record);
		if (format === "json") {
			await out.line(JSON.stringify({ channel, recovery, receipts, ...(chain && { chain }) }));
			return EXIT.done;
		}
		await out.write(pairs(Object.entries(channel).map(([name, value]) => [name, String(value)])));
		if (chain !== undefined) {
			await out.line("\non chain now");
			await out.write(pairs(Object.entries(chain).map(([name, value]) => [name, String(value)])));
		}
		if (recovery.length > 0) await out.line("\nown transactions");
		await writeTable(out, RECOVERY_COLUMNS, recovery);
		if (receipts.length > 0) await out.line("\nreceipts");
		await writeTable(out, RECEIPT_COLUMNS, receipts);
		return EXIT.done;
	});
}

/** What the escrow has now. `untilSeconds`: until a withdrawal works, by the chain's clock; `null` where no close is requested. */
async function onChain(parts: LookParts, record: ChannelRecord) {
	try {
		const sight = await look(parts, record);
		const { deposit, settled, closeRequestedAt, finalized } = sight.channel;
		const readyAt = finalized ? undefined : await withdrawableAt(sight, record);
		return {
			blockNumber: Number(sight.blockNumber),
			exists: true,
			deposit: String(deposit),
			settled: String(settled),
			rest: finalized ? "0" : String(deposit - settled),
			closeRequestedAt,
			withdrawableAt: readyAt ?? null,
			untilSeconds: readyAt === undefined ? null : Math.max(0, readyAt - sight.timestamp),
			finalized,
		};
	} catch (error) {
		if (error instanceof NothingDepositedError) return { exists: false };
		throw error;
	}
}

type ReceiptRow = Readonly<{ at: string; kind: string; amount: string; method: string; url: string; spent: string }>;

function receiptRow({ atMs, kind, amount, method, url, receipt }: ReceiptRecord): ReceiptRow {
	const spent = typeof receipt.spent === "string" ? receipt.spent : "";
	return { at: moment(atMs), kind, amount, method, url: bareUrl(url), spent };
}

const RECOVERY_COLUMNS: readonly Column<PayerRow["recovery"][number]>[] = [
	{ title: "kind", width: 12, text: ({ kind }) => kind },
	{ title: "hash", width: 66, text: ({ hash }) => hash },
	{ title: "nonce", width: 6, right: true, text: ({ nonce }) => String(nonce) },
	{ title: "at", width: 24, text: ({ at }) => at },
];

const RECEIPT_COLUMNS: readonly Column<ReceiptRow>[] = [
	{ title: "at", width: 24, text: ({ at }) => at },
	{ title: "kind", width: 7, text: ({ kind }) => kind },
	{ title: "amount", width: 12, right: true, text: ({ amount }) => amount },
	{ title: "spent", width: 12, right: true, text: ({ spent }) => spent },
	{ title: "request", width: 20, text: ({ method, url }) => `${method} ${url}` },
];
