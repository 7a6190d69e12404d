import type { Address } from "viem";
import type { ChargeCredentialType, SessionCredentialType } from "./offer.ts";

/** Where, in what and to whom a server is paid: the same for all offers in one token. */
export type Terms = Readonly<{
	realm: string;
	chainId: number;
	escrow: Address;
	currency: Address;
	recipient: Address;
	/** Whether the server sends and pays for deposits (draft-evm-session-00, Fee Payment). */
	feePayer: boolean;
	minVoucherDelta: bigint;
	/** The Permit2 contract of the escrow, where there is one on this chain. */
	permit2?: Address;
	/** Digits after the point when people read amounts; stated in charges. */
	decimals?: number;
	/** How channels can be funded in this token here, the preferred way first. */
	sessionTypes: readonly SessionCredentialType[];
	/** How charges can be paid in this token here, the preferred way first. */
	chargeTypes: readonly ChargeCredentialType[];
}>;

/** What decides which credential types are possible. */
export type Capabilities = Readonly<{
	/** The token moves by the payer's ERC-3009 signature. */
	hasErc3009: boolean;
	hasPermit2: boolean;
	feePayer: boolean;
}>;

/** An agent needs nothing but its token for `authorization`; Permit2 wants an allowance, `hash` gas. */
export function sessionTypes({ hasErc3009, hasPermit2, feePayer }: Capabilities): readonly SessionCredentialType[] {
	return [
		...(feePayer && hasErc3009 ? (["authorization"] as const) : []),
		...(feePayer && hasPermit2 ? (["permit2"] as const) : []),
		"hash",
	];
}

/** A server that has Permit2 names it first (draft-evm-charge-00, Credential Type Negotiation). */
export function chargeTypes({ hasErc3009, hasPermit2 }: Capabilities): readonly ChargeCredentialType[] {
	return [
		...(hasPermit2 ? (["permit2"] as const) : []),
		...(hasErc3009 ? (["authorization"] as const) : []),
		"transaction",
		"hash",
	];
}
