/** Where the payer's commands take its key from. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Command, Option } from "commander";
import { readSecretFile } from "../../client/node/keys.ts";
import { decryptKeystore } from "../../client/node/keystore.ts";
import { askSecret } from "./askSecret.ts";
import { addKeyTrap, type CommonOptions, type Run } from "./command.ts";
import { UsageError } from "./exit.ts";
import { type KeyPlace, readSigner, refuseKeyAsName, type Signer, SignerError, signerOf } from "./signer.ts";

export const PAYER_KEY_VARIABLE = "SLUICE_PAYER_KEY";
export const PASSPHRASE_VARIABLE = "SLUICE_PASSPHRASE";

/** The payer's encrypted key in the folder of its wallet, as `sluice wallet new` makes it. */
export const KEYSTORE_NAME = "keystore.json";

/** A shorter one can't be struck out of every text without striking out much else. */
const SHORTEST_HIDDEN = 8;

const PAYER: KeyPlace = {
	owner: "payer",
	variable: PAYER_KEY_VARIABLE,
	fileOption: "--private-key-file",
	readText: readSecretFile,
};

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
				`the payer's key, encrypted (default: ${KEYSTORE_NAME} in the wallet, where no variable has a key)`,
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
		.addOption(
			new Option("--passphrase-file <file>", "the file with it, which only its owner may read").conflicts(
				"passphraseEnv",
			),
		)
		.addOption(new Option("--passphrase [passphrase]").hideHelp());
}

/**
 * The payer's account: by the option that says where its key is, else by the variable, else by the keystore in the wallet. The
 * key is hidden from every output from then on.
 *
 * @throws SignerError; UsageError when there is none
 */
export async function readPayerKey(run: Run, options: PayerKeyOptions, folder: string): Promise<Signer> {
	const plain = await readPlainKey(run, options);
	if (plain !== undefined) return plain;
	const text = await readKeystore(options.keystore, folder);
	const passphrase = await readPassphrase(run, options, () => askSecret("passphrase of the keystore", PASSPHRASE_HINT));
	const key = await decryptKeystore(text, passphrase);
	run.hide(key);
	return signerOf(key);
}

/**
 * The payer's account where its key is not encrypted: by the option that says where it is, else by the variable. `undefined`
 * where a keystore was named, or there is none.
 *
 * @throws SignerError
 */
export async function readPlainKey(run: Run, options: PayerKeyOptions): Promise<Signer | undefined> {
	const { privateKeyEnv: env, privateKeyFile: file, keystore } = options;
	refuseTyped(options);
	const plain = keystore === undefined ? await readSigner({ env, file }, PAYER, run.env) : undefined;
	if (plain !== undefined) run.hide(plain.key);
	return plain;
}

/** The same, only where an option says where the key is. */
export async function readNamedKey(run: Run, options: PayerKeyOptions): Promise<Signer | undefined> {
	const { privateKeyEnv: env, privateKeyFile: file } = options;
	refuseTyped(options);
	const isNamed = env !== undefined || file !== undefined;
	const named = isNamed ? await readSigner({ env, file }, PAYER, run.env) : undefined;
	if (named !== undefined) run.hide(named.key);
	return named;
}

/** The text of the keystore that the options name, or that is in the wallet. */
export async function readKeystore(keystore: string | undefined, folder: string): Promise<string> {
	const path = keystore ?? join(folder, KEYSTORE_NAME);
	try {
		return await readFile(path, "utf8");
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "ENOENT" && keystore === undefined)
			throw new UsageError(
				`there is no key to pay with: \`sluice wallet new\` makes one; or put one in the variable ${PAYER_KEY_VARIABLE}, or name its place (--private-key-env, --private-key-file, --keystore)`,
			);
		throw new SignerError(`the keystore ${path} can't be read (${code}); fix its path or its permissions`);
	}
}

export const PASSPHRASE_HINT = `put the passphrase in the variable ${PASSPHRASE_VARIABLE}, or give --passphrase-env or --passphrase-file`;

/**
 * The passphrase of a keystore: out of the file or the variable that the options name, the default variable, or as it is
 * asked for. A last line break in a file is none of it. It is hidden from every output from then on.
 */
export async function readPassphrase(
	run: Run,
	{ passphraseEnv, passphraseFile }: PassphraseOptions,
	ask: () => Promise<string>,
): Promise<string> {
	const passphrase = await placed();
	if (passphrase.length >= SHORTEST_HIDDEN) run.hide(passphrase);
	return passphrase;

	async function placed(): Promise<string> {
		if (passphraseFile !== undefined)
			return (await readSecretFile(passphraseFile, "the file of --passphrase-file")).replace(/\r?\n$/, "");
		const found = run.env[passphraseEnv ?? PASSPHRASE_VARIABLE];
		if (found !== undefined && found !== "") return found;
		if (passphraseEnv !== undefined) throw new SignerError(`the environment variable ${passphraseEnv} is not set`);
		return ask();
	}
}

/** A secret itself where the name of its place belongs, which other programs could see. */
function refuseTyped(options: PayerKeyOptions): void {
	const { privateKeyEnv, privateKeyFile, keystore, passphrase, passphraseEnv, passphraseFile } = options;
	refuseKeyAsName(privateKeyEnv, privateKeyFile, keystore, passphraseEnv, passphraseFile);
	if (passphrase === undefined) return;
	throw new UsageError(
		`a passphrase is never taken from an argument, which other programs can see: take another one; ${PASSPHRASE_HINT}`,
	);
}
