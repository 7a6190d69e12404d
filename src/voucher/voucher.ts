import type { Hex } from "viem";
import { assertAmount, FieldFormatError, UINT128_MAX, utf8, WORD, writeBytes32, writeUint } from "./bytes.ts";
import { type TypedDataDomain, type VoucherDomain, voucherTypedDataDomain } from "./domain.ts";
import { type Keccak256, keccak256 as portableKeccak256 } from "./keccak.ts";
import { normalizeSignature } from "./signature.ts";
import type { TypedDataSigner } from "./signer.ts";

/**
 * A promise of `cumulativeAmount` out of a channel's deposit, in total since the channel was opened.
 *
 * Source: draft-evm-session-00, "Voucher Signing Format", "Cumulative Semantics".
 */
export interface Voucher {
	/** 32 bytes. */
	readonly channelId: Hex;
	/** Base units, `0..2^128-1`. */
	readonly cumulativeAmount: bigint;
}

/** The EIP-712 types of a voucher (draft-evm-session-00, "Type Definitions"). */
export const VOUCHER_TYPES = {
	Voucher: [
		{ name: "channelId", type: "bytes32" },
		{ name: "cumulativeAmount", type: "uint128" },
	],
} as const;

/** What a wallet is asked to sign for a voucher. */
export interface VoucherTypedData {
	readonly domain: TypedDataDomain;
	readonly types: typeof VOUCHER_TYPES;
	readonly primaryType: "Voucher";
	readonly message: Voucher;
}

// One voucher is hashed from start to end without a pause, and each of the bytes that differ between two vouchers is
// written anew for each, so one pair of buffers serves every caller and a refused voucher leaves nothing behind.
const struct = new Uint8Array(3 * WORD);
const structView = new DataView(struct.buffer);
const signing = new Uint8Array(2 + 2 * WORD);
struct.set(portableKeccak256(utf8("Voucher(bytes32 channelId,uint128 cumulativeAmount)")));
signing.set([0x19, 0x01]);

/**
 * The EIP-712 digest that a voucher's signature is over. Fast: two hashes over reused buffers.
 *
 * Source: draft-evm-session-00, "Signing Procedure", steps 2 and 3.
 *
 * @param keccak256 - A faster hash than the portable default, where there is one.
 * @returns A fresh array of 32 bytes.
 * @throws {AmountOutOfRangeError} outside `0..2^128-1`.
 * @throws {FieldFormatError} for a malformed `channelId`.
 * @example
 * ```ts
 * const digest = voucherDigest(domain, { channelId, cumulativeAmount: 250_000n });
 * ```
 */
export function voucherDigest(
	domain: VoucherDomain,
	voucher: Voucher,
	keccak256: Keccak256 = portableKeccak256,
): Uint8Array {
	writeBytes32(voucher.channelId, "channelId", struct, WORD);
	writeUint(voucher.cumulativeAmount, UINT128_MAX, "cumulativeAmount", structView, 2 * WORD);
	signing.set(domain.separator, 2);
	signing.set(keccak256(struct), 2 + WORD);
	return keccak256(signing);
}

/**
 * A voucher as EIP-712 typed data, for a wallet or any viem account.
 *
 * Source: draft-evm-session-00, "Voucher Signing Format".
 *
 * @throws {AmountOutOfRangeError} outside `0..2^128-1`.
 * @throws {FieldFormatError} for a malformed `channelId`.
 * @example
 * ```ts
 * const signature = await account.signTypedData(voucherTypedData(domain, voucher));
 * ```
 */
export function voucherTypedData(domain: VoucherDomain, voucher: Voucher): VoucherTypedData {
	const { channelId, cumulativeAmount } = voucher;
	assertAmount(cumulativeAmount, UINT128_MAX, "cumulativeAmount");
	if (!/^0x[0-9a-f]{64}$/i.test(channelId)) {
		throw new FieldFormatError("channelId", "0x and 64 hex digits", channelId);
	}
	return {
		domain: voucherTypedDataDomain(domain),
		types: VOUCHER_TYPES,
		primaryType: "Voucher",
		message: { channelId, cumulativeAmount },
	};
}

/**
 * Signs a voucher.
 *
 * Source: draft-evm-session-00, "Signing Procedure", steps 4 and 5.
 *
 * @returns 65 bytes `r || s || v`, lowercase, low-s, `v` 27 or 28, whatever form the account itself produces.
 * @throws {AmountOutOfRangeError} outside `0..2^128-1`; nothing is signed.
 * @throws {FieldFormatError} for a malformed `channelId`; nothing is signed.
 * @throws {SignatureFormatError} when the account returns something other than a 65-byte ECDSA signature.
 * @example
 * ```ts
 * const signature = await signVoucher(privateKeyToAccount(key), domain, { channelId, cumulativeAmount: 250_000n });
 * ```
 */
export async function signVoucher(signer: TypedDataSigner, domain: VoucherDomain, voucher: Voucher): Promise<Hex> {
	return normalizeSignature(await signer.signTypedData(voucherTypedData(domain, voucher)));
}
