import { type ChannelRow, channelRow } from "../shared/channelRow.ts";
import type { CommonOptions, Run } from "../shared/command.ts";
import { tellDamaged } from "../shared/damaged.ts";
import { EXIT, type ExitCode } from "../shared/exit.ts";
import { withStoreCopy } from "../shared/storeCopy.ts";
import { type Column, writeTable } from "../shared/table.ts";
import { Totals } from "../shared/totals.ts";
import { duration, shortHex } from "../shared/words.ts";
import { type Filters, selectChannels } from "./select.ts";

export type ListOptions = CommonOptions & Filters & Readonly<{ data: string }>;

/** Lists channels, also beside a running server: out of a copy of its store. */
export function listChannels(run: Run, options: ListOptions): Promise<ExitCode> {
	const { out, format, say } = run;
	const now = Date.now();
	const owed = new Totals();
	let count = 0;
	return withStoreCopy(options.data, async (store) => {
		async function* rows(): AsyncGenerator<ChannelRow> {
			for await (const channel of selectChannels(store, options, now)) {
				count++;
				const row = channelRow(channel);
				owed.add(row.token, BigInt(row.unsettled));
				yield row;
			}
		}
		if (format === "json") {
			await out.jsonList("channels", rows(), () => ({ count, unsettled: owed, damaged: tellDamaged(run, store) }));
		} else {
			await writeTable(out, columns(now), rows());
			tellDamaged(run, store);
			say(count === 0 ? "no such channel" : `${count} channels, unsettled: ${owed}`);
		}
		return EXIT.done;
	});
}

function columns(now: number): readonly Column<ChannelRow>[] {
	return [
		{ title: "channel", width: 13, text: ({ channelId }) => shortHex(channelId) },
		{ title: "payer", width: 13, text: ({ payer }) => shortHex(payer) },
		{ title: "token", width: 13, text: ({ token }) => shortHex(token) },
		{ title: "deposit", width: 12, right: true, text: ({ deposit }) => deposit },
		{ title: "accepted", width: 12, right: true, text: ({ acceptedCumulative }) => acceptedCumulative },
		{ title: "spent", width: 12, right: true, text: ({ spent }) => spent },
		{ title: "settled", width: 12, right: true, text: ({ settledOnChain }) => settledOnChain },
		{ title: "unsettled", width: 12, right: true, text: ({ unsettled }) => unsettled },
		{ title: "state", width: 15, text: ({ state }) => state },
		{
			title: "last activity",
			width: 13,
			text: ({ lastActivityAt }) => `${duration((now - Date.parse(lastActivityAt)) / 1_000)} ago`,
		},
	];
}
