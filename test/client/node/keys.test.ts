import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readKeyEnv, readKeyFile, SignerError } from "../../../src/client/node/keys.ts";
import { decryptKeystore, encryptKeystore, KeystoreError, keystoreAddress } from "../../../src/client/node/keystore.ts";

/** The test vectors of the Web3 Secret Storage Definition: one key, one passphrase. */
const SECRET = "0x7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
const PASSPHRASE = "testpassword";
const PBKDF2 = {
	crypto: {
		cipher: "aes-128-ctr",
		cipherparams: { iv: "6087dab2f9fdbbfaddc31a909735c1e6" },
		ciphertext: "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
		kdf: "pbkdf2",
		kdfparams: {
			c: 262_144,
			dklen: 32,
			prf: "hmac-sha256",
			salt: "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
		},
		mac: "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
	},
	id: "3198bc9c-6672-5ab3-d995-4942343ae5b6",
	version: 3,
};
const SCRYPT = {
	crypto: {
		cipher: "aes-128-ctr",
		cipherparams: { iv: "83dbcc02d8ccb40e466191a123791e0e" },
		ciphertext: "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
		kdf: "scrypt",
		kdfparams: {
			dklen: 32,
			n: 262_144,
			p: 8,
			r: 1,
			salt: "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
		},
		mac: "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
	},
	id: "3198bc9c-6672-5ab3-d995-4942343ae5b6",
	version: 3,
};

const isWindows = process.platform === "win32";
let folder: string;

beforeAll(async () => {
	folder = await mkdtemp(join(tmpdir(), "sluice-keys-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** What a promise rejects with. */
async function errorOf(promise: Promise<unknown>): Promise<Error> {
	try {
		await promise;
	} catch (error) {
		if (error instanceof Error) return error;
	}
	throw new Error("it did not reject");
}

describe("a key file", () => {
	async function keyFile(text: string, mode = 0o600): Promise<string> {
		const path = join(folder, `${crypto.randomUUID()}.key`);
		await writeFile(path, text);
		await chmod(path, mode);
		return path;
	}

	it("is read with or without 0x, whatever its case and the white space around it", async () => {
		const digits = generatePrivateKey().slice(2);
		for (const text of [digits, `0x${digits}`, ` 0x${digits.toUpperCase()}\n`])
			expect(await readKeyFile(await keyFile(text))).toBe(`0x${digits}`);
	});

	it.skipIf(isWindows)("is refused when others than its owner may read or write it", async () => {
		const key = generatePrivateKey();
		for (const mode of [0o640, 0o604, 0o620, 0o602]) {
			const error = await errorOf(readKeyFile(await keyFile(key, mode)));
			expect(error).toBeInstanceOf(SignerError);
			expect(error.message).toContain("chmod 600");
			expect(error.message).not.toContain(key.slice(2));
		}
	});

	it("is refused when it holds no key, and is not shown", async () => {
		for (const text of [
			"",
			"twelve words",
			"0x12",
			"f".repeat(64),
			"0".repeat(64),
			`${"ab".repeat(32)} ${"ab".repeat(32)}`,
		]) {
			const error = await errorOf(readKeyFile(await keyFile(text)));
			expect(error).toBeInstanceOf(SignerError);
			if (text.length > 1) expect(error.message).not.toContain(text);
		}
	});

	it("is refused when it is not there, or is a large one", async () => {
		expect((await errorOf(readKeyFile(join(folder, "none")))).message).toContain("ENOENT");
		expect((await errorOf(readKeyFile(await keyFile("a".repeat(100_000))))).message).toContain("another file");
	});
});

describe("a key in a variable", () => {
	it("is read, and said to be missing where it is", () => {
		const key = generatePrivateKey();
		expect(readKeyEnv("A_KEY", { A_KEY: key })).toBe(key);
		expect(() => readKeyEnv("A_KEY", {})).toThrow(SignerError);
		expect(() => readKeyEnv("A_KEY", { A_KEY: "x" })).toThrow("A_KEY holds no private key");
	});
});

describe("a keystore", () => {
	it.each([
		["PBKDF2", PBKDF2],
		["scrypt", SCRYPT],
	])("of the definition's test vector for %s is opened by its passphrase", async (_, vector) => {
		expect(await decryptKeystore(JSON.stringify(vector), PASSPHRASE)).toBe(SECRET);
	});

	it("is opened as old files are written, too", async () => {
		const { crypto, ...rest } = PBKDF2;
		expect(await decryptKeystore(JSON.stringify({ Crypto: crypto, ...rest }), PASSPHRASE)).toBe(SECRET);
	});

	it("is not opened by another passphrase, nor when a byte of it was changed", async () => {
		expect(await errorOf(decryptKeystore(JSON.stringify(PBKDF2), "testpasswort"))).toMatchObject({
			fault: "passphrase",
		});
		const ciphertext = PBKDF2.crypto.ciphertext.replace(/^5/, "6");
		const changed = { ...PBKDF2, crypto: { ...PBKDF2.crypto, ciphertext } };
		expect(await errorOf(decryptKeystore(JSON.stringify(changed), PASSPHRASE))).toMatchObject({ fault: "passphrase" });
	});

	it("is refused when its key is not that of the address it states", async () => {
		const wrong = { ...PBKDF2, address: "11".repeat(20) };
		expect(await errorOf(decryptKeystore(JSON.stringify(wrong), PASSPHRASE))).toMatchObject({ fault: "format" });
		const { address } = privateKeyToAccount(SECRET);
		expect(await decryptKeystore(JSON.stringify({ ...PBKDF2, address }), PASSPHRASE)).toBe(SECRET);
	});

	it("never makes anybody spend more memory or time than common ones take a few times over", async () => {
		const scrypt = (changes: object) => ({
			...SCRYPT,
			crypto: { ...SCRYPT.crypto, kdfparams: { ...SCRYPT.crypto.kdfparams, ...changes } },
		});
		const pbkdf2 = (changes: object) => ({
			...PBKDF2,
			crypto: { ...PBKDF2.crypto, kdfparams: { ...PBKDF2.crypto.kdfparams, ...changes } },
		});
		const dear = [scrypt({ n: 2 ** 30 }), scrypt({ p: 2 ** 20 }), scrypt({ r: 2 ** 20 }), pbkdf2({ c: 1e12 })];
		for (const file of dear)
			expect(await errorOf(decryptKeystore(JSON.stringify(file), PASSPHRASE))).toMatchObject({ fault: "cost" });
		const odd = [
			scrypt({ n: 262_143 }),
			scrypt({ n: 1 }),
			scrypt({ dklen: 64 }),
			scrypt({ salt: "00".repeat(1_000) }),
			pbkdf2({ prf: "hmac-md5" }),
			pbkdf2({ c: -1 }),
			{ ...SCRYPT, version: 4 },
			{ ...SCRYPT, crypto: { ...SCRYPT.crypto, cipher: "aes-128-cbc" } },
		];
		for (const file of odd)
			expect(await errorOf(decryptKeystore(JSON.stringify(file), PASSPHRASE))).toMatchObject({ fault: "format" });
	});

	it("is refused without being shown when it is none at all", async () => {
		for (const text of ["", "null", "[]", "{}", "a secret", JSON.stringify({ ...PBKDF2, id: "x".repeat(100_000) })]) {
			const error = await errorOf(decryptKeystore(text, PASSPHRASE));
			expect(error).toBeInstanceOf(KeystoreError);
			expect(error.message).not.toContain("a secret");
		}
	});

	it("that is made holds the address in the clear, the key not, and is opened again", async () => {
		const key = generatePrivateKey();
		const json = await encryptKeystore(key, "correct horse ✓");
		expect(json.toLowerCase()).not.toContain(key.slice(2));
		expect(keystoreAddress(json)).toBe(privateKeyToAccount(key).address.toLowerCase());
		expect(await decryptKeystore(json, "correct horse ✓")).toBe(key);
		expect(await errorOf(decryptKeystore(json, "correct horse"))).toMatchObject({ code: "KEYSTORE" });
		expect(await encryptKeystore(key, "correct horse ✓")).not.toBe(json);
	});
});
