import { Command, Option } from "commander";
import { addKeyTrap, addOutputOptions, addRpcOption, runCommand, tellWrongUsage } from "../shared/command.ts";
import { EXIT_CODES, help } from "../shared/help.ts";
import { addPolicyOption, addWalletOption, type WalletOptions } from "../shared/payer.ts";
import { addPassphraseOptions, addPayerKeyOptions, KEYSTORE_NAME } from "../shared/payerKey.ts";
import { type AddressOptions, showAddress } from "./address.ts";
import { makeKeystore, type NewOptions } from "./new.ts";
import { pause, unpause } from "./pause.ts";
import { type ShowOptions, showWallet } from "./show.ts";

/** `sluice wallet [show] | new | address | pause | unpause`. Exit codes as `EXIT` in ../shared/exit.ts. */
export function walletCommand(): Command {
	return new Command("wallet")
		.description(
			"Looks after an agent's wallet: its key, what it holds, what it may still spend, and a stop for all of it.",
		)
		.showHelpAfterError("(add --help for usage)")
		.exitOverride()
		.addCommand(showCommand(), { isDefault: true })
		.addCommand(newCommand())
		.addCommand(addressCommand())
		.addCommand(pauseCommand())
		.addCommand(unpauseCommand());
}

function showCommand(): Command {
	const command = new Command("show").description(
		"Shows the wallet, also while agents use it: its address, channels, limits and what is counted by now; with --rpc also what it holds. Needs no passphrase.",
	);
	addWalletOption(command);
	addPolicyOption(command);
	addRpcOption(command, "without it no balance is asked for");
	addPayerKeyOptions(command);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help("0 done; 1 failed, or something could not be read; 2 wrong usage", [
				"sluice wallet --rpc https://sepolia.base.org",
				"sluice wallet show --json | jq .limits",
			]),
		)
		.action((options: ShowOptions) => runCommand(options, (run) => showWallet(run, options)));
}

function newCommand(): Command {
	const command = new Command("new").description(
		"Makes a new key and keeps it encrypted, in a file that wallets and nodes read as well (Web3 Secret Storage). The key is never shown. Asks for a passphrase, twice, where none is placed.",
	);
	addWalletOption(command);
	addKeyTrap(command);
	command
		.option(
			"--keystore <file>",
			`the file to make (default: ${KEYSTORE_NAME} in the wallet); one that is there is kept`,
		)
		.option("--private-key-env <name>", "encrypts the key in this variable, instead of a new one")
		.addOption(
			new Option("--private-key-file <file>", "encrypts the key in this file, which only its owner may read").conflicts(
				"privateKeyEnv",
			),
		);
	addPassphraseOptions(command);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText(
			"after",
			help(EXIT_CODES, [
				"sluice wallet new",
				"sluice wallet new --wallet ./agent --passphrase-file /run/secrets/passphrase",
			]),
		)
		.action((options: NewOptions) => runCommand(options, (run) => makeKeystore(run, options)));
}

function addressCommand(): Command {
	const command = new Command("address").description("Shows the payer's address alone. Needs no passphrase.");
	addWalletOption(command);
	addPayerKeyOptions(command);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText("after", help(EXIT_CODES, ["sluice wallet address"]))
		.action((options: AddressOptions) => runCommand(options, (run) => showAddress(run, options)));
}

function pauseCommand(): Command {
	const command = new Command("pause")
		.description(
			"Stops all spending of the wallet at once, for every process that uses it and across restarts. What is signed already stays good. Needs no key.",
		)
		.argument("[reason]", "what whoever is stopped is told", "paused by hand");
	addWalletOption(command);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText("after", help(EXIT_CODES, ['sluice wallet pause "an odd bill; ask Ada"', "sluice wallet unpause"]))
		.action((reason: string, options: WalletOptions) => runCommand(options, (run) => pause(run, reason, options)));
}

function unpauseCommand(): Command {
	const command = new Command("unpause").description("Lets the wallet's spending go on. Needs no key.");
	addWalletOption(command);
	return tellWrongUsage(addOutputOptions(command))
		.addHelpText("after", help(EXIT_CODES, ["sluice wallet unpause"]))
		.action((options: WalletOptions) => runCommand(options, (run) => unpause(run, options)));
}
