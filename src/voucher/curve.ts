import { secp256k1 as curve } from "@noble/curves/secp256k1.js";

/**
 * The one thing a verifier needs of secp256k1. The default is portable JavaScript, about a thousand a second; a server
 * passes libsecp256k1.
 *
 * There is no `verify` here on purpose. Verification against a known key can't see `v`: with the other `v` it still
 * passes, yet the escrow recovers another signer, so the payee would have served against a voucher it can't settle.
 */
export interface Secp256k1 {
	/**
	 * The public key that made a signature.
	 *
	 * @param compact - `r || s`, 64 bytes, both in range, `s` low.
	 * @param recovery - Parity of the y coordinate of `r`'s point.
	 * @param digest - The 32 bytes that were signed.
	 * @returns The uncompressed key, 65 bytes starting with 4, or undefined when no key fits.
	 */
	recover(compact: Uint8Array, recovery: 0 | 1, digest: Uint8Array): Uint8Array | undefined;
}

/**
 * What RFC 6979 makes of the key 0x01…01 and the digest 0x01…01: `r || s`, with recovery 0. Whoever loads a library of its own
 * tries it by this before it decides about money.
 */
export const KNOWN_SIGNATURE =
	"0xc64b1924157748652733c41294e5f6e395c3626a8e911f3742a4b8ad4fdb922f347ba5cdd629027ef5846eb85c9452f6312e0aea697625d66b202448f3e9618f";

/** The default {@link Secp256k1}, which runs everywhere. */
export const portableSecp256k1: Secp256k1 = {
	recover(compact, recovery, digest) {
		try {
			return curve.Signature.fromCompact(compact).addRecoveryBit(recovery).recoverPublicKey(digest).toRawBytes(false);
		} catch {
			// The curve throws for an r that is no point's x and for a key at infinity: no key fits.
			return undefined;
		}
	},
};
