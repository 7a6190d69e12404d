/**
 * Receipts (core draft, section "Payment-Receipt Header"; session draft, section "Receipt Generation"; charge draft, section
 * "Receipt Generation").
 */

import * as z from "zod";
import { encodeBase64url } from "./base64url.ts";
import { anyCaseBytes, bytes32, chainId, uint128 } from "./fields.ts";
import { decodeJson, toWire } from "./json.ts";
import { parseTimestamp } from "./timestamp.ts";

const timestamp = z.string().refine((text) => parseTimestamp(text) !== undefined, "must be an RFC 3339 date-time");
const shared = {
	method: z.literal("evm"),
	status: z.literal("success"),
	timestamp,
	challengeId: z.string().min(1),
	chainId,
};

/** Shape of a session receipt. */
export const sessionReceiptSchema = z
	.object({
		...shared,
		intent: z.literal("session"),
		reference: bytes32,
		channelId: bytes32,
		acceptedCumulative: uint128,
		spent: uint128,
		units: z.number().nonnegative().exactOptional(),
		txHash: bytes32.exactOptional(),
		confirmations: z.number().int().nonnegative().exactOptional(),
	})
	.refine((receipt) => receipt.reference === receipt.channelId);

/**
 * What a session has paid so far, in base units: `acceptedCumulative` is the highest voucher taken, `spent` what was charged.
 * `units` were consumed by this request; `txHash` is there when something was settled. `reference` equals `channelId`.
 */
export type SessionReceipt = z.output<typeof sessionReceiptSchema>;

/** Shape of a charge receipt. On the wire it has no `intent`, so one is given to it here. */
export const chargeReceiptSchema = z.object({
	...shared,
	intent: z.literal("charge").default("charge"),
	reference: anyCaseBytes(32),
	externalId: z.string().exactOptional(),
});

/** That a charge was settled: `reference` is the transaction's hash, `timestamp` the time of settlement. */
export type ChargeReceipt = z.output<typeof chargeReceiptSchema>;

/** A receipt, told apart by `intent`. */
export type Receipt = SessionReceipt | ChargeReceipt;

const receiptSchema = z.union([sessionReceiptSchema, chargeReceiptSchema]);

/**
 * The JSON form of a receipt, as bodies and `payment-receipt` events carry it: amounts as decimal strings.
 *
 * @example
 * ```ts
 * reply.send(receiptToJson(receipt));
 * ```
 */
export function receiptToJson(receipt: Receipt): Record<string, unknown> {
	if (receipt.intent === "session") return sessionToJson(receipt);
	// The charge draft's receipt has no intent.
	const { intent, ...rest } = toWire(receipt);
	return rest;
}

/** By name, in less than half the time that `toWire` takes: each paid request of a session has a receipt. */
function sessionToJson(receipt: SessionReceipt): Record<string, unknown> {
	const { units, txHash, confirmations } = receipt;
	const json: Record<string, unknown> = {
		intent: receipt.intent,
		method: receipt.method,
		status: receipt.status,
		timestamp: receipt.timestamp,
		challengeId: receipt.challengeId,
		chainId: receipt.chainId,
		reference: receipt.reference,
		channelId: receipt.channelId,
		acceptedCumulative: receipt.acceptedCumulative.toString(),
		spent: receipt.spent.toString(),
	};
	if (units !== undefined) json.units = units;
	if (txHash !== undefined) json.txHash = txHash;
	if (confirmations !== undefined) json.confirmations = confirmations;
	return json;
}

/**
 * Reads the JSON form of a receipt. Unknown members are left out.
 *
 * @throws {MalformedReceiptError} when it is no session or charge receipt
 * @example
 * ```ts
 * receiptFromJson(JSON.parse(event.data));
 * ```
 */
export function receiptFromJson(json: unknown): Receipt {
	const parsed = receiptSchema.safeParse(json);
	if (!parsed.success) throw new MalformedReceiptError("shape");
	return parsed.data;
}

/**
 * Writes a receipt as a `Payment-Receipt` value. Core wants it treated as sensitive and kept out of shared caches.
 *
 * @example
 * ```ts
 * reply.header("Payment-Receipt", encodeReceipt(receipt)).header("Cache-Control", "private");
 * ```
 */
export function encodeReceipt(receipt: Receipt): string {
	return encodeBase64url(JSON.stringify(receiptToJson(receipt)));
}

/**
 * Reads a `Payment-Receipt` value.
 *
 * @throws {MalformedReceiptError} when it is not base64url of a session or charge receipt
 * @example
 * ```ts
 * const receipt = decodeReceipt(response.headers.get("Payment-Receipt") ?? "");
 * if (receipt.intent === "session") remember(receipt.channelId, receipt.spent);
 * ```
 */
export function decodeReceipt(text: string): Receipt {
	return receiptFromJson(receiptJson(text));
}

const coreReceiptSchema = z.looseObject({
	method: z.string().regex(/^[a-z]+$/),
	status: z.literal("success"),
	timestamp,
	reference: z.string(),
});

/** What a receipt of any payment method says. What its method adds is there as it came. */
export type CoreReceipt = Readonly<z.output<typeof coreReceiptSchema>>;

/**
 * Reads a `Payment-Receipt` value of any payment method, and of servers that leave out what the EVM drafts add: the four
 * fields of core, section "Payment-Receipt Header".
 *
 * @throws {MalformedReceiptError} when it is not base64url of a JSON object with those four
 * @example
 * ```ts
 * const { method, reference } = decodeCoreReceipt(response.headers.get("Payment-Receipt") ?? "");
 * ```
 */
export function decodeCoreReceipt(text: string): CoreReceipt {
	const parsed = coreReceiptSchema.safeParse(receiptJson(text));
	if (!parsed.success) throw new MalformedReceiptError("shape");
	return parsed.data;
}

function receiptJson(text: string): unknown {
	try {
		return decodeJson(text);
	} catch {
		throw new MalformedReceiptError("encoding");
	}
}

/** A receipt that cannot be read. It carries none of it. */
export class MalformedReceiptError extends Error {
	override readonly name = "MalformedReceiptError";
	/** Stable code of this error. */
	readonly code = "malformed_receipt";
	/** `encoding`: not base64url of a JSON object. `shape`: not a session or charge receipt. */
	readonly reason: "encoding" | "shape";

	constructor(reason: "encoding" | "shape") {
		super(
			`Not a receipt: ${reason === "encoding" ? "not base64url of a JSON object" : "a member is missing or wrong"}.`,
		);
		this.reason = reason;
	}
}
