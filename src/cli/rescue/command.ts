import { Command } from "commander";
import { addOutputOptions, runCommand, tellWrongUsage } from "../shared/command.ts";
import type { SettlementOptions } from "../shared/operators.ts";
import { addSettlementOptions } from "../shared/settlementOptions.ts";
import { rescue } from "./run.ts";

/** `sluice rescue`. Exit codes as `EXIT` in ../shared/exit.ts. */
export function rescueCommand(): Command {
	const command = new Command("rescue").description(
		"Brings in what a payee is owed, out of a copy of its store and without its server. Every channel is read from the chain " +
			"first, so that an old copy will do; what a payer may soon withdraw goes first, then the highest values. Damaged records " +
			"are named and left out. Run again, it finds what it has sent and sends nothing twice.",
	);
	addSettlementOptions(command);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			[
				"",
				"Exit codes: 0 all brought in, or nothing owed; 1 something failed or could not be read; 2 wrong usage; 3 sent, but not mined in time (run it again).",
				"Give it the folder of the copy: it keeps there what it sends. A dry run writes nothing.",
				"",
				"Examples:",
				"  $ sluice rescue --data ./copy --rpc https://sepolia.base.org --dry-run",
				"  $ SLUICE_PAYEE_KEY=$(cat key) sluice rescue --data ./copy --rpc https://sepolia.base.org",
				"  $ sluice rescue --data ./copy --rpc https://a.example --rpc https://b.example --private-key-file key --relayer-key-file gas-key",
			].join("\n"),
		)
		.action((options: SettlementOptions) => runCommand(options, (run) => rescue(run, options)));
}
