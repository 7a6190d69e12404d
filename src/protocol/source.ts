/** The payer's identity in a credential: a `did:pkh` (session draft, section "Credential Structure"). */

import type { Address } from "./fields.ts";

/** A payer as `source` names it. */
export type Source = {
	/** EIP-155 chain id. */
	readonly chainId: number;
	/** Payer's address, lowercase. */
	readonly address: Address;
};

const DID_PKH = /^did:pkh:eip155:([1-9][0-9]{0,15}):(0x[0-9a-fA-F]{40})$/;

/**
 * Writes the `source` of a payer.
 *
 * @example
 * ```ts
 * formatSource(196, "0xaabbccddee11223344556677889900aabbccddee");
 * // "did:pkh:eip155:196:0xaabbccddee11223344556677889900aabbccddee"
 * ```
 */
export function formatSource(chainId: number, address: Address): string {
	return `did:pkh:eip155:${chainId}:${address}`;
}

/**
 * Reads a `source`.
 *
 * @returns `undefined` when it is not a `did:pkh` of an EIP-155 chain
 * @example
 * ```ts
 * parseSource("did:pkh:eip155:196:0xAABBccddee11223344556677889900aabbccddee");
 * // { chainId: 196, address: "0xaabbccddee11223344556677889900aabbccddee" }
 * ```
 */
export function parseSource(source: string): Source | undefined {
	const match = DID_PKH.exec(source);
	const chainId = Number(match?.[1]);
	return Number.isSafeInteger(chainId) ? { chainId, address: match?.[2]?.toLowerCase() as Address } : undefined;
}
