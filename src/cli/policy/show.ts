import { findPolicyFile, readPolicyFile } from "../../client/node/policyFile.ts";
import { describePolicy } from "../../client/policy/describe.ts";
import { type LimitStatus, limitsStatus, parsePolicy } from "../../client/policy.ts";
import type { Run } from "../shared/command.ts";
import { EXIT, type ExitCode } from "../shared/exit.ts";
import { openPayerStore, type WalletOptions, walletFolder } from "../shared/payer.ts";
import { type Column, pairs, writeTable } from "../shared/table.ts";
import { moment } from "../shared/words.ts";
import { policyLines } from "./lines.ts";

export type ShowOptions = WalletOptions;

/** Shows the wallet's policy, and what is used up of each limit. */
export async function showPolicy(run: Run, options: ShowOptions): Promise<ExitCode> {
	const { out, format, say } = run;
	const file = options.policy ?? (await findPolicyFile(walletFolder(run, options)));
	const policy = parsePolicy(await readPolicyFile(file));
	const store = await openPayerStore(run, options);
	try {
		const limits = await limitsStatus(policy, store, Date.now());
		const paused = await store.paused();
		const description = describePolicy(policy);
		if (format === "json") {
			const rows = limits.map(({ current, max, text: _, resetsAtMs, ...rest }) => ({
				...rest,
				current: String(current),
				max: String(max),
				...(resetsAtMs !== undefined && { resetsAt: moment(resetsAtMs) }),
			}));
			await out.line(JSON.stringify({ file, policy: description, limits: rows, ...(paused && { paused }) }));
		} else {
			await out.write(pairs([["file", file], ...policyLines(description)]));
			if (limits.length > 0) await out.line("");
			await writeTable(out, COLUMNS, limits);
			if (paused !== undefined) say(`spending of this wallet is paused: ${paused}`);
		}
		return EXIT.done;
	} finally {
		await store.close();
	}
}

const COLUMNS: readonly Column<LimitStatus>[] = [
	{ title: "limit", width: 22, text: ({ name }) => name },
	{ title: "of", width: 44, text: ({ subject = "" }) => subject },
	{ title: "used", width: 30, right: true, text: ({ text }) => text },
	{
		title: "begins anew",
		width: 24,
		text: ({ resetsAtMs }) => (resetsAtMs === undefined ? "never" : moment(resetsAtMs)),
	},
];
