import { LRUCache } from "lru-cache";
import type { Address } from "viem";
import { type AbiValue, chainIdValue, encodeWords, utf8 } from "./bytes.ts";
import { type Keccak256, keccak256 } from "./keccak.ts";

/** EIP-712 name of the voucher domain (draft-evm-session-00, "Domain Separator"). */
export const VOUCHER_DOMAIN_NAME = "EVM Payment Channel";
/** EIP-712 version of the voucher domain (draft-evm-session-00, "Domain Separator"). */
export const VOUCHER_DOMAIN_VERSION = "1";

const DOMAIN_MEMBERS = [
	{ name: "name", type: "string" },
	{ name: "version", type: "string" },
	{ name: "chainId", type: "uint256" },
	{ name: "verifyingContract", type: "address" },
] as const;

/**
 * The type of the domain, for typed data whose name or version may be empty: without it, wallet libraries leave an
 * empty one out of the hash, which contracts never do. Internal.
 */
export const DOMAIN_TYPE = { EIP712Domain: DOMAIN_MEMBERS } as const;

const DOMAIN_TYPEHASH = keccak256(
	utf8(`EIP712Domain(${DOMAIN_MEMBERS.map(({ name, type }) => `${type} ${name}`).join(",")})`),
);

/** An EIP-712 domain with all four fields that vouchers and ERC-3009 tokens use, in the shape that wallets take. */
export interface TypedDataDomain {
	readonly name: string;
	readonly version: string;
	readonly chainId: number;
	readonly verifyingContract: Address;
}

/** Where vouchers are good: one escrow on one chain. Make it once per escrow; `separator` is its cached hash. */
export interface VoucherDomain {
	readonly chainId: number;
	/** The escrow contract, lowercase. */
	readonly escrow: Address;
	/** The EIP-712 domain separator, 32 bytes. Never write to it. */
	readonly separator: Uint8Array;
}

/**
 * The voucher domain of an escrow, with its separator computed.
 *
 * Source: draft-evm-session-00, "Domain Separator".
 *
 * @throws {FieldFormatError} for a malformed address or chain id.
 * @example
 * ```ts
 * const domain = createVoucherDomain(196, "0x5fbdb2315678afecb367f032d93f642f64180aa3");
 * ```
 */
export function createVoucherDomain(chainId: number, escrow: Address): VoucherDomain {
	const domain = { chainId, escrow: escrow.toLowerCase() as Address };
	return { ...domain, separator: domainSeparator(voucherTypedDataDomain(domain)) };
}

/**
 * The same domain as the object a wallet's `signTypedData` takes.
 *
 * @example
 * ```ts
 * const { name, version, chainId, verifyingContract } = voucherTypedDataDomain(domain);
 * ```
 */
export function voucherTypedDataDomain(domain: Pick<VoucherDomain, "chainId" | "escrow">): TypedDataDomain {
	return {
		name: VOUCHER_DOMAIN_NAME,
		version: VOUCHER_DOMAIN_VERSION,
		chainId: domain.chainId,
		verifyingContract: domain.escrow,
	};
}

/**
 * The EIP-712 separator of any domain of these four fields, a token's for example.
 *
 * @returns 32 bytes.
 * @throws {FieldFormatError} for a malformed address or chain id.
 * @example
 * ```ts
 * const separator = domainSeparator({ name: "USD Coin", version: "2", chainId: 8453, verifyingContract: token });
 * ```
 */
export function domainSeparator(domain: TypedDataDomain): Uint8Array {
	return hashStruct(DOMAIN_TYPEHASH, [
		{ type: "hash", value: keccak256(utf8(domain.name)) },
		{ type: "hash", value: keccak256(utf8(domain.version)) },
		{ type: "uint256", field: "chainId", value: chainIdValue(domain.chainId) },
		{ type: "address", field: "verifyingContract", value: domain.verifyingContract },
	]);
}

/** How many separators are remembered: a server takes a handful of tokens. */
const KNOWN_DOMAINS = 100;
const separators = new LRUCache<string, Uint8Array>({ max: KNOWN_DOMAINS });

/**
 * As `domainSeparator`, remembered: a token's takes three of the five hashes of an authorization's digest, and is the same each
 * time. The key is the whole domain, so that nothing can stand here for another one. Never write to what it returns. Internal.
 */
export function knownSeparator(domain: TypedDataDomain): Uint8Array {
	const { name, version, chainId, verifyingContract } = domain;
	const key = JSON.stringify([name, version, chainId, verifyingContract]);
	let separator = separators.get(key);
	if (separator === undefined) {
		separator = domainSeparator(domain);
		separators.set(key, separator);
	}
	return separator;
}

/** EIP-712 `hashStruct` of a struct without dynamic members. Internal. */
export function hashStruct(
	typehash: Uint8Array,
	members: readonly AbiValue[],
	hash: Keccak256 = keccak256,
): Uint8Array {
	return hash(encodeWords([{ type: "hash", value: typehash }, ...members]));
}

/** EIP-712 digest: `keccak256(0x19 0x01 || separator || structHash)`. Internal. */
export function signingHash(separator: Uint8Array, structHash: Uint8Array, hash: Keccak256 = keccak256): Uint8Array {
	const message = new Uint8Array(66);
	message.set([0x19, 0x01]);
	message.set(separator, 2);
	message.set(structHash, 34);
	return hash(message);
}
