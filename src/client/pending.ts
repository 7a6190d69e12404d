import type { Address, Hex } from "viem";
import type { VoucherDeposit } from "../protocol/index.ts";
import type { SentTransaction } from "./wallet.ts";

/** A deposit that the server is to add, as it travels. */
export type SignedTopUp = Extract<VoucherDeposit, { action: "topUp" }>;

type Common = {
	/** Base units. */
	readonly amount: bigint;
	/** Whether it was asked for and approved. */
	isApproved?: boolean;
};

type Signable = {
	/** Unix milliseconds until which a signature of it may still be used; 0 while there is none. */
	until: number;
	/** Its last signature. A later one has the same nonce, so that all of them together can be executed once. */
	signed?: SignedTopUp;
};

/**
 * A top-up from its plan until the deposit has it. The salt or nonce is chosen once: whatever becomes of answers, however
 * often it is signed and sent, it is executed at most once.
 */
export type PendingTopUp =
	| (Common & Readonly<{ type: "authorization"; salt: Hex }> & Signable)
	| (Common & Readonly<{ type: "permit2"; permit2: Address; nonce: bigint }> & Signable)
	| OwnTopUp;

/** The payer's own transaction, `sent` or not yet. `mined`: the deposit has it, the server may not know. */
export type OwnTopUp = Common & Readonly<{ type: "hash" }> & { sent?: SentTransaction; mined?: boolean };

/** 32 random bytes. */
export function randomBytes32(): Hex {
	const bytes = crypto.getRandomValues(new Uint8Array(32));
	return `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** A Permit2 nonce that nobody has used: its bitmaps have room for 2^256. */
export function randomPermitNonce(): bigint {
	return BigInt(randomBytes32());
}
