/** What all Permit2 signatures of this project share. A deposit's is in `channelPermit.ts`, a charge's in `paymentPermit.ts`. */
import type { Address } from "viem";
import { type AbiValue, chainIdValue, utf8 } from "./bytes.ts";
import { hashStruct, signingHash } from "./domain.ts";
import { keccak256 } from "./keccak.ts";

/** Where Permit2 is on most chains (draft-evm-charge-00, "Terminology"). Lowercase. */
export const CANONICAL_PERMIT2: Address = "0x000000000022d473030f116ddee9f6b43ac78ba3";

/** Where Permit2 signatures are good: one Permit2 on one chain. Make it once; `separator` is its cached hash. */
export interface Permit2Domain {
	readonly chainId: number;
	/** The Permit2 contract, lowercase. */
	readonly permit2: Address;
	/** The EIP-712 domain separator, 32 bytes. Never write to it. */
	readonly separator: Uint8Array;
}

/** At most `amount` base units of `token`. */
export interface TokenPermissions {
	readonly token: Address;
	readonly amount: bigint;
}

/** What every permit says beside what is permitted and the witness. */
export interface Permit {
	/** Who alone may execute it. */
	readonly spender: Address;
	/** `uint256`, any value that the owner has not used; unordered. */
	readonly nonce: bigint;
	/** Unix seconds; executable until then, that second included. */
	readonly deadline: bigint;
}

const PERMIT2_NAME = "Permit2";
/** Internal: members of the domain, which unlike most has no version. */
export const DOMAIN_MEMBERS = [
	{ name: "name", type: "string" },
	{ name: "chainId", type: "uint256" },
	{ name: "verifyingContract", type: "address" },
] as const;
/** Internal. */
export const TOKEN_PERMISSIONS = [
	{ name: "token", type: "address" },
	{ name: "amount", type: "uint256" },
] as const;
/** Internal: members of the struct that is signed. */
export function permitMembers<const Permitted extends string, const Witness extends string>(
	permitted: Permitted,
	witness: Witness,
) {
	return [
		{ name: "permitted", type: permitted },
		{ name: "spender", type: "address" },
		{ name: "nonce", type: "uint256" },
		{ name: "deadline", type: "uint256" },
		{ name: "witness", type: witness },
	] as const;
}

interface Member {
	readonly name: string;
	readonly type: string;
}

/** Internal: a struct as `encodeType` writes it, or with another `separator` between the members. */
export function typeText(name: string, members: readonly Member[], separator = ","): string {
	return `${name}(${members.map((member) => `${member.type} ${member.name}`).join(separator)})`;
}

/** Internal. */
export function typehash(text: string): Uint8Array {
	return keccak256(utf8(text));
}

/** Internal. */
export const TOKEN_PERMISSIONS_TEXT = typeText("TokenPermissions", TOKEN_PERMISSIONS);
const TOKEN_PERMISSIONS_TYPEHASH = typehash(TOKEN_PERMISSIONS_TEXT);
const DOMAIN_TYPEHASH = typehash(typeText("EIP712Domain", DOMAIN_MEMBERS));

/**
 * The domain of Permit2 signatures, which unlike most has no version.
 *
 * Source: draft-evm-session-00, "Open Payload (feePayer: true)", Permit2 shape.
 *
 * @param permit2 - `methodDetails.permit2Contract` or `permit2Address`, and {@link CANONICAL_PERMIT2} where there is none.
 * @throws {FieldFormatError} for a malformed address or chain id.
 * @example
 * ```ts
 * const domain = createPermit2Domain(8453, CANONICAL_PERMIT2);
 * ```
 */
export function createPermit2Domain(chainId: number, permit2: Address): Permit2Domain {
	const separator = hashStruct(DOMAIN_TYPEHASH, [
		{ type: "hash", value: keccak256(utf8(PERMIT2_NAME)) },
		{ type: "uint256", field: "chainId", value: chainIdValue(chainId) },
		{ type: "address", field: "verifyingContract", value: permit2 },
	]);
	return { chainId, permit2: lowercase(permit2), separator };
}

/** Internal: the digest of a permit, of which `permitted` and `witness` are hashed already. */
export function permitDigest(
	domain: Permit2Domain,
	permitTypehash: Uint8Array,
	permitted: Uint8Array,
	{ spender, nonce, deadline }: Permit,
	witness: Uint8Array,
): Uint8Array {
	const members: readonly AbiValue[] = [
		{ type: "hash", value: permitted },
		{ type: "address", field: "spender", value: spender },
		{ type: "uint256", field: "nonce", value: nonce },
		{ type: "uint256", field: "deadline", value: deadline },
		{ type: "hash", value: witness },
	];
	return signingHash(domain.separator, hashStruct(permitTypehash, members));
}

/** Internal. */
export function tokenPermissionsHash({ token, amount }: TokenPermissions): Uint8Array {
	return hashStruct(TOKEN_PERMISSIONS_TYPEHASH, [
		{ type: "address", field: "token", value: token },
		{ type: "uint256", field: "amount", value: amount },
	]);
}

/** Internal: the domain as the object that a wallet takes. */
export function walletDomain({ chainId, permit2 }: Permit2Domain) {
	return { name: PERMIT2_NAME, chainId: BigInt(chainId), verifyingContract: permit2 } as const;
}

/** Internal. */
export function walletPermit({ spender, nonce, deadline }: Permit) {
	return { spender: lowercase(spender), nonce, deadline };
}

/** Internal. */
export function walletPermissions({ token, amount }: TokenPermissions) {
	return { token: lowercase(token), amount };
}

/** Internal: wallets and viem refuse mixed-case addresses whose checksum is wrong; lowercase ones have none to be wrong. */
export function lowercase(address: Address): Address {
	return address.toLowerCase() as Address;
}
