/** Private keys that Node programs are told of by a file or an environment variable, never by an argument. */
import { open } from "node:fs/promises";
import type { Hex } from "viem";
import { privateKeyToAccount } from "viem/accounts";

/** A key takes 66 characters; a file that holds much more is another one. */
const MAX_FILE_BYTES = 1_024;

/** Permissions of a file by which others than its owner can get at it. */
const OTHERS = 0o077;

/** There is no usable private key. The message never holds one. */
export class SignerError extends Error {
	override readonly name: string = "SignerError";
	readonly code: "SIGNER" | "KEYSTORE" = "SIGNER";
}

/**
 * The private key in a file that nobody but its owner may read: 64 hex digits, with or without `0x`. On Windows, whose
 * permissions are others, everything is read that can be.
 *
 * @param name - what messages call the file
 * @throws SignerError when it can't be read, others may read it, or it holds no key
 * @example
 * const account = privateKeyToAccount(await readKeyFile("/run/secrets/agent.key"));
 */
export async function readKeyFile(path: string, name = `the key file ${path}`): Promise<Hex> {
	return parsePrivateKey(await readSecretFile(path, name), name);
}

/**
 * The private key in an environment variable.
 *
 * @throws SignerError when it is not set, or holds no key
 * @example
 * const account = privateKeyToAccount(readKeyEnv("SLUICE_PAYER_KEY"));
 */
export function readKeyEnv(name: string, env: Readonly<Record<string, string | undefined>> = process.env): Hex {
	const text = env[name];
	if (text === undefined || text === "")
		throw new SignerError(`the environment variable ${name} is not set; put the private key there`);
	return parsePrivateKey(text, `the environment variable ${name}`);
}

/**
 * The text of a small file that nobody but its owner may read: a key, a passphrase. A pipe will do as well.
 *
 * @throws SignerError
 */
export async function readSecretFile(path: string, name: string): Promise<string> {
	try {
		const file = await open(path);
		try {
			// Of what was opened, not of what has its name by now.
			const { mode } = await file.stat();
			if (process.platform !== "win32" && (mode & OTHERS) !== 0)
				throw new SignerError(
					`others than its owner may read or write ${name}: chmod 600 it, and take a new key if they did`,
				);
			return await readBounded(file, name);
		} finally {
			await file.close();
		}
	} catch (error) {
		if (error instanceof SignerError) throw error;
		const { code = "UNKNOWN" } = error as NodeJS.ErrnoException;
		throw new SignerError(`${name} can't be read (${code}); fix its path or its permissions`);
	}
}

/**
 * Checks that a text is a private key of secp256k1.
 *
 * @param place - where it is from, for messages
 * @throws SignerError without the text
 */
export function parsePrivateKey(text: string, place: string): Hex {
	const [, digits] = text.trim().match(/^(?:0x)?([0-9a-fA-F]{64})$/) ?? [];
	if (digits === undefined) throw new SignerError(`${place} holds no private key: 64 hex digits, with or without 0x`);
	const key: Hex = `0x${digits.toLowerCase()}`;
	try {
		privateKeyToAccount(key);
		return key;
	} catch {
		throw new SignerError(`${place} holds a number that is no private key of secp256k1`);
	}
}

async function readBounded(file: Awaited<ReturnType<typeof open>>, name: string): Promise<string> {
	const bytes = Buffer.alloc(MAX_FILE_BYTES + 1);
	let length = 0;
	while (length < bytes.length) {
		const { bytesRead } = await file.read(bytes, length, bytes.length - length, null);
		if (bytesRead === 0) break;
		length += bytesRead;
	}
	try {
		if (length > MAX_FILE_BYTES)
			throw new SignerError(`${name} is larger than ${MAX_FILE_BYTES} bytes: it is another file`);
		return bytes.toString("utf8", 0, length);
	} finally {
		bytes.fill(0);
	}
}
