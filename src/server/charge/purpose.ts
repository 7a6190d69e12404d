import type { Address, Hex } from "viem";
import type { OutboxEntry, TransactionPurpose } from "../../escrow/outbox.ts";
import type { Terms } from "../evm/terms.ts";
import { challengeKey } from "../proofs.ts";
import type { Transfer } from "./means.ts";
import type { ChargeOrder } from "./order.ts";

/** What a restart has to know of a charge's transaction. */
export type ChargePurpose = Readonly<{
	type: string;
	/** Key of the challenge's proof. */
	proof: string;
	/** Key of the proof of what else the credential uses up. */
	token: string | undefined;
	/** The key of the `Idempotency-Key` that it pays for. */
	idempotency: string | undefined;
	payer: Address;
	transfers: readonly Transfer[];
	/** Of the ERC-3009 authorization that it executes. */
	nonce: Hex | undefined;
}>;

export function purposeOf(
	{ challenge, means, scope, amount }: ChargeOrder,
	{ currency }: Pick<Terms, "currency">,
): TransactionPurpose & Readonly<{ proof: string }> {
	const { type, payer, token, nonce, transfers } = means;
	return {
		kind: "charge",
		type,
		currency,
		proof: challengeKey(challenge),
		payer,
		value: String(amount),
		transfers: JSON.stringify(transfers.map(({ to, value }) => [to, String(value)])),
		...(token !== undefined && { token }),
		...(nonce !== undefined && { nonce }),
		...(scope && { idempotency: scope.key }),
	};
}

export function readPurpose({ purpose }: Pick<OutboxEntry, "purpose">): ChargePurpose {
	const { type = "", proof = "", token, idempotency, payer = "0x", nonce, transfers = "[]" } = purpose;
	const pairs = JSON.parse(transfers) as readonly (readonly [Address, string])[];
	return {
		type,
		proof,
		token,
		idempotency,
		payer: payer as Address,
		transfers: pairs.map(([to, value]) => ({ to, value: BigInt(value) })),
		nonce: nonce as Hex | undefined,
	};
}
