import type { Hex } from "viem";
import { requestClose } from "../../../client/recovery/requestClose.ts";
import type { Run } from "../../shared/command.ts";
import { type ExitCode, UsageError } from "../../shared/exit.ts";
import type { PayerOptions } from "../../shared/payer.ts";
import { shortHex } from "../../shared/words.ts";
import { withRecovery } from "./open.ts";
import { workOn, writeWork } from "./report.ts";

/** Asks the escrow for the close of channels, by transactions of the payer's. */
export async function requestCloses(run: Run, channelIds: readonly Hex[], options: PayerOptions): Promise<ExitCode> {
	if (channelIds.length === 0) throw new UsageError("which channels? Name them");
	return withRecovery(run, options, channelIds, async ({ parts }) => {
		const rows = await workOn(run, channelIds, options.rpc, async (channelId) => {
			const onProgress = ({ phase }: { phase: string }) => run.say(`${shortHex(channelId)}: ${phase}`);
			const { deposit, settled, outcome, ...request } = await requestClose(parts, channelId, { onProgress });
			const amounts = { deposit: String(deposit), settled: String(settled) };
			if (!("withdrawableAt" in request)) return { channelId, outcome, ...amounts, refund: String(deposit - settled) };
			const { withdrawableAt, hash } = request;
			return { channelId, outcome, ...amounts, withdrawableAt, ...(hash !== undefined && { hash }) };
		});
		const ids = rows.flatMap(({ channelId, withdrawableAt }) => (withdrawableAt === undefined ? [] : [channelId]));
		if (ids.length > 0)
			run.say(
				`the grace period runs; \`sluice channels withdraw ${ids.join(" ")}\` waits for its end and gets the rest back`,
			);
		return writeWork(run, rows);
	});
}
