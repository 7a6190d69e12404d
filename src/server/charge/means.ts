import type { Address, Hex, TransactionReceipt } from "viem";
import type { Call } from "../../escrow/calls.ts";
import { findTransfers } from "../../escrow/events.ts";
import type { ChargeRequest, Problem } from "../../protocol/index.ts";
import { problem } from "../../protocol/index.ts";
import type { Refused } from "../admission.ts";
import type { ChargeCredentialType } from "../evm/offer.ts";

/** One movement of the charge's token that has to show in its transaction's logs. Base units. */
export type Transfer = Readonly<{ to: Address; value: bigint }>;

/**
 * What a credential type has to say of one credential, after all that needs no transaction was checked. The common way
 * (see `charge.ts`) does the rest.
 */
export type Means = Readonly<{
	type: ChargeCredentialType;
	/** Whose tokens move. */
	payer: Address;
	/**
	 * To whom an `Idempotency-Key` belongs: the payer where a signature shows that the payer sent this credential; where
	 * nothing does, whoever has this very transaction.
	 */
	keyOwner: string;
	/**
	 * Key of the proof that the credential uses up besides its challenge (draft-evm-charge-00, Replay Protection). Absent
	 * where the challenge is the whole of it.
	 */
	token?: string;
	/** All transfers that the charge consists of. */
	transfers: readonly Transfer[];
	/** The ERC-3009 nonce: by it the token tells who else may have executed the authorization. */
	nonce?: Hex;
	/** Why no money may be moved with it now, by the clock alone. */
	late(): Problem | undefined;
	/** Why the chain would not let it through: asked before anything is stored or any gas is spent. */
	foresee(): Promise<Problem | undefined>;
	movement: Movement;
}>;

/** How the money moves. */
export type Movement =
	/** By a call of ours; we pay the gas. */
	| Readonly<{ kind: "call"; call: Call }>
	/** By the payer's own transaction, which we broadcast. */
	| Readonly<{ kind: "signed"; hash: Hex; raw: Hex; from: Address; nonce: number }>
	/** It has moved, if `find` finds it on chain. */
	| Readonly<{ kind: "moved"; hash: Hex; find: () => Promise<Refused | undefined> }>;

export type Verified = Means | Readonly<{ problem: Problem }>;

/** The one type of refusal for whatever is wrong with a payment (draft-evm-charge-00, Error Responses). */
export function failed(detail: string, extensions: Record<string, unknown> = {}): Readonly<{ problem: Problem }> {
	return { problem: problem("verification-failed", detail, extensions) };
}

/** The recipient's part first, then the splits in their order (draft-evm-charge-00, Payment Splits). */
export function transfersOf({ amount, recipient, methodDetails }: ChargeRequest): readonly Transfer[] {
	const splits = methodDetails.splits ?? [];
	const primary = splits.reduce((rest, split) => rest - split.amount, amount);
	return [{ to: recipient, value: primary }, ...splits.map((split) => ({ to: split.recipient, value: split.amount }))];
}

/** Whether every one of `transfers` shows in the logs, each by a log of its own (draft-evm-charge-00, Permit2 Verification 14). */
export function hasAllTransfers(
	receipt: TransactionReceipt,
	token: Address,
	from: Address,
	transfers: readonly Transfer[],
): boolean {
	const left = findTransfers(receipt, token).filter((one) => one.from === from);
	return transfers.every(({ to, value }) => {
		const at = left.findIndex((one) => one.to === to && one.value === value);
		if (at >= 0) left.splice(at, 1);
		return at >= 0;
	});
}
