import fc from "fast-check";
import { bytesToHex, type Hex, hashTypedData, toHex, domainSeparator as viemDomainSeparator } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { describe, expect, it } from "vitest";
import {
	AmountOutOfRangeError,
	createVoucherDomain,
	domainSeparator,
	FieldFormatError,
	keccak256,
	SignatureFormatError,
	signVoucher,
	UINT128_MAX,
	type Voucher,
	type VoucherDomain,
	voucherDigest,
	voucherTypedData,
	voucherTypedDataDomain,
} from "../../src/voucher/index.ts";
import {
	address,
	assemble,
	bytes32,
	chainId,
	firstVector,
	ORDER,
	tokenDomain,
	uint,
	upper,
	vectors,
} from "./support.ts";

// Spelled out here once more: the reference must not read the definitions it is to check.
const VOUCHER = {
	Voucher: [
		{ name: "channelId", type: "bytes32" },
		{ name: "cumulativeAmount", type: "uint128" },
	],
} as const;

function reference(domain: VoucherDomain, voucher: Voucher): Hex {
	return hashTypedData({
		domain: {
			name: "EVM Payment Channel",
			version: "1",
			chainId: domain.chainId,
			verifyingContract: domain.escrow,
		},
		types: VOUCHER,
		primaryType: "Voucher",
		message: { ...voucher },
	});
}

const domain = fc.tuple(chainId, address).map(([id, escrow]) => createVoucherDomain(id, escrow));
const voucher: fc.Arbitrary<Voucher> = fc.record({ channelId: bytes32, cumulativeAmount: uint(128) });

const vector = firstVector();
const vectorDomain = createVoucherDomain(vector.chainId, vector.escrow);
const vectorVoucher: Voucher = { channelId: vector.channelId, cumulativeAmount: BigInt(vector.cumulativeAmount) };

describe("the voucher domain", () => {
	it.each(vectors)("has the shared vector's separator: $name", ({ chainId, escrow, domainSeparator }) => {
		expect(bytesToHex(createVoucherDomain(chainId, escrow).separator)).toBe(domainSeparator);
	});

	it("has the separator that viem computes, for any chain and escrow", () => {
		fc.assert(
			fc.property(domain, (made) => {
				expect(bytesToHex(made.separator)).toBe(viemDomainSeparator({ domain: voucherTypedDataDomain(made) }));
			}),
		);
	});

	it("keeps the escrow in lowercase, whatever case it came in", () => {
		expect(createVoucherDomain(vector.chainId, upper(vector.escrow))).toEqual(vectorDomain);
	});

	it("is refused for a malformed escrow or chain id", () => {
		expect(() => createVoucherDomain(1, "0x1234")).toThrow(FieldFormatError);
		expect(() => createVoucherDomain(0, vector.escrow)).toThrow(FieldFormatError);
	});
});

describe("any four-field domain", () => {
	it("has the separator that viem computes, also with a name beyond ASCII", () => {
		fc.assert(
			fc.property(tokenDomain, (token) => {
				// viem leaves an empty version out; authorization.test.ts covers that case.
				fc.pre(token.version !== "");
				expect(bytesToHex(domainSeparator(token))).toBe(viemDomainSeparator({ domain: token }));
			}),
		);
	});
});

describe("the voucher digest", () => {
	it.each(vectors)("is the shared vector's: $name", (given) => {
		const made = createVoucherDomain(given.chainId, given.escrow);
		const { channelId } = given;
		const digest = voucherDigest(made, { channelId, cumulativeAmount: BigInt(given.cumulativeAmount) });
		expect(bytesToHex(digest)).toBe(given.digest);
	});

	it("is what viem's hashTypedData computes, for any domain and voucher", () => {
		fc.assert(
			fc.property(domain, voucher, (made, given) => {
				expect(bytesToHex(voucherDigest(made, given))).toBe(reference(made, given));
			}),
			{ numRuns: 300 },
		);
	});

	it("is the caller's own: a later one does not change it", () => {
		fc.assert(
			fc.property(domain, fc.array(voucher, { minLength: 2, maxLength: 8 }), (made, given) => {
				const digests = given.map((each) => voucherDigest(made, each));
				expect(digests.map((digest) => bytesToHex(digest))).toEqual(given.map((each) => reference(made, each)));
			}),
		);
	});

	it("is right when calls of several tasks over several domains interleave", async () => {
		const domains = [vectorDomain, createVoucherDomain(196, vector.payee), createVoucherDomain(8453, vector.token)];
		const task = async (number: number) => {
			for (let step = 0; step < 20; step++) {
				const made = domains[(number + step) % domains.length] ?? vectorDomain;
				const given: Voucher = {
					channelId: toHex(number * 1000 + step, { size: 32 }),
					cumulativeAmount: BigInt(number) << BigInt(step * 6),
				};
				const digest = voucherDigest(made, given);
				await new Promise((resolve) => setImmediate(resolve));
				expect(bytesToHex(digest)).toBe(reference(made, given));
			}
		};
		await Promise.all(Array.from({ length: 10 }, (_, number) => task(number)));
	});

	it("is right after a refused voucher", () => {
		expect(() => voucherDigest(vectorDomain, { channelId: "0x00", cumulativeAmount: 1n })).toThrow();
		expect(() => voucherDigest(vectorDomain, { ...vectorVoucher, cumulativeAmount: -1n })).toThrow();
		const half: Hex = `0x${"ab".repeat(31)}zz`;
		expect(() => voucherDigest(vectorDomain, { ...vectorVoucher, channelId: half })).toThrow();
		expect(bytesToHex(voucherDigest(vectorDomain, vectorVoucher))).toBe(vector.digest);
	});

	it.each([0n, 1n, UINT128_MAX])("takes the amount %d", (cumulativeAmount) => {
		const given = { ...vectorVoucher, cumulativeAmount };
		expect(bytesToHex(voucherDigest(vectorDomain, given))).toBe(reference(vectorDomain, given));
		expect(voucherTypedData(vectorDomain, given).message.cumulativeAmount).toBe(cumulativeAmount);
	});

	it.each([-1n, 2n ** 128n, 2n ** 256n, -(2n ** 128n)])("refuses the amount %d", async (cumulativeAmount) => {
		const given = { ...vectorVoucher, cumulativeAmount };
		const refusal = expect.objectContaining({
			code: "amount-out-of-range",
			field: "cumulativeAmount",
			value: cumulativeAmount,
			max: UINT128_MAX,
		});
		expect(() => voucherDigest(vectorDomain, given)).toThrow(AmountOutOfRangeError);
		expect(() => voucherDigest(vectorDomain, given)).toThrow(refusal);
		expect(() => voucherTypedData(vectorDomain, given)).toThrow(refusal);
		await expect(signVoucher(privateKeyToAccount(vector.privateKey), vectorDomain, given)).rejects.toThrow(refusal);
	});

	it.each(["0x", "0x12", vector.channelId.slice(2), `${vector.channelId}00`, `${vector.channelId.slice(0, 65)}g`])(
		"refuses the channelId %s",
		async (malformed) => {
			const given = { ...vectorVoucher, channelId: malformed as Hex };
			const refusal = expect.objectContaining({ code: "field-format", field: "channelId" });
			expect(() => voucherDigest(vectorDomain, given)).toThrow(refusal);
			expect(() => voucherTypedData(vectorDomain, given)).toThrow(refusal);
			await expect(signVoucher(privateKeyToAccount(vector.privateKey), vectorDomain, given)).rejects.toThrow(refusal);
		},
	);

	it("uses the hash it is given for both steps", () => {
		const lengths: number[] = [];
		const digest = voucherDigest(vectorDomain, vectorVoucher, (message) => {
			lengths.push(message.length);
			return keccak256(message);
		});
		expect(bytesToHex(digest)).toBe(vector.digest);
		expect(lengths).toEqual([96, 66]);
	});
});

describe("signing a voucher", () => {
	it.each(vectors)("gives the shared vector's signature: $name", async (given) => {
		const made = createVoucherDomain(given.chainId, given.escrow);
		const { channelId } = given;
		const signature = await signVoucher(privateKeyToAccount(given.privateKey), made, {
			channelId,
			cumulativeAmount: BigInt(given.cumulativeAmount),
		});
		expect(signature).toBe(given.signature);
	});

	const v = Number.parseInt(vector.signature.slice(130), 16);
	it.each<[string, Hex]>([
		["v as 0 or 1", assemble(vector.signature, { v: v - 27 })],
		["uppercase digits", upper(vector.signature)],
		["the high-s twin", vector.highSSignature],
		["the high-s twin with v as 0 or 1", assemble(vector.highSSignature, { v: 28 - v })],
	])("mends what a wallet returns: %s", async (_, returned) => {
		const wallet = { address: vector.signer, signTypedData: async () => returned };
		expect(await signVoucher(wallet, vectorDomain, vectorVoucher)).toBe(vector.signature);
	});

	it.each<[string, Hex]>([
		["nothing", "0x"],
		["64 bytes", `0x${vector.signature.slice(2, 130)}`],
		["a wrapped signature of a contract wallet", `${vector.signature}${"0".repeat(64)}`],
		["v of 29", assemble(vector.signature, { v: 29 })],
		["v of 2", assemble(vector.signature, { v: 2 })],
		["r beyond the order", assemble(vector.signature, { r: ORDER })],
	])("refuses what is no ECDSA signature from a wallet: %s", async (_, returned) => {
		const wallet = { address: vector.signer, signTypedData: async () => returned };
		await expect(signVoucher(wallet, vectorDomain, vectorVoucher)).rejects.toThrow(SignatureFormatError);
	});
});
