import type { OpaqueData, Problem } from "../protocol/index.ts";
import type { Offer } from "./method.ts";
import type { AnyReceipt } from "./receipts.ts";
import type { StoredResponse } from "./store/store.ts";
import type { Meter, MeterControl } from "./stream/meter.ts";

/** A request as every face of the engine presents it. */
export type PaidRequest = Readonly<{
	method: string;
	/** Path and query as the route saw them. */
	url: string;
	/** All values of the `Authorization` header. */
	authorization: readonly string[];
	/** The `Idempotency-Key` header, if any. */
	idempotencyKey: string | undefined;
	/** The `Last-Event-ID` header, if any: the client has a stream up to there, and wants what follows. */
	lastEventId?: string | undefined;
	/** Digest of the body (RFC 9530, sha-256), empty when there is none: part of what an `Idempotency-Key` stands for. */
	bodyDigest: string;
	/** What this route asks for, the preferred offer first. Never empty. */
	offers: readonly Offer[];
	/** Each challenge is good for one credential, also in a session: over JSON-RPC (draft-payment-transport-mcp-00, Replay Protection; D9). */
	usesChallengeOnce?: boolean;
}>;

/** The request is not served: `problem` is its answer, with a fresh challenge for each offer when it is a 402. */
export type Refused = Readonly<{ kind: "refused"; problem: Problem; retryAfterSeconds?: number }>;

/** The request was about the channel itself (open, close, `HEAD` voucher): the receipt is its answer (D11). */
export type Managed = Readonly<{ kind: "managed"; receipt: AnyReceipt }>;

/** The request was served before: the same answer again, nothing charged (I6). */
export type Replayed = Readonly<{ kind: "replayed"; response: StoredResponse }>;

/** The request is paid for, or promised to be: run the handler, then `capture` before the first byte leaves, or `release`. */
export type Admitted = Readonly<{
	kind: "admitted";
	payment: Payment;
	/** Of a request that is paid by what it uses: its answer may go on while it is paid for. */
	metered?: MeterControl;
	/** What the head of an answer that goes on carries: the payment as it is by then. Its voucher is on disk when this resolves. */
	receipt?(): Promise<AnyReceipt>;
	/**
	 * Takes the payment; resolves when it is on disk. `response` makes the answer that a retry gets again, from its receipt.
	 * Resolves to a refusal when the payment can no longer be taken: then nothing may be delivered.
	 */
	capture(response: (receipt: AnyReceipt) => StoredResponse): Promise<Captured | Refused>;
	/** The handler failed or the client went away: the request costs nothing (I7), a metered one what has left of it. */
	release(): Promise<void>;
}>;

export type Captured = Readonly<{ kind: "captured"; receipt: AnyReceipt }>;

/**
 * What a handler may know of the payment it works for.
 *
 * @example
 * app.get("/quote", { config: { payment: { price: "100" } } }, async ({ payment }) => ({ paidBy: payment?.payer }));
 */
export type Payment = Readonly<{
	/** `session` or `charge`; other payment methods may have others. */
	intent: string;
	/** What this request costs, or one unit of it where it is metered; in base units of the token. */
	amount: bigint;
	/** Who pays: of `evm` an address, lowercase. */
	payer: string;
	/** Sessions only. */
	channelId?: `0x${string}`;
	/** Charges only: the transaction that moved the money. */
	txHash?: `0x${string}`;
	/** Metered routes only: what this request uses is charged with it. */
	meter?: Meter;
	/** What the price had given along as `opaque` when this payment was asked for. */
	opaque?: OpaqueData;
}>;

export type Admission = Refused | Managed | Replayed | Admitted;

/** When to ask again where nobody knows better: what is unavailable now is said to come back (I10). */
const RETRY_AFTER_SECONDS = 5;

export function refused(problem: Problem, retryAfterSeconds?: number): Refused {
	const seconds = retryAfterSeconds ?? (problem.status === 503 ? RETRY_AFTER_SECONDS : undefined);
	return { kind: "refused", problem, ...(seconds !== undefined && { retryAfterSeconds: seconds }) };
}
