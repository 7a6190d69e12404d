/**
 * Makes `voucher.json`: everything a payer signs for a channel, computed with viem alone and nothing of ours, so
 * that the contract, the TypeScript and any other implementation can be held against a third one.
 *
 * Deterministic: fixed keys, fixed inputs, RFC 6979 signatures. Run it again after a change of the inputs:
 *
 *     node test/vectors/makeVoucherVectors.ts
 *
 * Source: draft-evm-session-00, "Channel State" (channelId), "Voucher Signing Format" (domain, digest),
 * "Front-Running Protection" (openNonce); EIP-3009 (receiveWithAuthorization).
 */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
	type Address,
	domainSeparator,
	encodeAbiParameters,
	type Hex,
	hashTypedData,
	keccak256,
	parseSignature,
	serializeSignature,
	type TypedDataDomain,
	toHex,
	zeroAddress,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";

/** Order of secp256k1; `n - s` turns a canonical signature into its high-s twin. */
const SECP256K1_N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

// The first three accounts of the mnemonic every development chain uses ("test test … junk"). Public: never fund them.
const PAYER_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const SIGNER_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const CONTRACT_KEY = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";

const TOKEN_DOMAIN = { name: "USD Coin", version: "2" };

const VOUCHER_TYPES = {
	Voucher: [
		{ name: "channelId", type: "bytes32" },
		{ name: "cumulativeAmount", type: "uint128" },
	],
} as const;

const RECEIVE_TYPES = {
	ReceiveWithAuthorization: [
		{ name: "from", type: "address" },
		{ name: "to", type: "address" },
		{ name: "value", type: "uint256" },
		{ name: "validAfter", type: "uint256" },
		{ name: "validBefore", type: "uint256" },
		{ name: "nonce", type: "bytes32" },
	],
} as const;

interface Input {
	/** What this vector is there to show. */
	name: string;
	chainId: number;
	escrow: Address;
	payerKey: Hex;
	payee: Address;
	token: Address;
	salt: Hex;
	/** Zero: the payer signs. */
	authorizedSigner: Address;
	signerKey: Hex;
	cumulativeAmount: bigint;
	deposit: bigint;
	validAfter: bigint;
	validBefore: bigint;
}

const account = (key: Hex): Address => privateKeyToAccount(key).address;

const INPUTS: Input[] = [
	{
		name: "the payer signs, development chain",
		chainId: 31337,
		escrow: "0x1000000000000000000000000000000000000001",
		payerKey: PAYER_KEY,
		payee: "0x2000000000000000000000000000000000000002",
		token: "0x3000000000000000000000000000000000000003",
		salt: toHex(1n, { size: 32 }),
		authorizedSigner: zeroAddress,
		signerKey: PAYER_KEY,
		cumulativeAmount: 250_000n,
		deposit: 5_000_000n,
		validAfter: 0n,
		validBefore: 2n ** 256n - 1n,
	},
	{
		name: "a delegated signer signs, X Layer",
		chainId: 196,
		escrow: "0x5fbdb2315678afecb367f032d93f642f64180aa3",
		payerKey: PAYER_KEY,
		payee: "0x742d35cc6634c0532925a3b844bc9e7595f8fe00",
		token: "0x74b7f16337b8972027f6196a17a631ac6de26d22",
		salt: keccak256(toHex("a delegated signer")),
		authorizedSigner: account(SIGNER_KEY),
		signerKey: SIGNER_KEY,
		cumulativeAmount: 3_750_100n,
		deposit: 5_000_000n,
		validAfter: 1_743_500_000n,
		validBefore: 1_943_523_500n,
	},
	{
		name: "the payer named as authorizedSigner is another channel than none named",
		chainId: 31337,
		escrow: "0x1000000000000000000000000000000000000001",
		payerKey: PAYER_KEY,
		payee: "0x2000000000000000000000000000000000000002",
		token: "0x3000000000000000000000000000000000000003",
		salt: toHex(1n, { size: 32 }),
		authorizedSigner: account(PAYER_KEY),
		signerKey: PAYER_KEY,
		cumulativeAmount: 250_000n,
		deposit: 5_000_000n,
		validAfter: 0n,
		validBefore: 2n ** 256n - 1n,
	},
	{
		name: "the first voucher of a channel, for nothing",
		chainId: 8453,
		escrow: "0xe7f1725e7734ce288f8367e1bb143e90bb3f0512",
		payerKey: CONTRACT_KEY,
		payee: "0x742d35cc6634c0532925a3b844bc9e7595f8fe00",
		token: "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
		salt: toHex(0n, { size: 32 }),
		authorizedSigner: zeroAddress,
		signerKey: CONTRACT_KEY,
		cumulativeAmount: 0n,
		deposit: 1n,
		validAfter: 1n,
		validBefore: 4_102_444_800n,
	},
	{
		name: "the whole of the largest deposit there can be, on a chain id beyond 32 bits",
		chainId: 5_000_000_007,
		escrow: "0xffffffffffffffffffffffffffffffffffffffff",
		payerKey: CONTRACT_KEY,
		payee: "0xfffffffffffffffffffffffffffffffffffffffe",
		token: "0xfffffffffffffffffffffffffffffffffffffffd",
		salt: toHex(2n ** 256n - 1n, { size: 32 }),
		authorizedSigner: account(SIGNER_KEY),
		signerKey: SIGNER_KEY,
		cumulativeAmount: 2n ** 128n - 1n,
		deposit: 2n ** 128n - 1n,
		validAfter: 0n,
		validBefore: 4_102_444_800n,
	},
];

async function makeVector(input: Input) {
	const payer = privateKeyToAccount(input.payerKey);
	const signer = privateKeyToAccount(input.signerKey);

	const channelId = keccak256(
		encodeAbiParameters(
			[
				{ type: "address" },
				{ type: "address" },
				{ type: "address" },
				{ type: "bytes32" },
				{ type: "address" },
				{ type: "address" },
				{ type: "uint256" },
			],
			[
				payer.address,
				input.payee,
				input.token,
				input.salt,
				input.authorizedSigner,
				input.escrow,
				BigInt(input.chainId),
			],
		),
	);
	const domain: TypedDataDomain = {
		name: "EVM Payment Channel",
		version: "1",
		chainId: input.chainId,
		verifyingContract: input.escrow,
	};
	const voucher = {
		domain,
		types: VOUCHER_TYPES,
		primaryType: "Voucher",
		message: { channelId, cumulativeAmount: input.cumulativeAmount },
	} as const;
	const signature = await signer.signTypedData(voucher);

	const openNonce = keccak256(
		encodeAbiParameters(
			[{ type: "address" }, { type: "address" }, { type: "address" }, { type: "bytes32" }, { type: "address" }],
			[payer.address, input.payee, input.token, input.salt, input.authorizedSigner],
		),
	);
	const tokenDomain: TypedDataDomain = { ...TOKEN_DOMAIN, chainId: input.chainId, verifyingContract: input.token };
	const receive = {
		domain: tokenDomain,
		types: RECEIVE_TYPES,
		primaryType: "ReceiveWithAuthorization",
		message: {
			from: payer.address,
			to: input.escrow,
			value: input.deposit,
			validAfter: input.validAfter,
			validBefore: input.validBefore,
			nonce: openNonce,
		},
	} as const;

	return {
		name: input.name,
		chainId: input.chainId,
		escrow: lower(input.escrow),
		payer: lower(payer.address),
		payerPrivateKey: input.payerKey,
		payee: lower(input.payee),
		token: lower(input.token),
		salt: input.salt,
		authorizedSigner: lower(input.authorizedSigner),
		channelId,
		cumulativeAmount: input.cumulativeAmount.toString(),
		domainSeparator: domainSeparator({ domain }),
		digest: hashTypedData(voucher),
		signer: lower(signer.address),
		privateKey: input.signerKey,
		signature,
		highSSignature: highSTwin(signature),
		openNonce,
		tokenDomain: TOKEN_DOMAIN,
		receiveWithAuthorization: {
			value: input.deposit.toString(),
			validAfter: input.validAfter.toString(),
			validBefore: input.validBefore.toString(),
			domainSeparator: domainSeparator({ domain: tokenDomain }),
			digest: hashTypedData(receive),
			signature: await payer.signTypedData(receive),
		},
	};
}

const lower = (address: Address): string => address.toLowerCase();

/** The same signature with `s` in the upper half of the curve's order: what every verifier must refuse. */
function highSTwin(signature: Hex): Hex {
	const { r, s, yParity } = parseSignature(signature);
	return serializeSignature({ r, s: toHex(SECP256K1_N - BigInt(s), { size: 32 }), yParity: 1 - yParity });
}

const file = {
	about:
		"Made by test/vectors/makeVoucherVectors.ts, which says what each field is. `privateKey` signs the voucher, `payerPrivateKey` the authorization; both are public development keys. `highSSignature` must be refused.",
	vectors: await Promise.all(INPUTS.map(makeVector)),
};
writeFileSync(fileURLToPath(new URL("voucher.json", import.meta.url)), `${JSON.stringify(file, null, "\t")}\n`);
