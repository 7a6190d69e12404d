import { keccak_256 } from "@noble/hashes/sha3";

/**
 * Keccak-256 as Ethereum uses it. The result is a fresh array of 32 bytes that the caller may keep.
 *
 * The hashes of a voucher are most of what a verifier does besides the curve, so the functions on that way take this
 * as their last argument: a server passes a WebAssembly implementation, everybody else leaves it out.
 */
export type Keccak256 = (message: Uint8Array) => Uint8Array;

/** The default {@link Keccak256}: audited, portable JavaScript. */
export const keccak256: Keccak256 = (message) => keccak_256(message);
