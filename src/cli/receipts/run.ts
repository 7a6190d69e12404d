import { findPolicyFile, readPolicyFile } from "../../client/node/policyFile.ts";
import { PolicyError } from "../../client/policy/errors.ts";
import { type Policy, parsePolicy } from "../../client/policy/schema.ts";
import type { ReceiptRecord } from "../../client/store/store.ts";
import type { Run } from "../shared/command.ts";
import { writeCsv } from "../shared/csv.ts";
import { EXIT, type ExitCode, UsageError } from "../shared/exit.ts";
import { openPayerStore, type WalletOptions, walletFolder } from "../shared/payer.ts";
import { type Column, pairs, writeTable } from "../shared/table.ts";
import { shortHex } from "../shared/words.ts";
import { type Filters, filtered, momentFrom, type ReceiptRow, receiptRow, totalsOf } from "./rows.ts";

type FilterOptions = Omit<Filters, "since"> & Readonly<{ since?: string }>;

export type ListOptions = WalletOptions & FilterOptions;
export type ExportOptions = ListOptions & Readonly<{ format: "json" | "csv" }>;

/** The shortest beginning of an id that is looked for. */
const SHORTEST_ID = 6;

/** The wallet has no such receipt. */
export class ReceiptNotFoundError extends Error {
	override readonly name = "ReceiptNotFoundError";
	readonly code = "RECEIPT_NOT_FOUND";
	constructor() {
		super("the wallet has no receipt of that; `sluice receipts --json` shows which it has, with their whole ids");
	}
}

/** Lists receipts, the newest first, also while agents use the wallet. */
export async function listReceipts(run: Run, options: ListOptions): Promise<ExitCode> {
	const { out, format, say } = run;
	const { records, policy } = await readAll(run, options);
	const rows = filtered(
		records.map((record) => receiptRow(record, policy)),
		filtersOf(options),
	);
	const totals = totalsOf(rows, policy);
	if (format === "json") {
		await out.jsonList("receipts", inTurn(rows), () => ({ count: rows.length, totals }));
		return EXIT.done;
	}
	await writeTable(out, COLUMNS, rows);
	const paid = totals.map(({ text }) => text).join(", ");
	say(rows.length === 0 ? "no such receipt" : `${rows.length} receipts; paid: ${paid}`);
	return EXIT.done;
}

/** Shows all that is kept of one receipt, or of all of a channel. */
export async function showReceipt(run: Run, id: string, options: WalletOptions): Promise<ExitCode> {
	const { out, format } = run;
	const wanted = id.toLowerCase();
	if (wanted.length < SHORTEST_ID) throw new UsageError(`an id has ${SHORTEST_ID} characters at least`);
	const { records, policy } = await readAll(run, options);
	const found = records.flatMap((record) => {
		const row = receiptRow(record, policy);
		const ids = [row.channelId, row.txHash, row.challengeId, String(record.receipt.reference ?? "")];
		const { challenge, receipt } = record;
		return ids.some((one) => one?.toLowerCase().startsWith(wanted)) ? [{ ...row, challenge, receipt }] : [];
	});
	if (found.length === 0) throw new ReceiptNotFoundError();
	if (format === "json") await out.line(JSON.stringify({ receipts: found }));
	else
		for (const { challenge, receipt, ...row } of found) {
			const told = Object.entries({ ...row, ...receipt, realm: challenge.realm });
			await out.line(pairs(told.flatMap(([name, value]) => (value === null ? [] : [[name, String(value)] as const]))));
		}
	return EXIT.done;
}

const CSV: readonly (keyof ReceiptRow)[] = [
	"at",
	"kind",
	"host",
	"url",
	"method",
	"amount",
	"text",
	"chainId",
	"token",
	"payee",
	"channelId",
	"spent",
	"txHash",
	"challengeId",
];

/** Writes receipts out; as JSON with their challenges, as evidence. */
export async function exportReceipts(run: Run, options: ExportOptions): Promise<ExitCode> {
	const { records, policy } = await readAll(run, options);
	const whole = new Map(records.map((record) => [receiptRow(record, policy), record]));
	const rows = filtered([...whole.keys()], filtersOf(options));
	if (options.format === "csv") await writeCsv(run.out, CSV, rows);
	else {
		const items = rows.map((row) => {
			const record = whole.get(row);
			return { ...row, challenge: record?.challenge, receipt: record?.receipt };
		});
		await run.out.jsonList("receipts", inTurn(items), () => ({ count: items.length, totals: totalsOf(rows, policy) }));
	}
	return EXIT.done;
}

type All = Readonly<{ records: readonly ReceiptRecord[]; policy: Policy | undefined }>;

async function readAll(run: Run, options: WalletOptions): Promise<All> {
	const policy = await unitsOf(run, options);
	const store = await openPayerStore(run, options);
	try {
		return { records: await store.receipts(), policy };
	} finally {
		await store.close();
	}
}

/** The policy knows the units of tokens. Where the wallet's own is missing or wrong, amounts are base units. */
async function unitsOf(run: Run, options: WalletOptions): Promise<Policy | undefined> {
	if (options.policy !== undefined) return parsePolicy(await readPolicyFile(options.policy));
	try {
		return parsePolicy(await readPolicyFile(await findPolicyFile(walletFolder(run, options))));
	} catch (error) {
		if (!(error instanceof PolicyError)) throw error;
		run.say(`warning: amounts are in base units: ${error.message}`);
		return undefined;
	}
}

function filtersOf({ since, ...rest }: FilterOptions): Filters {
	return { ...rest, ...(since !== undefined && { since: momentFrom(since, Date.now()) }) };
}

async function* inTurn<T>(items: Iterable<T>): AsyncGenerator<T> {
	yield* items;
}

const COLUMNS: readonly Column<ReceiptRow>[] = [
	{ title: "time", width: 20, text: ({ at }) => `${at.slice(0, 19)}Z` },
	{ title: "host", width: 28, text: ({ host }) => host },
	{ title: "kind", width: 7, text: ({ kind }) => kind },
	{ title: "amount", width: 18, right: true, text: ({ text }) => shortUnit(text) },
	{ title: "payee", width: 13, text: ({ payee }) => shortHex(payee) },
	{ title: "channel or transaction", width: 22, text: ({ channelId, txHash }) => shortHex(channelId ?? txHash ?? "") },
];

/** A token that no currency lists has a long name. */
function shortUnit(text: string): string {
	return text.replace(/ base units.*/, " base units");
}
