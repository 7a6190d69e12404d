/** Charges as payers send them: signed by libsecp256k1, so that a bench has many of them soon. */
import type { Address, Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { type Challenge, encodeChargePayload, formatCredential } from "../../src/protocol/index.ts";
import { authorizationDigest, chargeNonce, type TokenDomain } from "../../src/voucher/index.ts";
import { signDigest } from "../lib/vouchers.ts";

/** Pays by what it signs: it needs tokens where its charges are executed, and never any gas. */
export type Payer = Readonly<{ address: Address; key: Hex }>;

/** Long after the bench: how soon a payer lets its authorization expire changes nothing in how fast it is checked. */
const IN_A_DAY_SECONDS = 86_400;

export function makePayers(count: number): readonly Payer[] {
	return Array.from({ length: count }, () => {
		const key = generatePrivateKey();
		return { key, address: privateKeyToAccount(key).address.toLowerCase() as Address };
	});
}

/** The `Authorization` value of a charge of type `authorization`. */
export function chargeHeader(
	domain: TokenDomain,
	challenge: Challenge,
	{ address: from, key }: Payer,
	{ to, value }: Readonly<{ to: Address; value: bigint }>,
): string {
	const validBefore = BigInt(Math.floor(Date.now() / 1_000) + IN_A_DAY_SECONDS);
	const nonce = chargeNonce(challenge.id, challenge.realm);
	const authorization = { from, to, value, validAfter: 0n, validBefore, nonce };
	const signature = signDigest(authorizationDigest("transfer", domain, authorization), key);
	return formatCredential({
		challenge,
		payload: encodeChargePayload({ type: "authorization", ...authorization, signature }),
	});
}
