/** Accounts that sign the digest of a voucher themselves, without a wallet library's general way there. */
import type { Hex } from "viem";
import {
	type Keccak256,
	signVoucher,
	type TypedDataSigner,
	type Voucher,
	type VoucherDomain,
	voucherDigest,
} from "../voucher/index.ts";

/** How an account signs 32 bytes. */
export type DigestSigner = Readonly<{
	/** @returns `r || s || v`, lowercase, low-s, `v` 27 or 28 */
	sign(digest: Uint8Array): Hex | Promise<Hex>;
	/** A faster hash than the portable one, where there is one. */
	keccak256?: Keccak256;
}>;

// By the very object: a copy of an account with another `signTypedData`, which asks somebody or keeps a record, is asked.
const digestSigners = new WeakMap<TypedDataSigner, DigestSigner>();

/** From now on this very account signs vouchers by its digest signer. Only for one whose key the caller has. */
export function signsDigests<Account extends TypedDataSigner>(account: Account, signer: DigestSigner): Account {
	digestSigners.set(account, signer);
	return account;
}

/**
 * Signs a voucher as `signVoucher` does, and by its hand-encoded digest where the account takes one: viem's hash of typed data
 * alone takes about 120 microseconds, three times as long as libsecp256k1 signs.
 */
export async function signVoucherBy(account: TypedDataSigner, domain: VoucherDomain, voucher: Voucher): Promise<Hex> {
	const own = digestSigners.get(account);
	if (own === undefined) return signVoucher(account, domain, voucher);
	return own.sign(voucherDigest(domain, voucher, own.keccak256));
}
