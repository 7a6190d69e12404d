import { Command, Option } from "commander";
import { parseChannelId, parseCount } from "../shared/arguments.ts";
import { addOutputOptions, runCommand, tellWrongUsage } from "../shared/command.ts";
import { EXIT_CODES, help } from "../shared/help.ts";
import { addPolicyOption, addWalletOption, type WalletOptions } from "../shared/payer.ts";
import { KINDS } from "./rows.ts";
import { type ExportOptions, exportReceipts, type ListOptions, listReceipts, showReceipt } from "./run.ts";

/** `sluice receipts [list] | show | export`. Needs no key. Exit codes as `EXIT` in ../shared/exit.ts. */
export function receiptsCommand(): Command {
	return new Command("receipts")
		.description("Looks at what an agent's wallet has paid, by the receipts of its servers. Needs no key.")
		.showHelpAfterError("(add --help for usage)")
		.exitOverride()
		.addCommand(listCommand(), { isDefault: true })
		.addCommand(showCommand())
		.addCommand(exportCommand());
}

function listCommand(): Command {
	const command = new Command("list").description(
		"Lists receipts, the newest first, also while agents use the wallet. Of a channel's vouchers the last one's is kept: it says what all of them came to.",
	);
	addFilters(command);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help(EXIT_CODES, ["sluice receipts --since 24h", "sluice receipts --host api.example.com --json | jq .totals"]),
		)
		.action((options: ListOptions) => runCommand(options, (run) => listReceipts(run, options)));
}

function showCommand(): Command {
	const command = new Command("show")
		.description("Shows all that is kept of a receipt: what was asked for, and what the server says it was paid.")
		.argument("<id>", "a channel, a transaction or a challenge; the beginning of its id is enough");
	addWalletOption(command);
	addPolicyOption(command);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help(EXIT_CODES, [
				"sluice receipts show 0x5a1b…",
				"sluice receipts show 0x5a1b… --json | jq .receipts[0].receipt",
			]),
		)
		.action((id: string, options: WalletOptions) => runCommand(options, (run) => showReceipt(run, id, options)));
}

function exportCommand(): Command {
	const command = new Command("export").description(
		"Writes receipts out; as JSON with the challenges that they answer, as evidence. Amounts in base units, as decimal strings.",
	);
	addFilters(command);
	command.addOption(new Option("--format <format>", "how").choices(["json", "csv"]).default("json"));
	return tellWrongUsage(command)
		.addHelpText("after", help(EXIT_CODES, ["sluice receipts export --format csv --since 2026-11-01 > receipts.csv"]))
		.action((options: ExportOptions) =>
			runCommand({ ...options, json: options.format === "json", table: options.format !== "json" }, (run) =>
				exportReceipts(run, options),
			),
		);
}

function addFilters(command: Command): void {
	addWalletOption(command);
	addPolicyOption(command);
	command
		.option("--host <host>", "only those of this host, on every port unless it names one")
		.option("--since <moment>", "only those from then on: 2026-11-26T08:00Z, or 30m, 24h, 7d ago")
		.addOption(new Option("--channel <channelId>", "only those of this channel").argParser(parseChannelId))
		.addOption(new Option("--kind <kind>", "only those of this kind").choices([...KINDS]))
		.addOption(new Option("--limit <n>", "that many at most, the newest").argParser(parseCount));
}
