import { type Address, bytesToHex, type Hex } from "viem";
import { type AbiValue, encodeWords, utf8 } from "./bytes.ts";
import type { ChannelParameters } from "./channel.ts";
import { DOMAIN_TYPE, hashStruct, knownSeparator, signingHash, type TypedDataDomain } from "./domain.ts";
import { type Keccak256, keccak256 } from "./keccak.ts";
import { normalizeSignature } from "./signature.ts";
import type { TypedDataSigner } from "./signer.ts";

/** The token's own EIP-712 domain, which its `name()`, `version()` and address give. `verifyingContract` is the token. */
export type TokenDomain = TypedDataDomain;

/** An ERC-3009 transfer of `value` from `from` to `to`, executable once and within a time. */
export interface Authorization {
	readonly from: Address;
	/** The escrow for a deposit, the challenge's recipient for a charge. */
	readonly to: Address;
	/** Base units of the token. */
	readonly value: bigint;
	/** Unix seconds; executable strictly after. */
	readonly validAfter: bigint;
	/** Unix seconds; executable strictly before. */
	readonly validBefore: bigint;
	/** 32 bytes, derived and not random: see the three nonce functions. */
	readonly nonce: Hex;
}

/**
 * Which message is signed. A deposit is a `receive`: only `to` itself, the escrow, can execute it, so nobody can run
 * ahead of it. A charge is a `transfer`: whoever holds it may submit it.
 */
export type AuthorizationKind = "receive" | "transfer";

const MEMBERS = [
	{ name: "from", type: "address" },
	{ name: "to", type: "address" },
	{ name: "value", type: "uint256" },
	{ name: "validAfter", type: "uint256" },
	{ name: "validBefore", type: "uint256" },
	{ name: "nonce", type: "bytes32" },
] as const;
const MEMBER_LIST = MEMBERS.map(({ name, type }) => `${type} ${name}`).join(",");

const TYPEHASHES: Record<AuthorizationKind, Uint8Array> = {
	receive: keccak256(utf8(`ReceiveWithAuthorization(${MEMBER_LIST})`)),
	transfer: keccak256(utf8(`TransferWithAuthorization(${MEMBER_LIST})`)),
};

/**
 * The ERC-3009 nonce that the escrow demands for `openWithAuthorization`, which binds the channel into the transfer.
 *
 * Source: draft-evm-session-00, "openWithAuthorization", "Front-Running Protection".
 *
 * @param channel - `authorizedSigner` is hashed as given: the zero address where the client names none.
 * @throws {FieldFormatError} for a malformed address or salt.
 * @example
 * ```ts
 * const nonce = openAuthorizationNonce({ from: payer, payee, token, salt, authorizedSigner: ZERO_ADDRESS });
 * ```
 */
export function openAuthorizationNonce(
	channel: { readonly from: Address } & Pick<ChannelParameters, "payee" | "token" | "salt" | "authorizedSigner">,
): Hex {
	return bytesToHex(
		keccak256(
			encodeWords([
				{ type: "address", field: "from", value: channel.from },
				{ type: "address", field: "payee", value: channel.payee },
				{ type: "address", field: "token", value: channel.token },
				{ type: "bytes32", field: "salt", value: channel.salt },
				{ type: "address", field: "authorizedSigner", value: channel.authorizedSigner },
			]),
		),
	);
}

/**
 * The ERC-3009 nonce that the escrow demands for `topUpWithAuthorization`.
 *
 * Source: draft-evm-session-00, "topUpWithAuthorization".
 *
 * @param topUp - `additionalDeposit` in base units, `0..2^128-1`; `topUpSalt` fresh 32 random bytes for each top-up.
 * @throws {FieldFormatError} for a malformed id, address or salt.
 * @throws {AmountOutOfRangeError} outside `0..2^128-1`.
 * @example
 * ```ts
 * const nonce = topUpAuthorizationNonce({ channelId, additionalDeposit: 5_000_000n, from: payer, topUpSalt });
 * ```
 */
export function topUpAuthorizationNonce(topUp: {
	readonly channelId: Hex;
	readonly additionalDeposit: bigint;
	readonly from: Address;
	readonly topUpSalt: Hex;
}): Hex {
	return bytesToHex(
		keccak256(
			encodeWords([
				{ type: "bytes32", field: "channelId", value: topUp.channelId },
				{ type: "uint128", field: "additionalDeposit", value: topUp.additionalDeposit },
				{ type: "address", field: "from", value: topUp.from },
				{ type: "bytes32", field: "topUpSalt", value: topUp.topUpSalt },
			]),
		),
	);
}

/**
 * The `challengeHash`: the ERC-3009 nonce of a one-time charge, which binds it to its challenge. Also what the other
 * charge types bind. The two strings are joined without a separator, as the draft says.
 *
 * Source: draft-evm-charge-00, "Challenge Binding".
 *
 * @param hash - A faster one than the portable default, where there is one.
 * @example
 * ```ts
 * const nonce = chargeNonce(challenge.id, challenge.realm);
 * ```
 */
export function chargeNonce(challengeId: string, realm: string, hash: Keccak256 = keccak256): Hex {
	return bytesToHex(hash(utf8(challengeId + realm)));
}

// The spread domain is there for wallets to hash by; typed, it would make viem ask for a bigint chain id.
const RECEIVE_TYPES: { readonly ReceiveWithAuthorization: typeof MEMBERS } = {
	...DOMAIN_TYPE,
	ReceiveWithAuthorization: MEMBERS,
};
const TRANSFER_TYPES: { readonly TransferWithAuthorization: typeof MEMBERS } = {
	...DOMAIN_TYPE,
	TransferWithAuthorization: MEMBERS,
};

/** What a wallet is asked to sign for a deposit. */
export interface ReceiveAuthorizationTypedData {
	readonly domain: TokenDomain;
	readonly types: typeof RECEIVE_TYPES;
	readonly primaryType: "ReceiveWithAuthorization";
	readonly message: Authorization;
}

/** What a wallet is asked to sign for a charge. */
export interface TransferAuthorizationTypedData {
	readonly domain: TokenDomain;
	readonly types: typeof TRANSFER_TYPES;
	readonly primaryType: "TransferWithAuthorization";
	readonly message: Authorization;
}

/**
 * A deposit into the escrow as typed data for a wallet.
 *
 * Source: ERC-3009; draft-evm-session-00, "openWithAuthorization", "topUpWithAuthorization".
 *
 * @example
 * ```ts
 * const signature = await account.signTypedData(receiveAuthorizationTypedData(tokenDomain, authorization));
 * ```
 */
export function receiveAuthorizationTypedData(
	domain: TokenDomain,
	authorization: Authorization,
): ReceiveAuthorizationTypedData {
	return {
		domain: walletDomain(domain),
		types: RECEIVE_TYPES,
		primaryType: "ReceiveWithAuthorization",
		message: walletMessage(authorization),
	};
}

/**
 * A one-time charge as typed data for a wallet.
 *
 * Source: ERC-3009; draft-evm-charge-00, "Authorization Payload".
 *
 * @example
 * ```ts
 * const signature = await account.signTypedData(transferAuthorizationTypedData(tokenDomain, authorization));
 * ```
 */
export function transferAuthorizationTypedData(
	domain: TokenDomain,
	authorization: Authorization,
): TransferAuthorizationTypedData {
	return {
		domain: walletDomain(domain),
		types: TRANSFER_TYPES,
		primaryType: "TransferWithAuthorization",
		message: walletMessage(authorization),
	};
}

/**
 * The EIP-712 digest that an authorization's signature is over; what `verifyDigest` of a verifier takes.
 *
 * Source: ERC-3009; draft-evm-charge-00, "Authorization Verification", step 2.
 *
 * @param hash - A faster one than the portable default, where there is one.
 * @returns 32 bytes.
 * @throws {FieldFormatError} for a malformed address, nonce or chain id.
 * @throws {AmountOutOfRangeError} for a number outside `uint256`.
 * @example
 * ```ts
 * const digest = authorizationDigest("transfer", tokenDomain, authorization);
 * const verdict = verifier.verifyDigest(authorization.from, digest, signature);
 * ```
 */
export function authorizationDigest(
	kind: AuthorizationKind,
	domain: TokenDomain,
	authorization: Authorization,
	hash: Keccak256 = keccak256,
): Uint8Array {
	const members: readonly AbiValue[] = [
		{ type: "address", field: "from", value: authorization.from },
		{ type: "address", field: "to", value: authorization.to },
		{ type: "uint256", field: "value", value: authorization.value },
		{ type: "uint256", field: "validAfter", value: authorization.validAfter },
		{ type: "uint256", field: "validBefore", value: authorization.validBefore },
		{ type: "bytes32", field: "nonce", value: authorization.nonce },
	];
	return signingHash(knownSeparator(domain), hashStruct(TYPEHASHES[kind], members, hash), hash);
}

/**
 * Signs an authorization.
 *
 * @returns 65 bytes `r || s || v`, lowercase, low-s, `v` 27 or 28.
 * @throws {FieldFormatError} for a malformed address, nonce or chain id; nothing is signed.
 * @throws {AmountOutOfRangeError} for a number outside `uint256`; nothing is signed.
 * @throws {SignatureFormatError} when the account returns something other than a 65-byte ECDSA signature.
 * @example
 * ```ts
 * const signature = await signAuthorization("receive", account, tokenDomain, authorization);
 * ```
 */
export async function signAuthorization(
	kind: AuthorizationKind,
	signer: TypedDataSigner,
	domain: TokenDomain,
	authorization: Authorization,
): Promise<Hex> {
	// Computed for its checks: a malformed field is refused in our words before a wallet sees it.
	authorizationDigest(kind, domain, authorization);
	const signature =
		kind === "receive"
			? await signer.signTypedData(receiveAuthorizationTypedData(domain, authorization))
			: await signer.signTypedData(transferAuthorizationTypedData(domain, authorization));
	return normalizeSignature(signature);
}

// Wallets and viem refuse mixed-case addresses whose checksum is wrong; lowercase ones have none to be wrong.
function walletDomain(domain: TokenDomain): TokenDomain {
	const { name, version, chainId, verifyingContract } = domain;
	return { name, version, chainId, verifyingContract: lowercase(verifyingContract) };
}

function walletMessage(authorization: Authorization): Authorization {
	const { from, to, value, validAfter, validBefore, nonce } = authorization;
	return { from: lowercase(from), to: lowercase(to), value, validAfter, validBefore, nonce };
}

function lowercase(address: Address): Address {
	return address.toLowerCase() as Address;
}
