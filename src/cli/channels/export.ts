import type { ChannelStore } from "../../server/store/store.ts";
import { type ChannelRow, channelRow } from "../shared/channelRow.ts";
import type { CommonOptions, Run } from "../shared/command.ts";
import { writeCsv } from "../shared/csv.ts";
import { tellDamaged } from "../shared/damaged.ts";
import { EXIT, type ExitCode } from "../shared/exit.ts";
import type { Output } from "../shared/output.ts";
import { withStoreCopy } from "../shared/storeCopy.ts";
import { moment } from "../shared/words.ts";
import { confirmVouchers } from "./confirm.ts";

export type ExportOptions = CommonOptions &
	Readonly<{ data: string; format: "json" | "csv"; audit?: boolean; withVouchers?: boolean; yes?: boolean }>;

type ExportedChannel = ChannelRow &
	Readonly<{ authorizedSigner: string; closeTxHash: string | null; voucherSignature?: string }>;
type ExportedLine = Readonly<{ at: string; kind: string; channelId: string; values: Readonly<Record<string, string>> }>;

/** Writes all channels of a store out, or its audit log, as far as it can be read, without ever holding all of it. */
export async function exportChannels(run: Run, options: ExportOptions): Promise<ExitCode> {
	const { data, format, audit = false, withVouchers = false } = options;
	if (withVouchers) await confirmVouchers(run, SIGNATURES_WARNING, options);
	return withStoreCopy(data, async (store) => {
		const channels = () => exported(store, withVouchers);
		if (format === "csv")
			await (audit
				? writeCsv(run.out, AUDIT, lines(store))
				: writeCsv(run.out, channelColumns(withVouchers), channels()));
		else await writeJson(run, store, channels(), audit);
		const damaged = format === "csv" ? tellDamaged(run, store) : store.quarantined();
		return damaged.length === 0 ? EXIT.done : EXIT.failed;
	});
}

async function writeJson(
	run: Run,
	store: ChannelStore,
	channels: AsyncIterable<object>,
	audit: boolean,
): Promise<void> {
	const { out } = run;
	await out.write(`{"channels":[`);
	await writeItems(out, channels);
	if (audit) {
		await out.write(`\n],"audit":[`);
		await writeItems(out, lines(store));
	}
	await out.line(`\n],"damaged":${JSON.stringify(tellDamaged(run, store))}}`);
}

async function writeItems(out: Output, items: AsyncIterable<object>): Promise<void> {
	let separator = "\n";
	for await (const item of items) {
		if (out.gone) return;
		await out.write(`${separator}${JSON.stringify(item)}`);
		separator = ",\n";
	}
}

async function* exported(store: ChannelStore, withVouchers: boolean): AsyncGenerator<ExportedChannel> {
	for await (const channel of store.channels()) {
		const { authorizedSigner, closeTxHash, voucherSignature } = channel;
		yield { ...channelRow(channel), authorizedSigner, closeTxHash, ...(withVouchers && { voucherSignature }) };
	}
}

async function* lines(store: ChannelStore): AsyncGenerator<ExportedLine> {
	for await (const { at, kind, channelId = "", values } of store.audit())
		yield { at: moment(at), kind, channelId, values };
}

const CHANNEL_COLUMNS = [
	"channelId",
	"chainId",
	"escrow",
	"payer",
	"payee",
	"token",
	"state",
	"deposit",
	"acceptedCumulative",
	"spent",
	"reserved",
	"settledOnChain",
	"unsettled",
	"closeRequestedAt",
	"openedAt",
	"lastActivityAt",
	"unsettledSince",
	"blockNumber",
	"authorizedSigner",
	"closeTxHash",
] as const;

function channelColumns(withVouchers: boolean): readonly (keyof ExportedChannel)[] {
	return withVouchers ? [...CHANNEL_COLUMNS, "voucherSignature"] : CHANNEL_COLUMNS;
}

const AUDIT = ["at", "kind", "channelId", "values"] as const;

const SIGNATURES_WARNING =
	"the vouchers' signatures will be written out: with the payee's key they are money, and whoever has one knows what only payer and payee should. Keep the file as you keep the store";
