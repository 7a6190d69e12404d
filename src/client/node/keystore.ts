/** Private keys that are encrypted with a passphrase: the Web3 Secret Storage Definition, version 3. */
import {
	createCipheriv,
	createDecipheriv,
	pbkdf2,
	randomBytes,
	randomUUID,
	scrypt,
	timingSafeEqual,
} from "node:crypto";
import { promisify } from "node:util";
import { scryptAsync } from "@noble/hashes/scrypt.js";
import { bytesToHex, type Hex, hexToBytes, keccak256 } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { z } from "zod";
import { parsePrivateKey, SignerError } from "./keys.ts";

/** Real ones take about 500 bytes. */
const MAX_TEXT_LENGTH = 65_536;

/** scrypt needs 128 * r * (n + p) bytes. The common n = 2^18 with r = 8 takes half of this. */
const MAX_SCRYPT_BYTES = 512 * 1024 * 1024;

/** What n * r * p may be: four times that of the common one, so a second or a few. */
const MAX_SCRYPT_WORK = 2 ** 23;

/** Rounds of PBKDF2: files have 2^18 of them, or a million. */
const MAX_ROUNDS = 10_000_000;

/** What is written: 128 MiB and about half a second for each guess. */
const WRITTEN_SCRYPT = { n: 2 ** 17, r: 8, p: 1 } as const;

const KEY_BYTES = 32;

const hex = (bytes: number) =>
	z.string().regex(new RegExp(`^(0x)?[0-9a-fA-F]{${2 * bytes}}$`), `must be ${bytes} bytes in hex`);
const salt = z.string().regex(/^(0x)?([0-9a-fA-F]{2}){1,256}$/, "must be 1 to 256 bytes in hex");
const positive = z.int().positive();
const dklen = z.literal(KEY_BYTES);

const cryptoMembers = {
	cipher: z.literal("aes-128-ctr"),
	cipherparams: z.object({ iv: hex(16) }),
	ciphertext: hex(KEY_BYTES),
	mac: hex(32),
};

const keystoreSchema = z.object({
	version: z.literal(3),
	address: hex(20).optional(),
	crypto: z.discriminatedUnion("kdf", [
		z.object({
			...cryptoMembers,
			kdf: z.literal("scrypt"),
			kdfparams: z.object({ n: positive, r: positive, p: positive, dklen, salt }),
		}),
		z.object({
			...cryptoMembers,
			kdf: z.literal("pbkdf2"),
			kdfparams: z.object({ c: positive, prf: z.literal("hmac-sha256"), dklen, salt }),
		}),
	]),
});

type Kdf = Pick<z.output<typeof keystoreSchema>["crypto"], "kdf" | "kdfparams">;

/** A keystore that can't be opened: `format`, `cost` (it would take too much memory or time), or `passphrase`. */
export class KeystoreError extends SignerError {
	override readonly name: string = "KeystoreError";
	override readonly code = "KEYSTORE";
	readonly fault: "format" | "cost" | "passphrase";
	constructor(fault: KeystoreError["fault"], detail: string) {
		super(`keystore: ${detail}`);
		this.fault = fault;
	}
}

/**
 * The private key of an encrypted keystore, version 3, by scrypt or PBKDF2. What a file asks for in memory and time is
 * bounded. The passphrase is taken as it is, in UTF-8.
 *
 * @throws KeystoreError; its message holds nothing of the file or the passphrase
 * @example
 * const account = privateKeyToAccount(await decryptKeystore(await readFile("agent.json", "utf8"), passphrase));
 */
export async function decryptKeystore(json: string, passphrase: string): Promise<Hex> {
	const { crypto, address } = parseKeystore(json);
	const derived = await derive(crypto as Kdf, passphrase);
	try {
		const ciphertext = bytesOf(crypto.ciphertext);
		if (!timingSafeEqual(macOf(derived, ciphertext), bytesOf(crypto.mac)))
			throw new KeystoreError("passphrase", "that is not its passphrase");
		const decipher = createDecipheriv("aes-128-ctr", derived.subarray(0, 16), bytesOf(crypto.cipherparams.iv));
		const key = parsePrivateKey(bytesToHex(decipher.update(ciphertext)), "the keystore");
		if (address !== undefined && privateKeyToAccount(key).address.toLowerCase() !== `0x${plain(address)}`)
			throw new KeystoreError("format", "its key is not that of its address");
		return key;
	} finally {
		derived.fill(0);
	}
}

/**
 * Encrypts a private key by scrypt and AES-128-CTR, as wallets and nodes read it.
 *
 * @returns the keystore as JSON, which holds the address in the clear
 * @throws SignerError when it is no private key
 * @example
 * await writeFile("agent.json", await encryptKeystore(generatePrivateKey(), passphrase), { mode: 0o600, flag: "wx" });
 */
export async function encryptKeystore(privateKey: Hex, passphrase: string): Promise<string> {
	const key = parsePrivateKey(privateKey, "the argument");
	const kdf = {
		kdf: "scrypt",
		kdfparams: { ...WRITTEN_SCRYPT, dklen: KEY_BYTES, salt: randomBytes(32).toString("hex") },
	} as const;
	const iv = randomBytes(16);
	const derived = await derive(kdf, passphrase);
	try {
		const ciphertext = createCipheriv("aes-128-ctr", derived.subarray(0, 16), iv).update(hexToBytes(key));
		return JSON.stringify({
			version: 3,
			id: randomUUID(),
			address: plain(privateKeyToAccount(key).address),
			crypto: {
				cipher: "aes-128-ctr",
				cipherparams: { iv: iv.toString("hex") },
				ciphertext: ciphertext.toString("hex"),
				...kdf,
				mac: Buffer.from(macOf(derived, ciphertext)).toString("hex"),
			},
		});
	} finally {
		derived.fill(0);
	}
}

/** The address that a keystore says it has the key of, without opening it; `undefined` where it says none. Lowercase. */
export function keystoreAddress(json: string): Hex | undefined {
	const { address } = parseKeystore(json);
	return address === undefined ? undefined : `0x${plain(address)}`;
}

function parseKeystore(json: string): z.output<typeof keystoreSchema> {
	const parsed = keystoreSchema.safeParse(json.length > MAX_TEXT_LENGTH ? undefined : jsonOf(json));
	if (parsed.success) return parsed.data;
	const [issue] = parsed.error.issues;
	// zod's own words for a wrong literal name what was expected, never what is there.
	const detail = issue === undefined || issue.path.length === 0 ? "" : `: ${issue.path.join(".")} ${issue.message}`;
	throw new KeystoreError("format", `this is no Web3 Secret Storage file of version 3${detail}`);
}

/** Old files write `Crypto`. */
function jsonOf(json: string): unknown {
	try {
		const value = JSON.parse(json);
		return value?.crypto === undefined && value?.Crypto !== undefined ? { ...value, crypto: value.Crypto } : value;
	} catch {
		return undefined;
	}
}

async function derive({ kdf, kdfparams }: Kdf, passphrase: string): Promise<Buffer> {
	const salted = bytesOf(kdfparams.salt);
	if ("c" in kdfparams) {
		const { c } = kdfparams;
		if (c > MAX_ROUNDS) throw new KeystoreError("cost", `${c} rounds of ${kdf} are more than ${MAX_ROUNDS}`);
		return promisify(pbkdf2)(passphrase, salted, c, KEY_BYTES, "sha256");
	}
	const { n, r, p } = kdfparams;
	const bytes = 128 * r * (n + p);
	if (n < 2 || !Number.isInteger(Math.log2(n)))
		throw new KeystoreError("format", "the n of its scrypt is no power of 2");
	if (bytes > MAX_SCRYPT_BYTES || n * r * p > MAX_SCRYPT_WORK)
		throw new KeystoreError("cost", `scrypt with n ${n}, r ${r} and p ${p} takes more memory or time than is allowed`);
	// RFC 7914 allows an n below 2^(16 * r) alone, and OpenSSL heeds that; the definition's own test vector does not.
	if (n >= 2 ** (16 * r)) return Buffer.from(await scryptAsync(passphrase, salted, { N: n, r, p, dkLen: KEY_BYTES }));
	return new Promise((resolve, reject) =>
		scrypt(passphrase, salted, KEY_BYTES, { N: n, r, p, maxmem: 2 * MAX_SCRYPT_BYTES }, (error, derived) =>
			error === null ? resolve(derived) : reject(error),
		),
	);
}

function macOf(derived: Uint8Array, ciphertext: Uint8Array): Uint8Array {
	return keccak256(Buffer.concat([derived.subarray(16, 32), ciphertext]), "bytes");
}

function bytesOf(text: string): Uint8Array {
	return Buffer.from(plain(text), "hex");
}

function plain(text: string): string {
	return text.replace(/^0x/i, "").toLowerCase();
}
