/**
 * How an answer for a retry is written down and read back: its values without their names, and without its key, which is where it
 * lies.
 *
 *     ["47DE…fingerprint","done","0190…owner",1795861399939,null,[200,{"content-type":"…"},"eyJ…body",[…receipt]]]
 */
import { z } from "zod";
import { type SessionReceipt, sessionReceiptSchema } from "../../protocol/index.ts";
import { checkPlace, open, seal, unseal } from "./frame.ts";
import * as keys from "./keys.ts";
import { checkWhole, oneOf, ShapeError, shaped, text, whole } from "./shape.ts";
import type { IdempotencyRecord, StoredResponse } from "./store.ts";

const STATES = ["running", "done"] as const satisfies readonly IdempotencyRecord["state"][];

export function encodeIdempotency(key: string, record: IdempotencyRecord): string {
	const written = idempotencyWriter(key, record);
	return typeof written === "function" ? written() : written;
}

/**
 * Checks the record now; what comes of it makes its text, when that is about to be written. An answer is written down at once:
 * what is in it is the application's, who may have put anything there, and is its only version.
 *
 * @throws RangeError for a time or a status that is none
 */
export function idempotencyWriter(key: string, record: IdempotencyRecord): string | (() => string) {
	const { fingerprint, state, owner, expiresAt, paidBy = null, response } = record;
	checkWhole(expiresAt);
	const row = [fingerprint, state, owner, expiresAt, paidBy];
	if (response === undefined) return () => seal(key, row);
	const { status, headers, body, receipt } = response;
	checkWhole(status);
	const { buffer, byteOffset, byteLength } = body ?? new Uint8Array();
	const base64 = body && Buffer.from(buffer, byteOffset, byteLength).toString("base64");
	return seal(key, [...row, [status, headers, base64, ...(receipt === undefined ? [] : [receiptRow(receipt)])]]);
}

/** What all receipts of sessions have alike is left out: the first three members, and `reference`, which is the channel. */
function receiptRow({
	method: _method,
	intent: _intent,
	status: _status,
	reference: _reference,
	timestamp,
	challengeId,
	chainId,
	channelId,
	acceptedCumulative,
	spent,
	...others
}: SessionReceipt): readonly unknown[] {
	return [timestamp, challengeId, chainId, channelId, acceptedCumulative.toString(), spent.toString(), others];
}

/** @throws CorruptRecordError when it is damaged, of another kind, or of a release that is not known here */
export function decodeIdempotency(key: string, framed: string): IdempotencyRecord {
	const value = open(key, framed);
	if (!Array.isArray(value)) return decodeNamed(key, framed);
	return shaped(key, () => recordOf(keys.idempotencyOf(key), value));
}

function recordOf(key: string, row: readonly unknown[]): IdempotencyRecord {
	if (row.length < 5 || row.length > 6) throw new ShapeError(`${row.length} values`);
	const [fingerprint, state, owner, expiresAt, paidBy, response] = row;
	return {
		key,
		fingerprint: text(fingerprint),
		state: oneOf(STATES, state),
		owner: text(owner),
		...(paidBy !== null && { paidBy: text(paidBy) }),
		...(response !== undefined && { response: responseOf(response) }),
		expiresAt: whole(expiresAt),
	};
}

function responseOf(value: unknown): StoredResponse {
	const response = responseShape.safeParse(value);
	if (!response.success) throw new ShapeError("no answer");
	const [status, headers, body, receipt] = response.data;
	return { status, headers, body, ...(receipt !== undefined && { receipt }) };
}

const fieldsShape = z.record(z.string(), z.union([z.string(), z.array(z.string())]));
const statusShape = z.int().nonnegative();
const bodyShape = z.base64().transform((base64) => new Uint8Array(Buffer.from(base64, "base64")));
const receiptShape = z
	.tuple([z.string(), z.string(), z.int(), z.string(), z.string(), z.string(), z.record(z.string(), z.unknown())])
	.transform(([timestamp, challengeId, chainId, channelId, acceptedCumulative, spent, others]) => ({
		...others,
		method: "evm",
		intent: "session",
		status: "success",
		timestamp,
		challengeId,
		chainId,
		reference: channelId,
		channelId,
		acceptedCumulative,
		spent,
	}))
	.pipe(sessionReceiptSchema);
const responseShape = z.union([
	z.tuple([statusShape, fieldsShape, bodyShape.nullable(), receiptShape]),
	z.tuple([statusShape, fieldsShape, bodyShape.nullable()]),
]);
const namedShape: z.ZodType<IdempotencyRecord> = z.strictObject({
	key: z.string(),
	fingerprint: z.string(),
	state: z.enum(STATES),
	owner: z.string(),
	paidBy: z.string().exactOptional(),
	response: z.strictObject({ status: statusShape, headers: fieldsShape, body: bodyShape.nullable() }).exactOptional(),
	expiresAt: z.int(),
});

/** As earlier releases wrote it, with names. */
function decodeNamed(key: string, framed: string): IdempotencyRecord {
	const record = unseal(key, framed, namedShape);
	checkPlace(key, keys.idempotencyKey(record.key));
	return record;
}
