/** What came of work on several channels: rows, and the exit code. */
import { ContractPayerError } from "../../../client/recovery/calls.ts";
import { GracePeriodError } from "../../../client/recovery/grace.ts";
import { TransactionPendingError } from "../../../escrow/sender.ts";
import type { Run } from "../../shared/command.ts";
import { EXIT, type ExitCode } from "../../shared/exit.ts";
import { describeFailure, type FailureWords } from "../../shared/failure.ts";
import { type Column, writeTable } from "../../shared/table.ts";
import { shortHex } from "../../shared/words.ts";

/** One channel. Amounts in base units, as decimal strings. */
export type WorkRow = Readonly<{
	channelId: string;
	outcome: string;
	deposit?: string;
	settled?: string;
	/** What is with the payer again. */
	refund?: string;
	hash?: string;
	/** Unix seconds of the chain. */
	withdrawableAt?: number;
	/** The call that a contract wallet has to make. */
	call?: Readonly<{ chainId: number; to: string; data: string }>;
	error?: FailureWords;
}>;

/** Works on channels one after the other. What fails is told, and the others are worked on all the same. */
export async function workOn<Id extends string>(
	run: Run,
	channelIds: readonly Id[],
	rpc: readonly string[] | undefined,
	work: (channelId: Id) => Promise<WorkRow>,
	isOver: () => boolean = () => false,
): Promise<readonly WorkRow[]> {
	const rows: WorkRow[] = [];
	for (const channelId of new Set(channelIds)) {
		if (isOver()) break;
		try {
			rows.push(await work(channelId));
		} catch (error) {
			const words = describeFailure(error, rpc ?? []);
			const message = run.clean(words.message);
			run.say(`${shortHex(channelId)}: ${message}`);
			rows.push({
				channelId,
				outcome: isPending(error) ? "pending" : "failed",
				...callOf(error),
				error: { ...words, message },
			});
		}
	}
	return rows;
}

/** Prints rows; resolves to the exit code. */
export async function writeWork({ out, format }: Run, rows: readonly WorkRow[]): Promise<ExitCode> {
	const isFailed = rows.some(({ outcome }) => outcome === "failed");
	const isWaiting = rows.some(({ outcome }) => outcome === "pending");
	const outcome = isFailed ? "failed" : isWaiting ? "pending" : "done";
	if (format === "json") await out.line(JSON.stringify({ outcome, channels: rows }));
	else await writeTable(out, COLUMNS, rows);
	return isFailed ? EXIT.failed : isWaiting ? EXIT.pending : EXIT.done;
}

/** What only has to be run again, later. */
function isPending(error: unknown): boolean {
	return error instanceof TransactionPendingError || error instanceof GracePeriodError;
}

function callOf(error: unknown): Pick<WorkRow, "call"> {
	if (!(error instanceof ContractPayerError)) return {};
	const { chainId, to, data } = error;
	return { call: { chainId, to, data } };
}

const COLUMNS: readonly Column<WorkRow>[] = [
	{ title: "channel", width: 13, text: ({ channelId }) => shortHex(channelId) },
	{ title: "outcome", width: 10, text: ({ outcome }) => outcome },
	{ title: "deposit", width: 12, right: true, text: ({ deposit = "" }) => deposit },
	{ title: "settled", width: 12, right: true, text: ({ settled = "" }) => settled },
	{ title: "refund", width: 12, right: true, text: ({ refund = "" }) => refund },
	{ title: "transaction", width: 13, text: ({ hash }) => (hash === undefined ? "" : shortHex(hash)) },
	{
		title: "withdrawable",
		width: 24,
		text: ({ withdrawableAt }) => (withdrawableAt === undefined ? "" : new Date(withdrawableAt * 1_000).toISOString()),
	},
];
