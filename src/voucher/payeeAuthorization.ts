import type { Hex } from "viem";
import { utf8 } from "./bytes.ts";
import { hashStruct, signingHash, type TypedDataDomain, type VoucherDomain, voucherTypedDataDomain } from "./domain.ts";
import { keccak256 } from "./keccak.ts";
import { normalizeSignature } from "./signature.ts";
import type { TypedDataSigner } from "./signer.ts";

/**
 * The payee's leave to settle or close one channel with one voucher, for whoever sends the transaction. Good once: both
 * kinds share the nonces of a channel.
 *
 * Source: draft-evm-session-00, "Payee-initiated functions".
 */
export interface PayeeAuthorization {
	/** 32 bytes. */
	readonly channelId: Hex;
	/** The voucher's amount in base units, `0..2^128-1`. */
	readonly cumulativeAmount: bigint;
	/** Any `uint256` that the payee has not used for this channel. */
	readonly nonce: bigint;
	/** Unix seconds; good up to and including this second. */
	readonly deadline: bigint;
}

/** What the payee allows. */
export type PayeeAuthorizationKind = "settle" | "close";

const MEMBERS = [
	{ name: "channelId", type: "bytes32" },
	{ name: "cumulativeAmount", type: "uint128" },
	{ name: "nonce", type: "uint256" },
	{ name: "deadline", type: "uint256" },
] as const;
const MEMBER_LIST = MEMBERS.map(({ name, type }) => `${type} ${name}`).join(",");

const TYPEHASHES: Record<PayeeAuthorizationKind, Uint8Array> = {
	settle: keccak256(utf8(`SettleAuthorization(${MEMBER_LIST})`)),
	close: keccak256(utf8(`CloseAuthorization(${MEMBER_LIST})`)),
};

const SETTLE_TYPES = { SettleAuthorization: MEMBERS } as const;
const CLOSE_TYPES = { CloseAuthorization: MEMBERS } as const;

/** What a payee's wallet is asked to sign for a settlement. */
export interface SettleAuthorizationTypedData {
	readonly domain: TypedDataDomain;
	readonly types: typeof SETTLE_TYPES;
	readonly primaryType: "SettleAuthorization";
	readonly message: PayeeAuthorization;
}

/** What a payee's wallet is asked to sign for a close. */
export interface CloseAuthorizationTypedData {
	readonly domain: TypedDataDomain;
	readonly types: typeof CLOSE_TYPES;
	readonly primaryType: "CloseAuthorization";
	readonly message: PayeeAuthorization;
}

/**
 * The EIP-712 digest that a payee's signature is over; what `verifyDigest` of a verifier takes. The domain is the
 * vouchers'.
 *
 * Source: draft-evm-session-00, "Payee-initiated functions".
 *
 * @returns 32 bytes.
 * @throws {FieldFormatError} for a malformed `channelId`.
 * @throws {AmountOutOfRangeError} for a number that its type can't hold.
 * @example
 * ```ts
 * const digest = payeeAuthorizationDigest("settle", domain, authorization);
 * const verdict = verifier.verifyDigest(payee, digest, payeeSignature);
 * ```
 */
export function payeeAuthorizationDigest(
	kind: PayeeAuthorizationKind,
	domain: VoucherDomain,
	authorization: PayeeAuthorization,
): Uint8Array {
	const structHash = hashStruct(TYPEHASHES[kind], [
		{ type: "bytes32", field: "channelId", value: authorization.channelId },
		{ type: "uint128", field: "cumulativeAmount", value: authorization.cumulativeAmount },
		{ type: "uint256", field: "nonce", value: authorization.nonce },
		{ type: "uint256", field: "deadline", value: authorization.deadline },
	]);
	return signingHash(domain.separator, structHash);
}

/**
 * The leave to settle as typed data for a wallet.
 *
 * @example
 * ```ts
 * const signature = await account.signTypedData(settleAuthorizationTypedData(domain, authorization));
 * ```
 */
export function settleAuthorizationTypedData(
	domain: VoucherDomain,
	authorization: PayeeAuthorization,
): SettleAuthorizationTypedData {
	return {
		domain: voucherTypedDataDomain(domain),
		types: SETTLE_TYPES,
		primaryType: "SettleAuthorization",
		message: walletMessage(authorization),
	};
}

/**
 * The leave to close as typed data for a wallet.
 *
 * @example
 * ```ts
 * const signature = await account.signTypedData(closeAuthorizationTypedData(domain, authorization));
 * ```
 */
export function closeAuthorizationTypedData(
	domain: VoucherDomain,
	authorization: PayeeAuthorization,
): CloseAuthorizationTypedData {
	return {
		domain: voucherTypedDataDomain(domain),
		types: CLOSE_TYPES,
		primaryType: "CloseAuthorization",
		message: walletMessage(authorization),
	};
}

/**
 * Signs the leave to settle or to close, as the payee. Whoever has it can carry it out until its deadline, so let that
 * be near.
 *
 * @returns 65 bytes `r || s || v`, lowercase, low-s, `v` 27 or 28.
 * @throws {FieldFormatError} for a malformed `channelId`; nothing is signed.
 * @throws {AmountOutOfRangeError} for a number that its type can't hold; nothing is signed.
 * @throws {SignatureFormatError} when the account returns something other than a 65-byte ECDSA signature.
 * @example
 * ```ts
 * const payeeSignature = await signPayeeAuthorization("settle", payee, domain, {
 * 	channelId,
 * 	cumulativeAmount: 250_000n,
 * 	nonce: 0n,
 * 	deadline: BigInt(Math.floor(Date.now() / 1_000) + 600),
 * });
 * ```
 */
export async function signPayeeAuthorization(
	kind: PayeeAuthorizationKind,
	signer: TypedDataSigner,
	domain: VoucherDomain,
	authorization: PayeeAuthorization,
): Promise<Hex> {
	// Computed for its checks: a malformed field is refused in our words before a wallet sees it.
	payeeAuthorizationDigest(kind, domain, authorization);
	const signature =
		kind === "settle"
			? await signer.signTypedData(settleAuthorizationTypedData(domain, authorization))
			: await signer.signTypedData(closeAuthorizationTypedData(domain, authorization));
	return normalizeSignature(signature);
}

// Callers' objects may carry more than is signed.
function walletMessage({ channelId, cumulativeAmount, nonce, deadline }: PayeeAuthorization): PayeeAuthorization {
	return { channelId, cumulativeAmount, nonce, deadline };
}
