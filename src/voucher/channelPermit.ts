import type { Address, Hex } from "viem";
import { hashStruct } from "./domain.ts";
import {
	DOMAIN_MEMBERS,
	lowercase,
	type Permit,
	type Permit2Domain,
	permitDigest,
	permitMembers,
	TOKEN_PERMISSIONS,
	TOKEN_PERMISSIONS_TEXT,
	type TokenPermissions,
	tokenPermissionsHash,
	typehash,
	typeText,
	walletDomain,
	walletPermissions,
	walletPermit,
} from "./permit2.ts";
import { normalizeSignature } from "./signature.ts";
import type { TypedDataSigner } from "./signer.ts";

/** Binds a deposit to the channel that it opens. `authorizedSigner` is the zero address where the client names none. */
export interface ChannelOpenWitness {
	readonly payee: Address;
	readonly salt: Hex;
	readonly authorizedSigner: Address;
}

/** Binds a deposit to the channel that it tops up. */
export interface ChannelTopUpWitness {
	readonly channelId: Hex;
}

/**
 * A deposit into the escrow: an opening or a top-up, told apart by the witness. The `spender` is the escrow.
 *
 * Source: draft-evm-session-00, "openWithPermit2", "topUpWithPermit2".
 */
export interface ChannelPermit extends Permit {
	readonly permitted: TokenPermissions;
	readonly witness: ChannelOpenWitness | ChannelTopUpWitness;
}

const OPEN_WITNESS = [
	{ name: "payee", type: "address" },
	{ name: "salt", type: "bytes32" },
	{ name: "authorizedSigner", type: "address" },
] as const;
const TOP_UP_WITNESS = [{ name: "channelId", type: "bytes32" }] as const;
const OPEN_TYPES = {
	EIP712Domain: DOMAIN_MEMBERS,
	PermitWitnessTransferFrom: permitMembers("TokenPermissions", "ChannelOpenWitness"),
	ChannelOpenWitness: OPEN_WITNESS,
	TokenPermissions: TOKEN_PERMISSIONS,
} as const;
const TOP_UP_TYPES = {
	EIP712Domain: DOMAIN_MEMBERS,
	PermitWitnessTransferFrom: permitMembers("TokenPermissions", "ChannelTopUpWitness"),
	ChannelTopUpWitness: TOP_UP_WITNESS,
	TokenPermissions: TOKEN_PERMISSIONS,
} as const;
const OPEN_WITNESS_TEXT = typeText("ChannelOpenWitness", OPEN_WITNESS);
const TOP_UP_WITNESS_TEXT = typeText("ChannelTopUpWitness", TOP_UP_WITNESS);
const OPEN_WITNESS_TYPEHASH = typehash(OPEN_WITNESS_TEXT);
const TOP_UP_WITNESS_TYPEHASH = typehash(TOP_UP_WITNESS_TEXT);
const OPEN_TYPEHASH = typehash(
	typeText("PermitWitnessTransferFrom", OPEN_TYPES.PermitWitnessTransferFrom) +
		OPEN_WITNESS_TEXT +
		TOKEN_PERMISSIONS_TEXT,
);
const TOP_UP_TYPEHASH = typehash(
	typeText("PermitWitnessTransferFrom", TOP_UP_TYPES.PermitWitnessTransferFrom) +
		TOP_UP_WITNESS_TEXT +
		TOKEN_PERMISSIONS_TEXT,
);
/**
 * The EIP-712 digest that the signature of a deposit is over; what `verifyDigest` of a verifier takes.
 *
 * Source: draft-evm-session-00, "Open Payload (feePayer: true)", Permit2 shape.
 *
 * @returns 32 bytes.
 * @throws {FieldFormatError} for a malformed address, salt or channel id.
 * @throws {AmountOutOfRangeError} for a number outside `uint256`.
 * @example
 * ```ts
 * const verdict = verifier.verifyDigest(authorization.from, channelPermitDigest(domain, permit), signature);
 * ```
 */
export function channelPermitDigest(domain: Permit2Domain, permit: ChannelPermit): Uint8Array {
	const { witness } = permit;
	if (isTopUpWitness(witness)) {
		const hash = hashStruct(TOP_UP_WITNESS_TYPEHASH, [
			{ type: "bytes32", field: "channelId", value: witness.channelId },
		]);
		return permitDigest(domain, TOP_UP_TYPEHASH, tokenPermissionsHash(permit.permitted), permit, hash);
	}
	const hash = hashStruct(OPEN_WITNESS_TYPEHASH, [
		{ type: "address", field: "payee", value: witness.payee },
		{ type: "bytes32", field: "salt", value: witness.salt },
		{ type: "address", field: "authorizedSigner", value: witness.authorizedSigner },
	]);
	return permitDigest(domain, OPEN_TYPEHASH, tokenPermissionsHash(permit.permitted), permit, hash);
}

/**
 * A deposit as typed data for a wallet.
 *
 * @example
 * ```ts
 * const typedData = channelPermitTypedData(domain, permit);
 * typedData.primaryType; // "PermitWitnessTransferFrom"
 * ```
 */
export function channelPermitTypedData(domain: Permit2Domain, permit: ChannelPermit): ChannelPermitTypedData {
	const { witness } = permit;
	return isTopUpWitness(witness) ? topUpTypedData(domain, permit, witness) : openTypedData(domain, permit, witness);
}

/** What a wallet is asked to sign for a deposit through Permit2. */
export type ChannelPermitTypedData = ReturnType<typeof openTypedData> | ReturnType<typeof topUpTypedData>;

/**
 * Signs a deposit.
 *
 * @returns 65 bytes `r || s || v`, lowercase, low-s, `v` 27 or 28.
 * @throws {FieldFormatError} for a malformed address, salt or channel id; nothing is signed.
 * @throws {AmountOutOfRangeError} for a number outside `uint256`; nothing is signed.
 * @throws {SignatureFormatError} when the account returns something other than a 65-byte ECDSA signature.
 * @example
 * ```ts
 * const signature = await signChannelPermit(account, domain, {
 * 	permitted: { token, amount: 5_000_000n },
 * 	spender: escrow,
 * 	nonce,
 * 	deadline,
 * 	witness: { payee, salt, authorizedSigner: ZERO_ADDRESS },
 * });
 * ```
 */
export async function signChannelPermit(
	signer: TypedDataSigner,
	domain: Permit2Domain,
	permit: ChannelPermit,
): Promise<Hex> {
	// Computed for its checks: a malformed field is refused in our words before a wallet sees it.
	channelPermitDigest(domain, permit);
	const { witness } = permit;
	const signature = isTopUpWitness(witness)
		? await signer.signTypedData(topUpTypedData(domain, permit, witness))
		: await signer.signTypedData(openTypedData(domain, permit, witness));
	return normalizeSignature(signature);
}

function openTypedData(domain: Permit2Domain, permit: ChannelPermit, witness: ChannelOpenWitness) {
	const { payee, salt, authorizedSigner } = witness;
	return {
		domain: walletDomain(domain),
		types: OPEN_TYPES,
		primaryType: "PermitWitnessTransferFrom",
		message: {
			...walletPermit(permit),
			permitted: walletPermissions(permit.permitted),
			witness: { payee: lowercase(payee), salt, authorizedSigner: lowercase(authorizedSigner) },
		},
	} as const;
}

function topUpTypedData(domain: Permit2Domain, permit: ChannelPermit, { channelId }: ChannelTopUpWitness) {
	return {
		domain: walletDomain(domain),
		types: TOP_UP_TYPES,
		primaryType: "PermitWitnessTransferFrom",
		message: {
			...walletPermit(permit),
			permitted: walletPermissions(permit.permitted),
			witness: { channelId },
		},
	} as const;
}

function isTopUpWitness(witness: ChannelOpenWitness | ChannelTopUpWitness): witness is ChannelTopUpWitness {
	return "channelId" in witness;
}
