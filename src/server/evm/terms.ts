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

/** What token, chain and escrow can do. */
export type Capabilities = Readonly<{
	/** The token moves by the payer's ERC-3009 signature. */
	hasErc3009: boolean;
	hasPermit2: boolean;
	/** Which signed deposits the escrow takes from others than the payer. */
	relayed: Readonly<{ authorization: boolean; permit2: boolean }>;
	/** Whether the server wants to send them. */
	feePayer: boolean;
}>;

/**
 * Nothing that the escrow has no function for (draft-evm-session-00, Relayed Profile). An agent needs nothing but its token
 * for `authorization`; Permit2 wants an allowance, `hash` gas.
 */
export function sessionTypes(can: Capabilities): readonly SessionCredentialType[] {
	const { hasErc3009, hasPermit2, relayed, feePayer } = can;
	return [
		...(feePayer && hasErc3009 && relayed.authorization ? (["authorization"] as const) : []),
		...(feePayer && hasPermit2 && relayed.permit2 ? (["permit2"] as const) : []),
		"hash",
	];
}

/** A server that has Permit2 names it first (draft-evm-charge-00, Credential Type Negotiation). */
export function chargeTypes({
	hasErc3009,
	hasPermit2,
}: Pick<Capabilities, "hasErc3009" | "hasPermit2">): readonly ChargeCredentialType[] {
	return [
		...(hasPermit2 ? (["permit2"] as const) : []),
		...(hasErc3009 ? (["authorization"] as const) : []),
		"transaction",
		"hash",
	];
}
