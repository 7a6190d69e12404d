import { createHash, type Hash } from "node:crypto";
import type { Refused } from "./admission.ts";
import type { Offer } from "./method.ts";
import type { Screened } from "./screen.ts";

/** Hashes a body while it passes. */
export function bodyHash(): Hash {
	return createHash("sha256");
}

/**
 * Digest of a request's body (RFC 9530), of the bytes as they came.
 *
 * @returns empty for an empty body: none is the same as one of no bytes
 */
export function digestOf(hash: Hash, length: number): string {
	return length === 0 ? "" : `sha-256=:${hash.digest("base64")}:`;
}

/**
 * Whether a body has to be read before its request can be answered: a key stands for it, its challenge is bound to it, or the
 * challenge that it gets is going to be (draft-httpauth-payment-00, Request Body Digest Binding).
 *
 * @param looked what the engine's `screen` made of the request
 */
export function isBodyBound(
	looked: Screened | Refused,
	offers: readonly Offer[],
	idempotencyKey: string | undefined,
): boolean {
	if (looked.kind === "refused") return looked.problem.status === 402 && offers.some(({ bindBody }) => bindBody);
	return idempotencyKey !== undefined || looked.credential.challenge.digest !== undefined;
}
