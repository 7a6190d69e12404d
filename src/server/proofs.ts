import type { Address, Hex } from "viem";
import { type Challenge, type Problem, parseTimestamp, problem } from "../protocol/index.ts";
import type { Limits } from "./context.ts";
import type { Terms } from "./evm/terms.ts";
import { sha256 } from "./idempotency.ts";
import { type ChannelStore, datedProof, type ProofRecord } from "./store/store.ts";

/** How long a proof outlives its challenge's expiry: clocks differ a little. */
const EXPIRY_MARGIN_MS = 60_000;

/** Later than any server lives. */
const NEVER_MS = Date.UTC(9999, 0);

const CHALLENGE_KEY = "challenge:";

/** Who may use a challenge: the first channel or payer that did (D9). */
export function challengeKey({ id }: Pick<Challenge, "id">): string {
	return `${CHALLENGE_KEY}${id}`;
}

/**
 * The same of a session's challenge, which is of no use to anybody once it has expired: a charge's may be paid for by then.
 *
 * @param expiresAt as by `expiryOf`
 */
export function sessionChallengeKey(id: string, expiresAt: number): string {
	return datedProof(expiresAt, challengeKey({ id }));
}

/** The challenge that a `challengeKey` stands for. */
export function challengeIdOf(key: string): string {
	return key.slice(CHALLENGE_KEY.length);
}

/**
 * A credential, byte for byte, as sent after the scheme's name (D7), for as long as its challenge can be answered. Only its
 * hash is kept.
 */
export function credentialKey(authorization: string, challenge: Pick<Challenge, "expires">): string {
	const name = `credential:${sha256(authorization.slice("Payment".length).trim())}`;
	return datedProof(expiryOf(challenge), name);
}

/** A funding event of the escrow, credited once (D12). */
export function fundingKey(chainId: number, transactionHash: Hex, logIndex: number): string {
	return `funding:${chainId}:${transactionHash}:${logIndex}`;
}

/**
 * A deposit that the payer has signed: the right to move these tokens once, whatever is signed around it. `nonce` is the
 * token's (ERC-3009) or Permit2's own.
 */
export function signedDepositKey(
	{ chainId, currency }: Pick<Terms, "chainId" | "currency">,
	{ type, from, amount, nonce }: Readonly<{ type: string; from: Address; amount: bigint; nonce: Hex | bigint }>,
): string {
	return `deposit:${chainId}:${currency}:${type}:${from}:${nonce}:${amount}`;
}

/** When a challenge was issued, in Unix milliseconds, as far as its expiry tells. */
export function issuedAt(challenge: Pick<Challenge, "expires">, { challengeTtlSeconds }: Limits, now: number): number {
	return (expiresAtMs(challenge) ?? now) - challengeTtlSeconds * 1_000;
}

/** A transaction that pays a charge, sent by us for its payer or by the payer: once (draft-evm-charge-00, Replay Protection). */
export function transactionKey(chainId: number, hash: Hex): string {
	return `transaction:${chainId}:${hash}`;
}

/** A Permit2 nonce of a payer, which pays once (draft-evm-charge-00, Replay Protection). */
export function permitKey(chainId: number, permit2: Address, owner: Address, nonce: bigint): string {
	return `permit2:${chainId}:${permit2}:${owner}:${nonce}`;
}

/** When a proof tied to this challenge may be forgotten: when the challenge itself is refused; never, where it never is. */
export function expiryOf(challenge: Pick<Challenge, "expires">): number {
	const expiresAt = expiresAtMs(challenge);
	return expiresAt === undefined ? NEVER_MS : expiresAt + EXPIRY_MARGIN_MS;
}

/** Challenges that were read before; a `ChallengeBook` shows one of them as the same object each time. */
const EXPIRIES = new WeakMap<Pick<Challenge, "expires">, number>();

/** When a challenge expires, in Unix milliseconds, as far as it says. */
function expiresAtMs(challenge: Pick<Challenge, "expires">): number | undefined {
	const known = EXPIRIES.get(challenge);
	if (known !== undefined) return known;
	const read = parseTimestamp(challenge.expires ?? "");
	if (read !== undefined) EXPIRIES.set(challenge, read);
	return read;
}

/** The record that gives a session's challenge to `usedBy` and nobody else, until `expiresAt` in Unix milliseconds. */
export function consumedChallenge(
	id: string,
	expiresAt: number,
	usedBy: string,
	{ owner }: Pick<ChannelStore, "owner">,
): ProofRecord {
	return { key: sessionChallengeKey(id, expiresAt), state: "used", owner, usedBy, expiresAt };
}

/** Two channels raced for one challenge and this one lost. */
export class ChallengeTakenError extends Error {
	override readonly name = "ChallengeTakenError";
	readonly code = "CHALLENGE_TAKEN";
}

export function foreignChallengeProblem(): Problem {
	return problem("session/challenge-not-found", "This challenge was answered by another channel; use a fresh one.");
}
