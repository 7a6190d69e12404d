/** Refused payments as JSON-RPC errors (draft-payment-transport-mcp-00, sections "Signaling Payment Required" and "Error Handling"). */

import * as z from "zod";
import type { Challenge } from "./challenge.ts";
import { isJsonObject } from "./json.ts";
import { challengeToRpc, RPC_PAYMENT_CODES, type RpcChallenge } from "./jsonrpc.ts";
import { PROBLEM_BASE_URI, type Problem, parseProblem, problemType } from "./problem.ts";

/** The most challenges that are read of one error. */
const MAX_CHALLENGES = 32;

/** A JSON-RPC error. */
export type RpcError = Readonly<{ code: number; message: string; data?: unknown }>;

/** What a refusal says beside its problem. */
export type RpcRefusalOptions = Readonly<{
	/** Fresh ones: for what has to be paid, and for what was not taken. */
	challenges?: readonly Challenge[];
	/** When to come back, in seconds. */
	retryAfterSeconds?: number | undefined;
}>;

/**
 * A refusal as its error. What asks for a payment is -32042, a payment that is not taken -32043, one that can't be read -32602,
 * and all that is no fault of the payment -32603.
 *
 * @example
 * ```ts
 * rpcRefusal(problem("payment-required", "This tool has to be paid for."), { challenges });
 * ```
 */
export function rpcRefusal(why: Problem, options: RpcRefusalOptions = {}): RpcError {
	const { challenges = [], retryAfterSeconds } = options;
	const code = rpcCodeOf(why);
	const data = {
		httpStatus: why.status,
		...(needsChallenges(code) && { challenges: challenges.map(challengeToRpc) }),
		...(code === RPC_PAYMENT_CODES.verificationFailed && { failure: { reason: reasonOf(why), detail: why.detail } }),
		...(code === RPC_PAYMENT_CODES.invalidParams && { detail: why.detail }),
		...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
		problem: why,
	};
	return { code, message: MESSAGES[code], data };
}

/** The code of a problem. */
export function rpcCodeOf({ type, status }: Problem): keyof typeof MESSAGES {
	const { paymentRequired, verificationFailed, invalidParams, internalError } = RPC_PAYMENT_CODES;
	if (type === problemType("payment-required")) return paymentRequired;
	if (type === problemType("malformed-credential")) return invalidParams;
	if (type.startsWith(PROBLEM_BASE_URI)) return verificationFailed;
	return status === 400 || status === 413 || status === 422 ? invalidParams : internalError;
}

/** Whether an error of this code has to bring fresh challenges. */
export function needsChallenges(code: number): boolean {
	return code === RPC_PAYMENT_CODES.paymentRequired || code === RPC_PAYMENT_CODES.verificationFailed;
}

const MESSAGES = {
	[-32042]: "Payment Required",
	[-32043]: "Payment Verification Failed",
	[-32602]: "Invalid params",
	[-32603]: "Internal error",
} as const;

/** `session/invalid-signature` of its type. */
function reasonOf({ type }: Problem): string {
	return type.startsWith(PROBLEM_BASE_URI) ? type.slice(PROBLEM_BASE_URI.length) : type;
}

/** What an error says of a payment, read. */
export type RpcRefusal = Readonly<{
	code: number;
	/** What the server would have answered over HTTP, of 400 to 599; 402 where it does not say. */
	httpStatus: number;
	/** Not checked beyond being objects: one that can't be read must not hide the others. */
	challenges: readonly RpcChallenge[];
	problem: Problem | undefined;
	failure: Readonly<{ reason?: string; detail?: string }> | undefined;
	retryAfterSeconds: number | undefined;
}>;

const failureSchema = z.object({ reason: z.string().exactOptional(), detail: z.string().exactOptional() });

/**
 * Reads an error of a server's about a payment: one of the two codes with at least one challenge, or any other with a `problem`.
 * `undefined` for what is not about a payment, such as the -32042 by which an MCP server wants a URL to be visited.
 *
 * @example
 * ```ts
 * const refusal = parseRpcRefusal(error);
 * if (refusal?.code === -32042) pay(refusal.challenges);
 * ```
 */
export function parseRpcRefusal({ code, data }: RpcError): RpcRefusal | undefined {
	if (!isJsonObject(data)) return undefined;
	const given = Array.isArray(data.challenges) ? data.challenges.slice(0, MAX_CHALLENGES) : [];
	const challenges = given.filter(isJsonObject) as unknown as readonly RpcChallenge[];
	const problem = parseProblem(data.problem);
	if (needsChallenges(code) ? challenges.length === 0 : problem === undefined) return undefined;
	const failure = failureSchema.safeParse(data.failure);
	const { httpStatus, retryAfterSeconds } = data;
	return {
		code,
		httpStatus: [httpStatus, problem?.status].find(isErrorStatus) ?? 402,
		challenges,
		problem,
		failure: failure.success ? failure.data : undefined,
		retryAfterSeconds: typeof retryAfterSeconds === "number" && retryAfterSeconds >= 0 ? retryAfterSeconds : undefined,
	};
}

function isErrorStatus(status: unknown): status is number {
	return typeof status === "number" && Number.isInteger(status) && status >= 400 && status < 600;
}
