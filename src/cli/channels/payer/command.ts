/** What only a payer can do with its channels. */
import { Command, Option } from "commander";
import type { Hex } from "viem";
import { parseSeconds } from "../../shared/arguments.ts";
import { addOutputOptions, addRpcOption, runCommand, tellWrongUsage } from "../../shared/command.ts";
import { help } from "../../shared/help.ts";
import { addWalletOption, type PayerOptions } from "../../shared/payer.ts";
import { addPayerKeyOptions } from "../../shared/payerKey.ts";
import { collectChannelIds } from "../ids.ts";
import { requestCloses } from "./requestClose.ts";
import { type WatchOptions, watchPayerChannels } from "./watch.ts";
import { type WithdrawOptions, withdrawRests } from "./withdraw.ts";

const WORK_EXIT_CODES = "0 done; 1 something failed; 2 wrong usage; 3 not done yet (run it again)";

export function requestCloseCommand(): Command {
	const command = new Command("request-close")
		.description(
			"A payer's: asks the escrow itself to close channels, by transactions of the payer's, which cost it gas. No server is needed. No voucher is signed for them from then on; after the grace period `withdraw` gets back what is not settled.",
		)
		.argument("<channelId...>", "the channels' ids", collectChannelIds);
	addSendingOptions(command);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help(
				WORK_EXIT_CODES,
				["sluice channels request-close 0x… --rpc https://sepolia.base.org"],
				"Running it again is safe, also after a crash: nothing is sent twice.",
			),
		)
		.action((channelIds: readonly Hex[], options: PayerOptions) =>
			runCommand(options, (run) => requestCloses(run, channelIds, options)),
		);
}

export function withdrawCommand(): Command {
	const command = new Command("withdraw")
		.description(
			"A payer's: waits for the end of the grace period, by the chain's clock, and gets back what is not settled, exactly deposit - settled. The wait can be broken off and run again at any time.",
		)
		.argument("<channelId...>", "the channels' ids", collectChannelIds);
	addSendingOptions(command);
	command.option("--no-wait", "ends at once where the grace period is not over");
	addPollOption(command, 5);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help(WORK_EXIT_CODES, [
				"sluice channels withdraw 0x… --rpc https://sepolia.base.org",
				"sluice channels withdraw 0x… --rpc https://sepolia.base.org --no-wait --json",
			]),
		)
		.action((channelIds: readonly Hex[], options: WithdrawOptions) =>
			runCommand(options, (run) => withdrawRests(run, channelIds, options)),
		);
}

export function watchCommand(): Command {
	const command = new Command("watch").description(
		"A payer's: tells what becomes of the wallet's channels on chain, one line each: settlements, requests to close, payouts, and above all more settled than was signed for, which no escrow that works lets happen. Needs no key.",
	);
	addWalletOption(command);
	addRpcOption(command, "the payer's own node, one or several for each chain");
	command.option("--once", "looks once, and ends");
	addPollOption(command, 15);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help("0 ended, 1 something impossible was told (with --once also: a node did not answer), 2 wrong usage", [
				"sluice channels watch --rpc https://sepolia.base.org",
				"sluice channels watch --rpc https://sepolia.base.org --once --json",
			]),
		)
		.action((options: WatchOptions) => runCommand(options, (run) => watchPayerChannels(run, options)));
}

function addSendingOptions(command: Command): void {
	addWalletOption(command);
	addRpcOption(command, "the payer's own node, one or several for each chain");
	addPayerKeyOptions(command);
}

function addPollOption(command: Command, defaultSeconds: number): void {
	command.addOption(
		new Option("--poll <seconds>", `how often the chain is asked (default: ${defaultSeconds})`).argParser(parseSeconds),
	);
}
