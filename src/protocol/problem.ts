/**
 * Problems (RFC 9457): the one vocabulary in which a server refuses (core draft, section "Error Codes"; session draft, section
 * "Problem Type Registration"; DESIGN D1 and D18).
 */

import * as z from "zod";
import { toWire } from "./json.ts";

/** What all problem types of the drafts begin with. */
export const PROBLEM_BASE_URI = "https://paymentauth.org/problems/";

/** Media type of a problem body. */
export const PROBLEM_CONTENT_TYPE = "application/problem+json";

const PROBLEMS = {
	"payment-required": { title: "Payment Required", status: 402 },
	"payment-insufficient": { title: "Payment Insufficient", status: 402 },
	"payment-expired": { title: "Payment Expired", status: 402 },
	"verification-failed": { title: "Payment Verification Failed", status: 402 },
	"method-unsupported": { title: "Payment Method Unsupported", status: 400 },
	"malformed-credential": { title: "Malformed Credential", status: 402 },
	"invalid-challenge": { title: "Invalid Challenge", status: 402 },

	"session/invalid-signature": { title: "Invalid Signature", status: 402 },
	"session/signer-mismatch": { title: "Signer Mismatch", status: 402 },
	"session/amount-exceeds-deposit": { title: "Amount Exceeds Deposit", status: 402 },
	"session/delta-too-small": { title: "Delta Too Small", status: 402 },
	"session/channel-not-found": { title: "Channel Not Found", status: 410 },
	"session/channel-finalized": { title: "Channel Finalized", status: 410 },
	"session/challenge-not-found": { title: "Challenge Not Found", status: 402 },
	"session/insufficient-balance": { title: "Insufficient Balance", status: 402 },
	"session/transaction-reverted": { title: "Transaction Reverted", status: 409 },
	"session/channel-closing": { title: "Channel Closing", status: 409 },
} as const satisfies Record<string, Definition>;

/** Plain HTTP conditions. Their type is `about:blank`, so RFC 9457 wants the status's own name as the title. */
const PLAIN_PROBLEMS = {
	"bad-request": { title: "Bad Request", status: 400 },
	forbidden: { title: "Forbidden", status: 403 },
	conflict: { title: "Conflict", status: 409 },
	"content-too-large": { title: "Content Too Large", status: 413 },
	"unprocessable-content": { title: "Unprocessable Content", status: 422 },
	"too-many-requests": { title: "Too Many Requests", status: 429 },
	"service-unavailable": { title: "Service Unavailable", status: 503 },
} as const satisfies Record<string, Definition>;

type Definition = { readonly title: string; readonly status: number };

const DEFINITIONS = { ...PROBLEMS, ...PLAIN_PROBLEMS };

/** Name of a problem: the end of the draft's type URI, or the name of a plain HTTP condition. */
export type ProblemName = keyof typeof DEFINITIONS;

/** The names of all problems, for documentation and tests. */
export const PROBLEM_NAMES = Object.keys(DEFINITIONS) as readonly ProblemName[];

/** A problem body. Members beyond the four are the offending values; amounts are decimal strings. */
export type Problem = {
	/** URI that names the kind of problem. */
	readonly type: string;
	/** Short name of the kind, the same for every problem of it. */
	readonly title: string;
	/** HTTP status. */
	readonly status: number;
	/** What went wrong this time, for people. */
	readonly detail: string;
	readonly [extension: string]: unknown;
};

/** The offending values of a problem. They cannot replace what its type fixes. */
export type ProblemExtensions = {
	readonly [name: string]: unknown;
	readonly type?: never;
	readonly title?: never;
	readonly status?: never;
	readonly detail?: never;
};

/**
 * Makes a problem body. Never put a credential, key or signature in it.
 *
 * @param name which problem; a name that does not exist does not compile
 * @param detail what went wrong this time, for people
 * @param extensions offending values; a bigint becomes a decimal string, `undefined` is left out
 * @example
 * ```ts
 * problem("session/amount-exceeds-deposit", "The voucher is above the deposit.", { deposit: 500n });
 * // { type: "https://paymentauth.org/problems/session/amount-exceeds-deposit", title: "Amount Exceeds Deposit",
 * //   status: 402, detail: "The voucher is above the deposit.", deposit: "500" }
 * ```
 */
export function problem(name: ProblemName, detail: string, extensions: ProblemExtensions = {}): Problem {
	const fixed = { type: problemType(name), ...DEFINITIONS[name], detail };
	// Twice: first for the order of the members, then so that no extension can replace them.
	return { ...fixed, ...toWire(extensions), ...fixed };
}

/**
 * The type URI of a problem; `about:blank` for a plain HTTP condition.
 *
 * @example
 * ```ts
 * problemType("payment-required"); // "https://paymentauth.org/problems/payment-required"
 * ```
 */
export function problemType(name: ProblemName): string {
	return name in PLAIN_PROBLEMS ? "about:blank" : PROBLEM_BASE_URI + name;
}

/**
 * The HTTP status of a problem.
 *
 * @example
 * ```ts
 * problemStatus("session/channel-finalized"); // 410
 * ```
 */
export function problemStatus(name: ProblemName): number {
	return DEFINITIONS[name].status;
}

const problemSchema = z.looseObject({
	type: z.string().default("about:blank"),
	title: z.string().default(""),
	status: z.number().int(),
	detail: z.string().default(""),
});

/**
 * Reads a problem body that a server sent.
 *
 * @returns `undefined` when it is not one; members it lacks are empty, its type is then `about:blank`
 * @example
 * ```ts
 * const refusal = parseProblem(await response.json());
 * if (refusal?.type === problemType("session/delta-too-small")) signMore(refusal);
 * ```
 */
export function parseProblem(body: unknown): Problem | undefined {
	const parsed = problemSchema.safeParse(body);
	return parsed.success ? parsed.data : undefined;
}
