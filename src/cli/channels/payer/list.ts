import type { Address } from "viem";
import type { Run } from "../../shared/command.ts";
import { EXIT, type ExitCode } from "../../shared/exit.ts";
import { openPayerStore, type WalletOptions } from "../../shared/payer.ts";
import { writeTable } from "../../shared/table.ts";
import { Totals } from "../../shared/totals.ts";
import { PAYER_COLUMNS, payerRow } from "./row.ts";

export type PayerListOptions = WalletOptions &
	Readonly<{ closing?: boolean; payer?: Address; token?: Address; limit?: number }>;

/** Lists the wallet's channels, also beside the agent's processes. The chain is not asked. */
export async function listPayerChannels(run: Run, options: PayerListOptions): Promise<ExitCode> {
	const { out, format, say } = run;
	const { closing, payer, token, limit = Number.POSITIVE_INFINITY } = options;
	const store = await openPayerStore(run, options);
	try {
		const rows = (await store.list())
			.map(payerRow)
			.filter(
				(row) =>
					(payer === undefined || row.payer === payer) &&
					(token === undefined || row.token === token) &&
					(!closing || row.status === "forgotten"),
			)
			.sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1))
			.slice(0, limit);
		for (const { reason } of await store.damaged()) say(`warning: ${reason}`);
		const deposit = new Totals();
		const signed = new Totals();
		for (const row of rows) {
			if (row.status === "closed") continue;
			deposit.add(row.token, BigInt(row.deposit));
			signed.add(row.token, BigInt(row.signed));
		}
		if (format === "json") {
			await out.line(JSON.stringify({ channels: rows, count: rows.length, deposit, signed }));
		} else {
			await writeTable(out, PAYER_COLUMNS, rows);
			say(
				rows.length === 0 ? "no such channel" : `${rows.length} channels, deposited: ${deposit}, signed for: ${signed}`,
			);
		}
		return EXIT.done;
	} finally {
		await store.close();
	}
}
