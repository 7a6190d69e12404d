/** Whose keys the operator's commands read, and from where. */
import { type Command, Option } from "commander";
import { addKeyTrap, type CommonOptions, type Run } from "./command.ts";
import { UsageError } from "./exit.ts";
import { type KeyPlace, readSigner, type Signer } from "./signer.ts";

export const PAYEE_KEY_VARIABLE = "SLUICE_PAYEE_KEY";

export type KeyOptions = CommonOptions &
	Readonly<{
		privateKeyEnv?: string;
		privateKeyFile?: string;
		relayerKeyEnv?: string;
		relayerKeyFile?: string;
		dryRun?: boolean;
	}>;

const PAYEE: KeyPlace = { owner: "payee", variable: PAYEE_KEY_VARIABLE, fileOption: "--private-key-file" };
const RELAYER: KeyPlace = { owner: "relayer", fileOption: "--relayer-key-file" };

export function addKeyOptions(command: Command): Command {
	addKeyTrap(command);
	return command
		.option("--private-key-env <name>", `the variable with the payee's key (default: ${PAYEE_KEY_VARIABLE})`)
		.addOption(new Option("--private-key-file <file>", "the file with the payee's key").conflicts("privateKeyEnv"))
		.option("--relayer-key-env <name>", "the variable with the key of another account, which pays the gas")
		.addOption(new Option("--relayer-key-file <file>", "the file with that key").conflicts("relayerKeyEnv"));
}

export type Keys = Readonly<{ payee?: Signer; relayer?: Signer }>;

/** The payee, and who pays the gas in its place, if anybody does. A dry run needs neither. */
export async function readKeys(
	run: Run,
	{ privateKeyEnv, privateKeyFile, relayerKeyEnv, relayerKeyFile, dryRun = false }: KeyOptions,
): Promise<Keys> {
	const payee = await readSigner({ env: privateKeyEnv, file: privateKeyFile }, PAYEE, run.env);
	const relayer = await readSigner({ env: relayerKeyEnv, file: relayerKeyFile }, RELAYER, run.env);
	for (const signer of [payee, relayer]) if (signer !== undefined) run.hide(signer.key);
	if (payee === undefined && !dryRun) {
		throw new UsageError(
			`there is no key to settle with: put the payee's in the variable ${PAYEE_KEY_VARIABLE}, or give --private-key-env or --private-key-file (--dry-run needs none)`,
		);
	}
	return { ...(payee && { payee }), ...(relayer && { relayer }) };
}
