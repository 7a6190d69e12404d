/** Where the payer's commands take its key from. */
import { type Command, Option } from "commander";
import { addKeyTrap, type CommonOptions } from "./command.ts";

export const PAYER_KEY_VARIABLE = "SLUICE_PAYER_KEY";
export const PASSPHRASE_VARIABLE = "SLUICE_PASSPHRASE";

export type PassphraseOptions = Readonly<{ passphraseEnv?: string; passphraseFile?: string; passphrase?: unknown }>;

export type PayerKeyOptions = CommonOptions &
	PassphraseOptions &
	Readonly<{ privateKeyEnv?: string; privateKeyFile?: string; keystore?: string }>;

export function addPayerKeyOptions(command: Command): Command {
	addKeyTrap(command);
	command
		.option("--private-key-env <name>", `the variable with the payer's key (default: ${PAYER_KEY_VARIABLE})`)
		.addOption(
			new Option("--private-key-file <file>", "the file with the payer's key, which only its owner may read").conflicts(
				"privateKeyEnv",
			),
		)
		.addOption(
			new Option(
				"--keystore <file>",
				"the payer's key, encrypted (default: keystore.json in the wallet, where no variable has a key)",
			).conflicts(["privateKeyEnv", "privateKeyFile"]),
		);
	return addPassphraseOptions(command);
}

/** Where the passphrase of a keystore is, unless it is asked for on the terminal. */
export function addPassphraseOptions(command: Command): Command {
	return command
		.option(
			"--passphrase-env <name>",
			`the variable with the keystore's passphrase (default: ${PASSPHRASE_VARIABLE}); else it is asked for on the terminal`,
		)
		.addOption(new Option("--passphrase-file <file>", "the file with it").conflicts("passphraseEnv"))
		.addOption(new Option("--passphrase [passphrase]").hideHelp());
}
