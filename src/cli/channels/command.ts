import { Command, Option } from "commander";
import type { Hex } from "viem";
import { parseAddress, parseAmount, parseChannelId, parseCount, parseSeconds } from "../shared/arguments.ts";
import { addDataOption, addOutputOptions, addRpcOption, runCommand, tellWrongUsage } from "../shared/command.ts";
import { addSettlementOptions } from "../shared/settlementOptions.ts";
import { type ExportOptions, exportChannels } from "./export.ts";
import { type ListOptions, listChannels } from "./list.ts";
import { bringIn, type SettleOptions } from "./settle.ts";
import { type ShowOptions, showChannel } from "./show.ts";

/** `sluice channels list | show | settle | close | export`. Exit codes as `EXIT` in ../shared/exit.ts. */
export function channelsCommand(): Command {
	return new Command("channels")
		.description("Looks at the channels of a server's store, settles and closes them.")
		.showHelpAfterError("(add --help for usage)")
		.exitOverride()
		.addCommand(listCommand())
		.addCommand(showCommand())
		.addCommand(settleCommand("settle"))
		.addCommand(settleCommand("close"))
		.addCommand(exportCommand());
}

function listCommand(): Command {
	const command = new Command("list").description(
		"Lists channels, also while the server runs: out of a copy of its store. Amounts in base units.",
	);
	addDataOption(command);
	command
		.option("--owed", "only those that owe something on chain, the highest value first")
		.option("--closing", "only those that are being closed, or whose payer has asked the chain to close")
		.addOption(new Option("--idle <seconds>", "only those without a request for that long").argParser(parseSeconds))
		.addOption(new Option("--payer <address>", "only those of this payer").argParser(parseAddress))
		.addOption(new Option("--token <address>", "only those in this token").argParser(parseAddress))
		.addOption(new Option("--limit <n>", "that many at most").argParser(parseCount));
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help("0 done, 1 failed, 2 wrong usage", [
				"sluice channels list --data ./channels --owed",
				"sluice channels list --data ./channels --json | jq .unsettled",
			]),
		)
		.action((options: ListOptions) => runCommand(options, (run) => listChannels(run, options)));
}

function showCommand(): Command {
	const command = new Command("show")
		.description(
			"Shows one channel: all but its voucher's signature, its transactions, its lines of the audit log; with --rpc also what the chain says now.",
		)
		.argument("<channelId>", "the channel's id", parseChannelId);
	addDataOption(command);
	addRpcOption(command, "without it the chain is not asked");
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help("0 done, 1 failed, 2 wrong usage", [
				"sluice channels show 0x… --data ./channels --rpc https://sepolia.base.org",
			]),
		)
		.action((channelId: Hex, options: ShowOptions) =>
			runCommand(options, (run) => showChannel(run, channelId, options)),
		);
}

function settleCommand(way: "settle" | "close"): Command {
	const command = new Command(way)
		.description(
			way === "settle"
				? "Settles channels: each by its highest voucher, many in one transaction. They stay open."
				: "Closes channels: each by its highest voucher; what is left of a deposit goes back to its payer.",
		)
		.argument("[channelId...]", "the channels' ids", (text: string, before: readonly Hex[] = []) => [
			...before,
			parseChannelId(text),
		])
		.option("--all", "all that owe something");
	addSettlementOptions(command);
	command
		.addOption(
			new Option(
				"--coin-price <amount>",
				"what one coin of the chain is worth in base units of the token: what costs more than a tenth of its value in gas is left alone",
			).argParser(parseAmount),
		)
		.option("--force", way === "settle" ? "whatever it costs" : "whatever it costs, and also those that owe nothing");
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help(
				"0 done, or nothing to do; 1 something failed; 2 wrong usage; 3 sent, but not mined in time (run it again)",
				[
					`sluice channels ${way} --all --data ./channels --rpc https://sepolia.base.org --dry-run`,
					`SLUICE_PAYEE_KEY=$(cat key) sluice channels ${way} 0x… --data ./channels --rpc https://sepolia.base.org`,
					`sluice channels ${way} --all --data ./channels --rpc https://sepolia.base.org --private-key-file key --relayer-key-file gas-key`,
				],
				"It needs the store for itself: stop the server first, or let the server settle by itself. A dry run works beside it.",
			),
		)
		.action((channelIds: readonly Hex[], options: SettleOptions) =>
			runCommand(options, (run) => bringIn(run, way, channelIds, options)),
		);
}

function exportCommand(): Command {
	const command = new Command("export").description(
		"Writes all channels out, also while the server runs. Amounts in base units, as decimal strings.",
	);
	addDataOption(command);
	command
		.addOption(new Option("--format <format>", "how").choices(["json", "csv"]).default("json"))
		.option("--audit", "the audit log as well; as CSV in place of the channels: one file has one table")
		.option("--with-vouchers", "each channel's highest voucher with its signature; wants to be confirmed")
		.option("--yes", "confirms that");
	return tellWrongUsage(command)
		.addHelpText(
			"after",
			help("0 done, 1 failed or something can't be read, 2 wrong usage", [
				"sluice channels export --data ./channels --format csv > channels.csv",
				"sluice channels export --data ./channels --format json --audit > books.json",
			]),
		)
		.action((options: ExportOptions) =>
			runCommand({ json: options.format === "json", table: true }, (run) => exportChannels(run, options)),
		);
}

function help(exitCodes: string, examples: readonly string[], more?: string): string {
	const lines = ["", `Exit codes: ${exitCodes}.`, ...(more === undefined ? [] : [more]), "", "Examples:"];
	return [...lines, ...examples.map((example) => `  $ ${example}`)].join("\n");
}
