import fc from "fast-check";
import { hexToBytes } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { describe, expect, it } from "vitest";
import { loadCrypto } from "../../src/server/crypto.ts";
import { keccak256, parseSignature, portableSecp256k1 } from "../../src/voucher/index.ts";

describe("the server's arithmetic", () => {
	it("hashes as the portable one does, each result an array of its own", async () => {
		const fast = await loadCrypto();
		fc.assert(
			fc.property(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ maxLength: 300 }), (a, b) => {
				const first = fast.keccak256(a);
				const second = fast.keccak256(b);
				expect([first, second]).toEqual([keccak256(a), keccak256(b)]);
			}),
		);
	});

	it("recovers the keys that the portable one does, and none where that one finds none", async () => {
		const { secp256k1 } = await loadCrypto();
		const account = privateKeyToAccount(generatePrivateKey());
		const { compact, recovery } = parseSignature(await account.sign({ hash: `0x${"11".repeat(32)}` }));
		const digest = hexToBytes(`0x${"11".repeat(32)}`);
		expect(secp256k1.recover(compact, recovery, digest)).toEqual(portableSecp256k1.recover(compact, recovery, digest));
		fc.assert(
			fc.property(fc.uint8Array({ minLength: 64, maxLength: 64 }), fc.constantFrom<0 | 1>(0, 1), (random, bit) => {
				random[32] = 1; // a low s, as `parseSignature` lets through
				const expected = portableSecp256k1.recover(random, bit, digest);
				expect(secp256k1.recover(random, bit, digest)).toEqual(expected);
			}),
		);
	});
});
