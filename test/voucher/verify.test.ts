import fc from "fast-check";
import { type Address, type Hex, hexToBytes, recoverAddress, toHex } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { describe, expect, it } from "vitest";
import {
	AmountOutOfRangeError,
	createVoucherDomain,
	createVoucherVerifier,
	FieldFormatError,
	keccak256,
	parseSignature,
	portableSecp256k1,
	type Secp256k1,
	signVoucher,
	type Voucher,
	voucherDigest,
} from "../../src/voucher/index.ts";
import {
	address,
	assemble,
	bytes32,
	chainId,
	firstVector,
	flip,
	ORDER,
	privateKey,
	uint,
	upper,
	vectors,
} from "./support.ts";

const vector = firstVector();
const domain = createVoucherDomain(vector.chainId, vector.escrow);
const voucher: Voucher = { channelId: vector.channelId, cumulativeAmount: BigInt(vector.cumulativeAmount) };
const { signer, signature } = vector;
const digest = hexToBytes(vector.digest);
const stranger: Address = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";

/** A verifier that has seen the vector's signer, and one that has seen nobody: verdicts may not differ. */
function bothVerifiers() {
	const warm = createVoucherVerifier();
	expect(warm.verifyDigest(signer, digest, signature)).toBe("valid");
	return { warm, cold: createVoucherVerifier() };
}

/** An r that is no point's x coordinate, so that no key can be recovered. */
function notOnCurve(): Hex {
	for (let r = 1n; ; r++) {
		const candidate = assemble(signature, { r });
		const { compact, recovery } = parseSignature(candidate);
		if (portableSecp256k1.recover(compact, recovery, digest) === undefined) return candidate;
	}
}

describe("a good signature", () => {
	it.each(vectors)("is valid, first and again: $name", (given) => {
		const verifier = createVoucherVerifier();
		const made = createVoucherDomain(given.chainId, given.escrow);
		const signed: Voucher = { channelId: given.channelId, cumulativeAmount: BigInt(given.cumulativeAmount) };
		for (let time = 0; time < 2; time++) {
			expect(verifier.verifyVoucher(made, given.signer, signed, given.signature)).toBe("valid");
			expect(verifier.verifyDigest(given.signer, hexToBytes(given.digest), given.signature)).toBe("valid");
		}
		expect(verifier.knownSigners).toBe(1);
	});

	it("is valid whatever the case of the signer's digits, and as parsed beforehand", () => {
		const verifier = createVoucherVerifier();
		expect(verifier.verifyDigest(upper(signer), digest, signature)).toBe("valid");
		expect(verifier.verifyDigest(signer, digest, parseSignature(signature))).toBe("valid");
		expect(verifier.knownSigners).toBe(1);
	});

	it("is valid for any key, domain and voucher, and for nobody else", async () => {
		await fc.assert(
			fc.asyncProperty(privateKey, chainId, address, bytes32, uint(128), async (key, id, escrow, channelId, amount) => {
				const account = privateKeyToAccount(key);
				const made = createVoucherDomain(id, escrow);
				const signed = { channelId, cumulativeAmount: amount };
				const proof = await signVoucher(account, made, signed);
				const verifier = createVoucherVerifier();
				expect(verifier.verifyVoucher(made, escrow, signed, proof)).toBe("signer-mismatch");
				expect(verifier.verifyVoucher(made, account.address, signed, proof)).toBe("valid");
				expect(verifier.verifyVoucher(made, account.address, signed, proof)).toBe("valid");
				expect(verifier.verifyVoucher(made, escrow, signed, proof)).toBe("signer-mismatch");
			}),
			{ numRuns: 50 },
		);
	});
});

describe("a signature over something else", () => {
	const others: [string, () => [typeof domain, Address, Voucher]][] = [
		["another chain", () => [createVoucherDomain(196, vector.escrow), signer, voucher]],
		["another escrow", () => [createVoucherDomain(vector.chainId, vector.payee), signer, voucher]],
		["another channel", () => [domain, signer, { ...voucher, channelId: toHex(1, { size: 32 }) }]],
		["one unit more", () => [domain, signer, { ...voucher, cumulativeAmount: voucher.cumulativeAmount + 1n }]],
		["one unit less", () => [domain, signer, { ...voucher, cumulativeAmount: voucher.cumulativeAmount - 1n }]],
		["another signer", () => [domain, stranger, voucher]],
		["the zero address as signer", () => [domain, `0x${"0".repeat(40)}`, voucher]],
	];
	it.each(others)("is a signer mismatch, whether the signer is known or not: %s", (_, other) => {
		const { warm, cold } = bothVerifiers();
		expect(warm.verifyVoucher(...other(), signature)).toBe("signer-mismatch");
		expect(cold.verifyVoucher(...other(), signature)).toBe("signer-mismatch");
		expect(cold.knownSigners).toBe(0);
		expect(warm.knownSigners).toBe(1);
	});
});

describe("a malleated signature", () => {
	const v = Number.parseInt(signature.slice(130), 16);
	it.each<[string, Hex]>([
		["high s", vector.highSSignature],
		["high s with v kept", assemble(vector.highSSignature, { v })],
		["v as 0 or 1", assemble(signature, { v: v - 27 })],
		["64 bytes", `0x${signature.slice(2, 130)}`],
		["a trailing byte", `${signature}00`],
		["r of zero", assemble(signature, { r: 0n })],
		["s of zero", assemble(signature, { s: 0n })],
		["r of the order", assemble(signature, { r: ORDER })],
		["s of the order", assemble(signature, { s: ORDER })],
		["r plus the order", assemble(signature, { r: 2n ** 256n - 1n })],
		["an r that is no point", notOnCurve()],
		["no hex", "0xzz"],
	])("is invalid, whether the signer is known or not: %s", (_, malleated) => {
		const { warm, cold } = bothVerifiers();
		expect(warm.verifyDigest(signer, digest, malleated)).toBe("invalid-signature");
		expect(cold.verifyDigest(signer, digest, malleated)).toBe("invalid-signature");
	});

	it("with the other v is refused from a known signer too, because the escrow would recover somebody else", async () => {
		const flipped = assemble(signature, { v: 55 - v });
		const { warm, cold } = bothVerifiers();
		expect(warm.verifyDigest(signer, digest, flipped)).toBe("signer-mismatch");
		expect(cold.verifyDigest(signer, digest, flipped)).toBe("signer-mismatch");
		expect((await recoverAddress({ hash: vector.digest, signature: flipped })).toLowerCase()).not.toBe(signer);
	});

	it("is never valid with any one of its 65 bytes changed", () => {
		const { warm, cold } = bothVerifiers();
		for (let index = 0; index < 65; index++) {
			for (const mask of [0x01, 0x80]) {
				expect(warm.verifyDigest(signer, digest, flip(signature, index, mask))).not.toBe("valid");
			}
		}
		fc.assert(
			fc.property(fc.nat(64), fc.integer({ min: 1, max: 255 }), (index, mask) => {
				const mutated = flip(signature, index, mask);
				const verdict = cold.verifyDigest(signer, digest, mutated);
				expect(verdict).not.toBe("valid");
				expect(warm.verifyDigest(signer, digest, mutated)).toBe(verdict);
			}),
		);
	});

	it("is never valid with any one byte of the digest changed", () => {
		const { warm } = bothVerifiers();
		fc.assert(
			fc.property(fc.nat(31), fc.integer({ min: 1, max: 255 }), (index, mask) => {
				const mutated = digest.with(index, (digest[index] ?? 0) ^ mask);
				expect(warm.verifyDigest(signer, mutated, signature)).toBe("signer-mismatch");
			}),
		);
	});
});

describe("the memory of known signers", () => {
	const keys = Array.from({ length: 5 }, (_, index) => toHex(index + 1, { size: 32 }));

	it("is bounded, and who was forgotten is still verified", async () => {
		const verifier = createVoucherVerifier({ cacheSize: 2 });
		for (let round = 0; round < 2; round++) {
			for (const key of keys) {
				const account = privateKeyToAccount(key);
				const proof = await signVoucher(account, domain, voucher);
				expect(verifier.verifyVoucher(domain, account.address, voucher, proof)).toBe("valid");
				expect(verifier.knownSigners).toBeLessThanOrEqual(2);
			}
		}
		expect(verifier.knownSigners).toBe(2);
	});

	it("learns only from a signature that is its signer's: a stranger can't put a key under a name", async () => {
		const verifier = createVoucherVerifier();
		const attacker = privateKeyToAccount(keys[0] ?? "0x");
		const forged = await signVoucher(attacker, domain, voucher);
		for (let attempt = 0; attempt < 3; attempt++) {
			expect(verifier.verifyVoucher(domain, signer, voucher, forged)).toBe("signer-mismatch");
		}
		expect(verifier.knownSigners).toBe(0);
		expect(verifier.verifyVoucher(domain, signer, voucher, signature)).toBe("valid");
		expect(verifier.verifyVoucher(domain, signer, voucher, forged)).toBe("signer-mismatch");
		expect(verifier.verifyVoucher(domain, signer, voucher, signature)).toBe("valid");
	});

	it("hashes a key to its address once, not for each signature", () => {
		const lengths: number[] = [];
		const verifier = createVoucherVerifier({
			keccak256: (message) => {
				lengths.push(message.length);
				return keccak256(message);
			},
		});
		for (let time = 0; time < 3; time++) {
			expect(verifier.verifyVoucher(domain, signer, voucher, signature)).toBe("valid");
		}
		expect(lengths).toEqual([96, 66, 64, 96, 66, 96, 66]);
	});

	it("keeps its own copy of a key: a curve may reuse its buffer", async () => {
		const buffer = new Uint8Array(65);
		const reusing: Secp256k1 = {
			recover(compact, recovery, hash) {
				const key = portableSecp256k1.recover(compact, recovery, hash);
				if (key === undefined) return undefined;
				buffer.set(key);
				return buffer;
			},
		};
		const verifier = createVoucherVerifier({ secp256k1: reusing });
		const forged = await signVoucher(privateKeyToAccount(keys[1] ?? "0x"), domain, voucher);
		expect(verifier.verifyVoucher(domain, signer, voucher, signature)).toBe("valid");
		expect(verifier.verifyVoucher(domain, signer, voucher, forged)).toBe("signer-mismatch");
		expect(verifier.verifyVoucher(domain, signer, voucher, signature)).toBe("valid");
	});

	it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])("can't have the size %d", (cacheSize) => {
		expect(() => createVoucherVerifier({ cacheSize })).toThrow(RangeError);
	});
});

describe("a verifier", () => {
	it("checks the form before it asks the curve", () => {
		const untouched: Secp256k1 = {
			recover: () => {
				throw new Error("asked");
			},
		};
		const verifier = createVoucherVerifier({ secp256k1: untouched });
		expect(verifier.verifyDigest(signer, digest, vector.highSSignature)).toBe("invalid-signature");
		expect(() => verifier.verifyDigest(signer, digest, signature)).toThrow("asked");
	});

	it("is not satisfied by a curve that recovers nothing", () => {
		const blind = createVoucherVerifier({ secp256k1: { recover: () => undefined } });
		expect(blind.verifyDigest(signer, digest, signature)).toBe("invalid-signature");
		const empty = createVoucherVerifier({ secp256k1: { recover: () => new Uint8Array(0) } });
		expect(empty.verifyDigest(signer, digest, signature)).toBe("signer-mismatch");
		expect(empty.knownSigners).toBe(0);
	});

	it("throws for its caller's mistakes: a malformed signer, digest, channelId or amount", () => {
		const verifier = createVoucherVerifier();
		expect(() => verifier.verifyDigest("0x12", digest, signature)).toThrow(FieldFormatError);
		expect(() => verifier.verifyDigest(signer, digest.subarray(1), signature)).toThrow(FieldFormatError);
		expect(() => verifier.verifyVoucher(domain, signer, { ...voucher, channelId: "0x" }, signature)).toThrow(
			FieldFormatError,
		);
		expect(() =>
			verifier.verifyVoucher(domain, signer, { ...voucher, cumulativeAmount: 2n ** 128n }, signature),
		).toThrow(AmountOutOfRangeError);
	});

	it("gives the same verdict for the digest and for the voucher it is of", () => {
		const verifier = createVoucherVerifier();
		const other = { ...voucher, cumulativeAmount: 0n };
		for (const given of [voucher, other]) {
			expect(verifier.verifyVoucher(domain, signer, given, signature)).toBe(
				verifier.verifyDigest(signer, voucherDigest(domain, given), signature),
			);
		}
	});
});
