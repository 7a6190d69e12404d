import { readFile } from "node:fs/promises";
import type { Address, Hex, LocalAccount } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { looksLikeKey } from "./secrets.ts";

/** There is no usable private key. The message never holds one. */
export class SignerError extends Error {
	override readonly name = "SignerError";
	readonly code = "SIGNER";
}

/** Whose key is read, and where it is looked for unless something else is said. */
export type KeyPlace = Readonly<{
	/** As people call its owner: "deployer". */
	owner: string;
	/** The variable that holds it by default; without one, it is only read from where it is said to be. */
	variable?: string;
	/** The option that names a file, for messages. */
	fileOption: string;
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
	{ owner, variable, fileOption }: KeyPlace,
	env: NodeJS.ProcessEnv,
): Promise<Signer | undefined> {
	if (looksLikeKey(named ?? "") || looksLikeKey(file ?? "")) {
		throw new SignerError(
			"that looks like a private key, where the name of a variable or of a file belongs; other programs can see arguments, so take a new key",
		);
	}
	if (file !== undefined) {
		const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
			throw new SignerError(`the file of ${fileOption} can't be read (${error.code}); fix its path or its permissions`);
		});
		return signerOf(text, `the file of ${fileOption}`);
	}
	const name = named ?? variable;
	const text = name === undefined ? undefined : env[name];
	if (text !== undefined && text !== "") return signerOf(text, `the environment variable ${name}`);
	if (named === undefined) return undefined;
	throw new SignerError(`the environment variable ${name} is not set; put the ${owner}'s private key there`);
}

function signerOf(text: string, place: string): Signer {
	const [, digits] = text.trim().match(/^(?:0x)?([0-9a-fA-F]{64})$/) ?? [];
	if (digits === undefined) throw new SignerError(`${place} holds no private key: 64 hex digits, with or without 0x`);
	const key: Hex = `0x${digits}`;
	try {
		const account = privateKeyToAccount(key);
		return { key, account, address: account.address.toLowerCase() as Address };
	} catch {
		throw new SignerError(`${place} holds a number that is no private key of secp256k1`);
	}
}
