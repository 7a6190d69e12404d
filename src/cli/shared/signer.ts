import { readFile } from "node:fs/promises";
import type { Address, Hex, LocalAccount } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { parsePrivateKey, SignerError } from "../../client/node/keys.ts";
import { looksLikeKey } from "./secrets.ts";

export { SignerError } from "../../client/node/keys.ts";

/** Whose key is read, and where it is looked for unless something else is said. */
export type KeyPlace = Readonly<{
	/** As people call its owner: "deployer". */
	owner: string;
	/** The variable that holds it by default; without one, it is only read from where it is said to be. */
	variable?: string;
	/** The option that names a file, for messages. */
	fileOption: string;
	/** How that file is read. Default: whoever may read it. */
	readText?: (path: string, name: string) => Promise<string>;
}>;

/** Where somebody says that the key is: the name of a variable, or of a file. */
export type KeySource = Readonly<{ env?: string | undefined; file?: string | undefined }>;

/** An account, and its key, which must be kept out of every text. */
export type Signer = Readonly<{ account: LocalAccount; key: Hex; address: Address }>;

/**
 * An account whose private key is read from a file or an environment variable.
 *
 * @returns `undefined` when no place was named and the default variable is not set
 * @throws {SignerError}
 * @example
 * ```ts
 * const place = { owner: "payee", variable: "SLUICE_PAYEE_KEY", fileOption: "--private-key-file" };
 * const signer = await readSigner({ file: "./payee.key" }, place, process.env);
 * ```
 */
export async function readSigner(
	{ env: named, file }: KeySource,
	{ owner, variable, fileOption, readText = readAnyFile }: KeyPlace,
	env: NodeJS.ProcessEnv,
): Promise<Signer | undefined> {
	refuseKeyAsName(named, file);
	if (file !== undefined) {
		const name = `the file of ${fileOption}`;
		return signerOf(parsePrivateKey(await readText(file, name), name));
	}
	const name = named ?? variable;
	const text = name === undefined ? undefined : env[name];
	if (text !== undefined && text !== "") return signerOf(parsePrivateKey(text, `the environment variable ${name}`));
	if (named === undefined) return undefined;
	throw new SignerError(`the environment variable ${name} is not set; put the ${owner}'s private key there`);
}

/** @throws {SignerError} when somebody gave the key where the name of its place belongs */
export function refuseKeyAsName(...names: readonly (string | undefined)[]): void {
	if (!names.some((name) => looksLikeKey(name ?? ""))) return;
	throw new SignerError(
		"that looks like a private key, where the name of a variable or of a file belongs; other programs can see arguments, so take a new key",
	);
}

export function signerOf(key: Hex): Signer {
	const account = privateKeyToAccount(key);
	return { key, account, address: account.address.toLowerCase() as Address };
}

async function readAnyFile(path: string, name: string): Promise<string> {
	return readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
		throw new SignerError(`${name} can't be read (${error.code}); fix its path or its permissions`);
	});
}
