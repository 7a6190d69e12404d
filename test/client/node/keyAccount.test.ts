/** That what signs natively signs what viem signs, and that nothing else changes with it. */
import { inspect } from "node:util";
import fc from "fast-check";
import { bytesToHex, type Hex, keccak256 as hashOf, recoverAddress } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { describe, expect, it } from "vitest";
import { signVoucherBy } from "../../../src/client/digestSigner.ts";
import { keyAccount } from "../../../src/client/node/index.ts";
import {
	loadKeccak256,
	type NativeCurve,
	nativeCurve,
	nodeKeccak256,
	soundCurve,
} from "../../../src/client/node/nativeCurve.ts";
import { createVoucherDomain, keccak256, parseSignature, signVoucher } from "../../../src/voucher/index.ts";

const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const KEY: Hex = `0x${"4c".repeat(32)}`;
const domain = createVoucherDomain(196, `0x${"e5".repeat(20)}`);

const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => bytesToHex(bytes));
const key = bytes32.filter((hex) => BigInt(hex) > 0n && BigInt(hex) < ORDER);
const amount = fc.bigInt({ min: 0n, max: 2n ** 128n - 1n });

const native = nativeCurve();
const curves: readonly (readonly [string, NativeCurve | undefined])[] = [
	...(native === undefined ? [] : [["libsecp256k1", native] as const]),
	["portable", undefined],
];

it("has the native library where its package is installed, as in every run of these tests", () => {
	expect(native).toBeDefined();
	expect(keyAccount(KEY).curve).toBe("libsecp256k1");
});

describe.each(curves)("an account that signs by %s", (curve, library) => {
	const accountOf = (secret: Hex) => keyAccount(secret, { native: library });
	const numRuns = library === undefined ? 30 : 150;

	it("says so, and has the address, the public key and the source of viem's", () => {
		const account = accountOf(KEY);
		const { address, publicKey, source, type } = privateKeyToAccount(KEY);
		expect(account).toMatchObject({ address, publicKey, source, type, curve });
	});

	it("signs each digest as viem does: deterministic, low s, v 27 or 28", async () => {
		// Of a digest that is no number below the order, which no hash will ever be, they take another nonce.
		const digest = bytes32.filter((hex) => BigInt(hex) < ORDER);
		await fc.assert(
			fc.asyncProperty(key, digest, async (secret, hash) => {
				const signature = await accountOf(secret).sign({ hash });
				expect(signature).toBe(await privateKeyToAccount(secret).sign({ hash }));
				expect(() => parseSignature(signature)).not.toThrow();
			}),
			{ numRuns },
		);
	});

	it("signs a digest above the order so that it is its own all the same", async () => {
		const hash: Hex = `0x${"ff".repeat(32)}`;
		const account = accountOf(KEY);
		expect(await recoverAddress({ hash, signature: await account.sign({ hash }) })).toBe(account.address);
	});

	it("signs each voucher as viem does, by its digest and by its typed data", async () => {
		await fc.assert(
			fc.asyncProperty(key, bytes32, amount, async (secret, channelId, cumulativeAmount) => {
				const voucher = { channelId, cumulativeAmount };
				const account = accountOf(secret);
				const expected = await signVoucher(privateKeyToAccount(secret), domain, voucher);
				expect(await signVoucherBy(account, domain, voucher)).toBe(expected);
				expect(await signVoucher(account, domain, voucher)).toBe(expected);
			}),
			{ numRuns: numRuns / 3 },
		);
	});

	it("signs messages and transactions as viem does", async () => {
		const [account, viems] = [accountOf(KEY), privateKeyToAccount(KEY)];
		const transaction = { type: "eip1559", chainId: 196, nonce: 1, gas: 21_000n, maxFeePerGas: 1n } as const;
		expect(await account.signMessage({ message: "hello" })).toBe(await viems.signMessage({ message: "hello" }));
		expect(await account.signTransaction(transaction)).toBe(await viems.signTransaction(transaction));
	});

	it("refuses what is no private key, and shows neither it nor a good one", () => {
		for (const wrong of [0n, ORDER, 2n ** 256n - 1n]) {
			const text: Hex = `0x${wrong.toString(16).padStart(64, "0")}`;
			const refused = { code: "SIGNER", message: expect.not.stringContaining(text.slice(2)) };
			expect(() => accountOf(text)).toThrow(expect.objectContaining(refused));
		}
		for (const wrong of ["0x", `${KEY}00`, KEY.slice(0, -2), "not a key"])
			expect(() => accountOf(wrong as Hex)).toThrow(expect.objectContaining({ code: "SIGNER" }));
		expect(inspect(accountOf(KEY), { depth: 9, showHidden: true })).not.toContain("4c4c4c4c");
	});

	it("is asked by typed data where somebody has put something around that", async () => {
		const asked: unknown[] = [];
		const account = accountOf(KEY);
		const wrapped = {
			...account,
			signTypedData: async (typedData: Parameters<typeof account.signTypedData>[0]) => {
				asked.push(typedData);
				return account.signTypedData(typedData);
			},
		} as typeof account;
		const voucher = { channelId: KEY, cumulativeAmount: 7n };
		expect(await signVoucherBy(wrapped, domain, voucher)).toBe(await signVoucherBy(account, domain, voucher));
		expect(asked).toMatchObject([{ primaryType: "Voucher", message: voucher }]);
	});

	it("signs no voucher that is none", async () => {
		const sign = (channelId: Hex, cumulativeAmount: bigint) =>
			signVoucherBy(accountOf(KEY), domain, { channelId, cumulativeAmount });
		await expect(sign(KEY, -1n)).rejects.toMatchObject({ code: "amount-out-of-range" });
		await expect(sign(KEY, 2n ** 128n)).rejects.toMatchObject({ code: "amount-out-of-range" });
		await expect(sign("0x12", 1n)).rejects.toMatchObject({ code: "field-format" });
	});
});

describe("the native library", () => {
	it("is not used where it is not there, can't be loaded, or signs something else", () => {
		const missing = () => {
			throw new Error("Cannot find module 'secp256k1/bindings.js'");
		};
		const signing = (signature: Uint8Array, recid: number) => () => ({ ecdsaSign: () => ({ signature, recid }) });
		expect(soundCurve(missing)).toBeUndefined();
		expect(soundCurve(() => ({}) as NativeCurve)).toBeUndefined();
		expect(soundCurve(signing(new Uint8Array(64), 0))).toBeUndefined();
		if (native === undefined) return;
		expect(soundCurve(() => native)).toBe(native);
		const ones = new Uint8Array(32).fill(1);
		const { signature, recid } = native.ecdsaSign(ones, ones);
		expect(soundCurve(signing(signature, 1 - recid))).toBeUndefined();
	});

	it("hashes as the portable hash does, before it is loaded and after", async () => {
		const same = (numRuns: number) =>
			fc.assert(
				fc.property(fc.uint8Array({ maxLength: 300 }), (message) => {
					expect(nodeKeccak256(message)).toEqual(keccak256(message));
					expect(bytesToHex(nodeKeccak256(message))).toBe(hashOf(message));
				}),
				{ numRuns },
			);
		same(20);
		await loadKeccak256();
		same(200);
		// Whoever keeps a hash keeps it.
		const first = nodeKeccak256(new Uint8Array([1]));
		nodeKeccak256(new Uint8Array([2]));
		expect(first).toEqual(keccak256(new Uint8Array([1])));
	});
});
