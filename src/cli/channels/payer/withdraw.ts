import type { Hex } from "viem";
import type { RecoveryProgress } from "../../../client/recovery/progress.ts";
import { withdraw } from "../../../client/recovery/withdraw.ts";
import type { Run } from "../../shared/command.ts";
import { type ExitCode, UsageError } from "../../shared/exit.ts";
import type { PayerOptions } from "../../shared/payer.ts";
import { duration, shortHex } from "../../shared/words.ts";
import { withRecovery } from "./open.ts";
import { workOn, writeWork } from "./report.ts";
import { untilInterrupted } from "./signals.ts";

export type WithdrawOptions = PayerOptions &
	Readonly<{
		/** Whether the grace period is waited for. */
		wait: boolean;
		/** Seconds between looks at the chain. */
		poll?: number;
	}>;

/** How often a wait says that it goes on, in ms. */
const SAY_EVERY_MS = 30_000;

/** Waits for the end of grace periods, and gets what is not settled back. */
export async function withdrawRests(run: Run, channelIds: readonly Hex[], options: WithdrawOptions): Promise<ExitCode> {
	if (channelIds.length === 0) throw new UsageError("which channels? Name them");
	const { wait, poll, rpc } = options;
	return withRecovery(run, options, channelIds, ({ parts }) =>
		untilInterrupted(async (signal) => {
			const work = async (channelId: Hex) => {
				const settings = { wait, signal, ...(poll !== undefined && { pollMs: poll * 1_000 }) };
				const back = await withdraw(parts, channelId, { ...settings, onProgress: teller(run) });
				const { outcome, deposit, settled, refund, hash } = back;
				const amounts = { deposit: String(deposit), settled: String(settled), refund: String(refund) };
				if (outcome === "closed") run.say(`${shortHex(channelId)}: the payee has closed it; there was nothing to do`);
				return { channelId, outcome, ...amounts, ...(hash !== undefined && { hash }) };
			};
			const rows = await workOn(run, channelIds, rpc, work, () => signal.aborted);
			return writeWork(run, rows);
		}),
	);
}

/** Says what is new at once, and that the wait goes on now and then. */
function teller({ say }: Run): (progress: RecoveryProgress) => void {
	let saidAt = Number.NEGATIVE_INFINITY;
	return (progress) => {
		if (progress.phase === "grace") {
			if (Date.now() - saidAt < SAY_EVERY_MS) return;
			saidAt = Date.now();
		}
		say(`${shortHex(progress.channelId)}: ${wordsOf(progress)}`);
	};
}

function wordsOf(progress: RecoveryProgress): string {
	switch (progress.phase) {
		case "sending":
			return `sending ${progress.kind}`;
		case "mining":
			return `${progress.kind} ${progress.hash} is on its way`;
		case "grace": {
			const { untilSeconds, withdrawableAt, settled } = progress;
			const until = new Date(withdrawableAt * 1_000).toISOString();
			return `the grace period goes on for ${duration(untilSeconds)}, until ${until} by the chain's clock; settled so far: ${settled}`;
		}
		case "settled":
			return `the payee has settled ${progress.delta} more, ${progress.settled} in all`;
		case "node-failing":
			return `the node does not answer (${progress.reason}); the wait goes on`;
		case "node-back":
			return "the node answers again";
	}
}
