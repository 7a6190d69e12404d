import fc from "fast-check";
import { bytesToHex, encodeAbiParameters, type Hex, hashTypedData, keccak256, recoverAddress, stringToHex } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { describe, expect, it } from "vitest";
import { permit2DomainSeparator } from "../../deploy/permit2.ts";
import {
	AmountOutOfRangeError,
	CANONICAL_PERMIT2,
	type ChannelPermit,
	channelPermitDigest,
	channelPermitTypedData,
	createPermit2Domain,
	createVoucherVerifier,
	FieldFormatError,
	type PaymentPermit,
	paymentPermitDigest,
	paymentPermitTypedData,
	paymentWitnessHash,
	paymentWitnessTypeString,
	signChannelPermit,
	signPaymentPermit,
} from "../../src/voucher/index.ts";
import { address, bytes32, chainId, firstVector, uint, upper } from "./support.ts";

const account = privateKeyToAccount(firstVector().privateKey);
/** An account that can sign typed data and nothing else. */
const wallet = { address: account.address, signTypedData: account.signTypedData };

const permitted = fc.record({ token: address, amount: uint(256) });
const common = { spender: address, nonce: uint(256), deadline: uint(256) };
const openPermit: fc.Arbitrary<ChannelPermit> = fc.record({
	permitted,
	...common,
	witness: fc.record({ payee: address, salt: bytes32, authorizedSigner: address }),
});
const topUpPermit: fc.Arbitrary<ChannelPermit> = fc.record({
	permitted,
	...common,
	witness: fc.record({ channelId: bytes32 }),
});
const paymentPermit: fc.Arbitrary<PaymentPermit> = fc.record({
	permitted: fc.array(permitted, { minLength: 1, maxLength: 11 }),
	...common,
	witness: fc.record({ challengeHash: bytes32, externalId: fc.string({ unit: "grapheme" }) }),
});
const domains = fc.record({ chainId, permit2: address });

const TOKEN_PERMISSIONS = "TokenPermissions(address token,uint256 amount)";
// To the letter of draft-evm-charge-00, "Witness Data (Challenge Binding)".
const DRAFT_STRING =
	"PaymentWitness witness)PaymentWitness(bytes32 challengeHash, string externalId)TokenPermissions(address token,uint256 amount)";

/** What Permit2's `PermitHash.hashWithWitness` computes, by viem alone. */
function onChainStructHash(permit: PaymentPermit, witness: Hex, witnessTypeString: string): Hex {
	const typehash = keccak256(stringToHex(TOKEN_PERMISSIONS));
	const hashes = permit.permitted.map(({ token, amount }) =>
		keccak256(
			encodeAbiParameters([{ type: "bytes32" }, { type: "address" }, { type: "uint256" }], [typehash, token, amount]),
		),
	);
	const [only] = hashes;
	if (only === undefined) throw new Error("nothing is permitted");
	const batch = hashes.length > 1;
	const stub = batch
		? "PermitBatchWitnessTransferFrom(TokenPermissions[] permitted,address spender,uint256 nonce,uint256 deadline,"
		: "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";
	const tokens = batch ? keccak256(`0x${hashes.map((hash) => hash.slice(2)).join("")}`) : only;
	return keccak256(
		encodeAbiParameters(
			[
				{ type: "bytes32" },
				{ type: "bytes32" },
				{ type: "address" },
				{ type: "uint256" },
				{ type: "uint256" },
				{ type: "bytes32" },
			],
			[
				keccak256(stringToHex(stub + witnessTypeString)),
				tokens,
				permit.spender,
				permit.nonce,
				permit.deadline,
				witness,
			],
		),
	);
}

describe("the domain of Permit2", () => {
	it("is that of name, chain and contract, without a version", () => {
		fc.assert(
			fc.property(domains, ({ chainId, permit2 }) => {
				const domain = createPermit2Domain(chainId, permit2);
				expect(bytesToHex(domain.separator)).toBe(permit2DomainSeparator(permit2, chainId));
			}),
		);
	});

	it("takes addresses in any case, and holds them in lower case", () => {
		expect(createPermit2Domain(1, upper(CANONICAL_PERMIT2))).toEqual(createPermit2Domain(1, CANONICAL_PERMIT2));
		expect(createPermit2Domain(1, upper(CANONICAL_PERMIT2)).permit2).toBe(CANONICAL_PERMIT2);
	});

	it.each([0, -1, 1.5, Number.NaN, 2 ** 53])("refuses chain id %d", (id) => {
		expect(() => createPermit2Domain(id, CANONICAL_PERMIT2)).toThrow(FieldFormatError);
	});
});

describe("a deposit through Permit2", () => {
	it.each([
		["an opening", openPermit],
		["a top-up", topUpPermit],
	])("%s has the digest that wallets compute of its typed data", (_, arbitrary) => {
		fc.assert(
			fc.property(domains, arbitrary, ({ chainId, permit2 }, permit) => {
				const domain = createPermit2Domain(chainId, permit2);
				const typedData = channelPermitTypedData(domain, permit);
				expect(bytesToHex(channelPermitDigest(domain, permit))).toBe(
					hashTypedData(typedData as Parameters<typeof hashTypedData>[0]),
				);
			}),
		);
	});

	it("has another digest as soon as one of its fields is another", () => {
		const domain = createPermit2Domain(1, CANONICAL_PERMIT2);
		fc.assert(
			fc.property(openPermit, (permit) => {
				const changes: readonly ChannelPermit[] = [
					{ ...permit, permitted: { ...permit.permitted, amount: permit.permitted.amount ^ 1n } },
					{ ...permit, nonce: permit.nonce ^ 1n },
					{ ...permit, deadline: permit.deadline ^ 1n },
					{ ...permit, spender: CANONICAL_PERMIT2 },
					{ ...permit, witness: { channelId: `0x${"11".repeat(32)}` } },
				];
				const digests = [permit, ...changes].map((one) => bytesToHex(channelPermitDigest(domain, one)));
				expect(new Set(digests).size).toBe(digests.length);
				expect(channelPermitDigest(createPermit2Domain(2, CANONICAL_PERMIT2), permit)).not.toEqual(
					channelPermitDigest(domain, permit),
				);
			}),
		);
	});

	it("is signed so that the verifier takes it", async () => {
		const domain = createPermit2Domain(8453, CANONICAL_PERMIT2);
		const verifier = createVoucherVerifier();
		await fc.assert(
			fc.asyncProperty(fc.oneof(openPermit, topUpPermit), async (permit) => {
				const signature = await signChannelPermit(wallet, domain, permit);
				expect(verifier.verifyDigest(account.address, channelPermitDigest(domain, permit), signature)).toBe("valid");
			}),
			{ numRuns: 20 },
		);
	});

	it("is not signed when a field is malformed or too large", async () => {
		const domain = createPermit2Domain(1, CANONICAL_PERMIT2);
		const [permit] = fc.sample(openPermit, { numRuns: 1, seed: 1 });
		if (permit === undefined) throw new Error("no sample");
		const asked: unknown[] = [];
		const signer = {
			address: account.address,
			signTypedData: async (typedData: unknown) => {
				asked.push(typedData);
				return "0x" as const;
			},
		};
		const { permitted } = permit;
		const sign = (change: object) => signChannelPermit(signer, domain, { ...permit, ...change });
		await expect(sign({ spender: "0x12" })).rejects.toThrow(FieldFormatError);
		await expect(sign({ witness: { channelId: "0x12" } })).rejects.toThrow(FieldFormatError);
		await expect(sign({ permitted: { ...permitted, amount: 2n ** 256n } })).rejects.toThrow(AmountOutOfRangeError);
		await expect(sign({ nonce: -1n })).rejects.toThrow(AmountOutOfRangeError);
		expect(asked).toEqual([]);
	});
});

describe("a charge through Permit2", () => {
	const domain = createPermit2Domain(8453, CANONICAL_PERMIT2);

	it("has in the eip712 form the digest that wallets compute of its typed data, single and batch", () => {
		fc.assert(
			fc.property(domains, paymentPermit, ({ chainId, permit2 }, permit) => {
				const own = createPermit2Domain(chainId, permit2);
				expect(bytesToHex(paymentPermitDigest(own, permit, "eip712"))).toBe(
					hashTypedData(paymentPermitTypedData(own, permit) as Parameters<typeof hashTypedData>[0]),
				);
			}),
		);
	});

	it("has in the draft form the digest that Permit2 computes when it is given the draft's exact string", () => {
		expect(paymentWitnessTypeString("draft")).toBe(DRAFT_STRING);
		const witnessType = keccak256(stringToHex("PaymentWitness(bytes32 challengeHash, string externalId)"));
		fc.assert(
			fc.property(paymentPermit, (permit) => {
				const { challengeHash, externalId } = permit.witness;
				const witness = keccak256(
					encodeAbiParameters(
						[{ type: "bytes32" }, { type: "bytes32" }, { type: "bytes32" }],
						[witnessType, challengeHash, keccak256(stringToHex(externalId))],
					),
				);
				expect(paymentWitnessHash(permit.witness, "draft")).toBe(witness);
				const structHash = onChainStructHash(permit, witness, DRAFT_STRING);
				const digest = keccak256(`0x1901${bytesToHex(domain.separator).slice(2)}${structHash.slice(2)}`);
				expect(bytesToHex(paymentPermitDigest(domain, permit, "draft"))).toBe(digest);
			}),
		);
	});

	it("differs between the forms by the blank alone", () => {
		expect(paymentWitnessTypeString("eip712")).toBe(DRAFT_STRING.replace(", ", ","));
		fc.assert(
			fc.property(paymentPermit, (permit) => {
				const [draft, eip712] = (["draft", "eip712"] as const).map((form) => paymentPermitDigest(domain, permit, form));
				expect(draft).not.toEqual(eip712);
			}),
		);
	});

	it("counts the order of what is permitted", () => {
		const [one, other] = [
			{ token: CANONICAL_PERMIT2, amount: 1n },
			{ token: CANONICAL_PERMIT2, amount: 2n },
		];
		const [sample] = fc.sample(paymentPermit, { numRuns: 1, seed: 2 });
		if (sample === undefined || one === undefined || other === undefined) throw new Error("no sample");
		const digest = (permitted: PaymentPermit["permitted"]) =>
			bytesToHex(paymentPermitDigest(domain, { ...sample, permitted }, "draft"));
		const digests = [[one], [other], [one, one], [one, other], [other, one], [one, other, other]].map(digest);
		expect(new Set(digests).size).toBe(digests.length);
	});

	it("is signed in the draft form with a key at hand, and in the eip712 form by a wallet", async () => {
		await fc.assert(
			fc.asyncProperty(paymentPermit, async (permit) => {
				const signerOf = async (signature: Hex, form: "draft" | "eip712") =>
					recoverAddress({ hash: paymentPermitDigest(domain, permit, form), signature });
				expect(await signerOf(await signPaymentPermit(account, domain, permit), "draft")).toBe(account.address);
				expect(await signerOf(await signPaymentPermit(wallet, domain, permit), "eip712")).toBe(account.address);
				expect(await signerOf(await signPaymentPermit(wallet, domain, permit), "draft")).not.toBe(account.address);
			}),
			{ numRuns: 20 },
		);
	});

	it("is not signed when nothing is permitted, or a field is malformed or too large", async () => {
		const [permit] = fc.sample(paymentPermit, { numRuns: 1, seed: 1 });
		if (permit === undefined) throw new Error("no sample");
		const sign = (change: object) => signPaymentPermit(account, domain, { ...permit, ...change });
		await expect(sign({ permitted: [] })).rejects.toThrow(FieldFormatError);
		expect(() => paymentPermitTypedData(domain, { ...permit, permitted: [] })).toThrow(FieldFormatError);
		await expect(sign({ witness: { challengeHash: "0x", externalId: "" } })).rejects.toThrow(FieldFormatError);
		await expect(sign({ deadline: 2n ** 256n })).rejects.toThrow(AmountOutOfRangeError);
		for (const bad of [
			{ token: "0x1", amount: 1n },
			{ token: CANONICAL_PERMIT2, amount: -1n },
		] as const) {
			await expect(sign({ permitted: [bad] })).rejects.toMatchObject({ code: expect.any(String) });
			await expect(sign({ permitted: [...permit.permitted, bad] })).rejects.toMatchObject({ code: expect.any(String) });
		}
	});
});
