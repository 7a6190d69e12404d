import { Command, Option } from "commander";
import type { Hex } from "viem";
import { parseAddress, parseAmount, parseChannelId, parseCount, parseSeconds } from "../shared/arguments.ts";
import { addOutputOptions, addRpcOption, runCommand, tellWrongUsage } from "../shared/command.ts";
import { UsageError } from "../shared/exit.ts";
import { EXIT_CODES, help } from "../shared/help.ts";
import { addPolicyOption, addWalletOption } from "../shared/payer.ts";
import { addPassphraseOptions, addPayerKeyOptions } from "../shared/payerKey.ts";
import { addSettlementOptions } from "../shared/settlementOptions.ts";
import { type ExportOptions, exportChannels } from "./export.ts";
import { collectChannelIds } from "./ids.ts";
import { type ListOptions, listChannels } from "./list.ts";
import { closePayerChannels, type PayerCloseOptions } from "./payer/close.ts";
import { requestCloseCommand, watchCommand, withdrawCommand } from "./payer/command.ts";
import { exportEvidence, type PayerExportOptions } from "./payer/export.ts";
import { listPayerChannels, type PayerListOptions } from "./payer/list.ts";
import { showPayerChannel } from "./payer/show.ts";
import { bringIn, type SettleOptions } from "./settle.ts";
import { type ShowOptions, showChannel } from "./show.ts";
import { addSideOptions, refuseOptions, sideOf } from "./side.ts";

/** What only says something about a server's channels, of `close`. */
const SERVER_CLOSE_OPTIONS = [
	...["chainId", "dryRun", "relayerKeyEnv", "relayerKeyFile", "minValue", "timeout", "coinPrice", "force"],
];

const OWN_STORE =
	"It needs the store for itself: stop the server first, or let the server settle by itself. A dry run works beside it.";

const PAYER_CLOSE =
	"With --wallet it asks the servers of the payer's channels; the key is the payer's then (SLUICE_PAYER_KEY), and no store is needed.";

/** What only says something about a payer's. */
const KEYSTORE_OPTIONS = ["keystore", "passphraseEnv", "passphraseFile"];
const KEY_OPTIONS = ["privateKeyEnv", "privateKeyFile", ...KEYSTORE_OPTIONS];

/**
 * `sluice channels list | show | settle | close | export` of a server, and `list | show | close | request-close | withdraw |
 * watch | export` of a payer. Exit codes as `EXIT` in ../shared/exit.ts.
 */
export function channelsCommand(): Command {
	return new Command("channels")
		.description(
			"Looks at channels, settles and closes them: a server's, in its store (--data), or a payer's, in its wallet (--wallet).",
		)
		.showHelpAfterError("(add --help for usage)")
		.exitOverride()
		.addCommand(listCommand())
		.addCommand(showCommand())
		.addCommand(settleCommand("settle"))
		.addCommand(settleCommand("close"))
		.addCommand(requestCloseCommand())
		.addCommand(withdrawCommand())
		.addCommand(watchCommand())
		.addCommand(exportCommand());
}

function listCommand(): Command {
	const command = new Command("list").description(
		"Lists channels: a server's, also while it runs, out of a copy of its store; or a payer's. Amounts in base units.",
	);
	addSideOptions(command);
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
			help(EXIT_CODES, [
				"sluice channels list --data ./channels --owed",
				"sluice channels list --data ./channels --json | jq .unsettled",
				"sluice channels list --wallet ./wallet",
			]),
		)
		.action((options: ListOptions & PayerListOptions, command: Command) =>
			runCommand(options, async (run) => {
				if (sideOf(command) === "server") return listChannels(run, options);
				refuseOptions(command, "payer", ["owed", "idle"]);
				return listPayerChannels(run, options);
			}),
		);
}

function showCommand(): Command {
	const command = new Command("show")
		.description(
			"Shows one channel: all but its voucher's signature, its transactions, its lines of the audit log or its receipts; with --rpc also what the chain says now.",
		)
		.argument("<channelId>", "the channel's id", parseChannelId);
	addSideOptions(command);
	addRpcOption(command, "without it the chain is not asked");
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help(EXIT_CODES, ["sluice channels show 0x… --data ./channels --rpc https://sepolia.base.org"]),
		)
		.action((channelId: Hex, options: ShowOptions, command: Command) =>
			runCommand(options, async (run) =>
				sideOf(command) === "server" ? showChannel(run, channelId, options) : showPayerChannel(run, channelId, options),
			),
		);
}

function settleCommand(way: "settle" | "close"): Command {
	const command = new Command(way)
		.description(
			way === "settle"
				? "Settles channels: each by its highest voucher, many in one transaction. They stay open."
				: "Closes channels. A server's each by its highest voucher; what is left of a deposit goes back to its payer. A payer's by their servers, with what was consumed.",
		)
		.argument("[channelId...]", "the channels' ids", collectChannelIds)
		.option(
			"--all",
			way === "settle" ? "all that owe something" : "all that owe something; of a payer all that are open",
		);
	addSettlementOptions(command, way === "close");
	if (way === "close") addKeystoreOptions(addPolicyOption(addWalletOption(command)));
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
				way === "settle" ? OWN_STORE : `${OWN_STORE}\n${PAYER_CLOSE}`,
			),
		)
		.action((channelIds: readonly Hex[], options: SettleOptions & PayerCloseOptions, command: Command) =>
			runCommand(options, async (run) => {
				if (way === "settle") return bringIn(run, way, channelIds, options);
				if (sideOf(command) === "payer") {
					refuseOptions(command, "payer", SERVER_CLOSE_OPTIONS);
					return closePayerChannels(run, channelIds, options);
				}
				refuseOptions(command, "server", ["policy", ...KEYSTORE_OPTIONS]);
				return bringIn(run, way, channelIds, options);
			}),
		);
}

function exportCommand(): Command {
	const command = new Command("export")
		.description(
			"Writes channels out. Of a server all of them, also while it runs; of a payer the evidence of each, for a dispute. Amounts in base units, as decimal strings.",
		)
		.argument(
			"[channelId...]",
			"of a payer: the channels' ids; one alone is one document (default: all)",
			collectChannelIds,
		);
	addSideOptions(command);
	addRpcOption(command, "of a payer: without it nothing of the chain is in it");
	addPayerKeyOptions(command);
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
				"sluice channels export 0x… --wallet ./wallet --rpc https://sepolia.base.org --with-vouchers --yes > evidence.json",
			]),
		)
		.action((channelIds: readonly Hex[], options: ExportOptions & PayerExportOptions, command: Command) => {
			const { rpc, privateKey, format } = options;
			const common = { json: format === "json", table: true, ...(rpc && { rpc }), privateKey };
			return runCommand(common, async (run) => {
				if (sideOf(command) === "server") {
					refuseOptions(command, "server", ["rpc", ...KEY_OPTIONS]);
					if (channelIds.length > 0) throw new UsageError("a server's channels are written out all at once: name none");
					return exportChannels(run, options);
				}
				refuseOptions(command, "payer", ["audit", "format"]);
				return exportEvidence(run, channelIds, options);
			});
		});
}

/** Where a keystore is; the other places of a key are options of both sides. */
function addKeystoreOptions(command: Command): Command {
	command.addOption(
		new Option("--keystore <file>", "of a payer: its key, encrypted").conflicts(["privateKeyEnv", "privateKeyFile"]),
	);
	return addPassphraseOptions(command);
}
