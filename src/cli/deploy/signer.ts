import { readFile } from "node:fs/promises";
import type { Account, Address, Hex } from "viem";
import { privateKeyToAccount, toAccount } from "viem/accounts";
import { looksLikeKey } from "./secrets.ts";

/** Where a private key is looked for unless something else is said. */
export const DEFAULT_KEY_VARIABLE = "SLUICE_DEPLOYER_KEY";

/** There is no usable private key. The message never holds one. */
export class SignerError extends Error {
	override readonly name = "SignerError";
	readonly code = "SIGNER";
}

/** An account, and the key that must be kept out of every text; none where the node signs. */
export type Signer = Readonly<{ account: Account; key?: Hex }>;

/**
 * The deployer's account, its key read from a file or an environment variable; or one that the node has the key of.
 *
 * @returns `undefined` when no place was named and the default variable is not set
 * @throws {SignerError}
 */
export async function readSigner(
	options: Readonly<{ privateKeyEnv?: string; privateKeyFile?: string; unlocked?: Address }>,
	env: NodeJS.ProcessEnv,
): Promise<Signer | undefined> {
	const { privateKeyEnv, privateKeyFile, unlocked } = options;
	if (unlocked !== undefined) return { account: toAccount(unlocked) };
	if (looksLikeKey(privateKeyEnv ?? "") || looksLikeKey(privateKeyFile ?? "")) {
		throw new SignerError(
			"that looks like a private key, where the name of a variable or of a file belongs; other programs can see arguments, so take a new key",
		);
	}
	if (privateKeyFile !== undefined) {
		const text = await readFile(privateKeyFile, "utf8").catch((error: NodeJS.ErrnoException) => {
			throw new SignerError(
				`the file of --private-key-file can't be read (${error.code}); fix its path or its permissions`,
			);
		});
		return signerOf(text, "the file of --private-key-file");
	}
	const name = privateKeyEnv ?? DEFAULT_KEY_VARIABLE;
	const text = env[name];
	if (text !== undefined && text !== "") return signerOf(text, `the environment variable ${name}`);
	if (privateKeyEnv === undefined) return undefined;
	throw new SignerError(`the environment variable ${name} is not set; put the deployer's private key there`);
}

function signerOf(text: string, place: string): Signer {
	const [, digits] = text.trim().match(/^(?:0x)?([0-9a-fA-F]{64})$/) ?? [];
	if (digits === undefined) throw new SignerError(`${place} holds no private key: 64 hex digits, with or without 0x`);
	const key: Hex = `0x${digits}`;
	try {
		return { key, account: privateKeyToAccount(key) };
	} catch {
		throw new SignerError(`${place} holds a number that is no private key of secp256k1`);
	}
}
