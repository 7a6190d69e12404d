/**
 * How each record is written down and read back. Amounts are decimal strings, bodies base64. What does not belong in a
 * record is refused when it is written, in the turn that wrote it, and not when it is read back much later.
 */
import type { Address, Hex } from "viem";
import { z } from "zod";
import type { OutboxEntry, TransactionPurpose } from "../../escrow/outbox.ts";
import { checkPlace, seal, unseal } from "./frame.ts";
import * as keys from "./keys.ts";
import { checkAmount, checkWhole } from "./shape.ts";
import type { AuditEntry, CursorRecord } from "./store.ts";

export { channelWriter, decodeChannel, encodeChannel } from "./channelRecord.ts";
export { decodeIdempotency, encodeIdempotency, idempotencyWriter } from "./idempotencyRecord.ts";
export { decodeProof, encodeProof, proofWriter } from "./proofRecord.ts";

/** A record with its amounts as strings: a field that is added to the record and not here does not compile. */
type Written<T> = {
	[K in keyof T]: T[K] extends bigint | null
		? string | Extract<T[K], null>
		: T[K] extends Readonly<Record<string, bigint>>
			? Record<string, string>
			: T[K];
};

// The checksum vouches for the content. These shapes catch a record of another kind or of another release.
const amount = z.string().regex(/^\d+$/).transform(BigInt);
const hex = z.custom<Hex>((value) => typeof value === "string" && value.startsWith("0x"), "is not hex");
const address: z.ZodType<Address> = hex;
const strings = z.record(z.string(), z.string());

const fees = { maxFeePerGas: z.string().regex(/^\d+$/), maxPriorityFeePerGas: z.string().regex(/^\d+$/) };
const outboxShape: z.ZodType<OutboxEntry> = z.strictObject({
	hash: hex,
	raw: hex,
	chainId: z.int(),
	from: address,
	nonce: z.int(),
	purpose: strings.refine((purpose): purpose is TransactionPurpose => purpose.kind !== undefined, "has no kind"),
	state: z.enum(["pending", "confirmed", "reverted", "dropped"]),
	createdAt: z.int(),
	fees: z.strictObject(fees).exactOptional(),
	feeLimit: z.string().regex(/^\d+$/).exactOptional(),
	bids: z.array(z.strictObject({ hash: hex, raw: hex, ...fees, signedAt: z.int() })).exactOptional(),
	minedIn: z
		.strictObject({ blockNumber: z.int(), blockHash: hex, transactionHash: hex, final: z.boolean() })
		.exactOptional(),
});

export function encodeOutbox(key: string, entry: OutboxEntry): string {
	checkWhole(entry.chainId);
	if (entry.minedIn !== undefined) checkWhole(entry.minedIn.blockNumber);
	return seal(key, entry);
}

export function decodeOutbox(key: string, text: string): OutboxEntry {
	const entry = unseal(key, text, outboxShape);
	checkPlace(key, keys.outboxKey(entry.hash));
	return entry;
}

const cursorShape: z.ZodType<CursorRecord> = z.strictObject({
	name: z.string(),
	blockNumber: amount,
	blockHash: hex,
	updatedAt: z.int(),
});

export function encodeCursor(key: string, cursor: CursorRecord): string {
	const { name, blockNumber, blockHash, updatedAt } = cursor;
	checkAmount(blockNumber);
	checkWhole(updatedAt);
	const written: Written<CursorRecord> = { name, blockNumber: blockNumber.toString(), blockHash, updatedAt };
	return seal(key, written);
}

export function decodeCursor(key: string, text: string): CursorRecord {
	const cursor = unseal(key, text, cursorShape);
	checkPlace(key, keys.cursorKey(cursor.name));
	return cursor;
}

const auditShape: z.ZodType<AuditEntry> = z.strictObject({
	at: z.int(),
	kind: z.string(),
	channelId: hex.exactOptional(),
	values: strings,
});

export function encodeAudit(key: string, entry: AuditEntry): string {
	return seal(key, entry);
}

export function decodeAudit(key: string, text: string): AuditEntry {
	return unseal(key, text, auditShape);
}

const opensShape = z.strictObject({ opens: z.int() });

/** How often the store has been opened, this time included. */
export function encodeOpens(opens: number): string {
	return seal(keys.OPENS_KEY, { opens });
}

export function decodeOpens(text: string): number {
	return unseal(keys.OPENS_KEY, text, opensShape).opens;
}
