/**
 * Where each record and index entry is kept. Records begin with one letter, indexes of them with two; LevelDB orders
 * keys by their bytes, so numbers are padded. Index entries have no value, but for those of what expires, which name records.
 */
import type { Hex } from "viem";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import { DIGITS, sortable } from "./sortable.ts";
import { datedProof, type OutboxState } from "./store.ts";

/** Every key of one kind, in order: from the first that follows `gt` to the last before `lt`. */
export type Range = Readonly<{ gt: string; lt: string }>;

const OUTBOX_INDEX: Readonly<Record<OutboxState, string>> = { pending: "op:", unfinal: "of:", any: "oa:" };

export const OPENS_KEY = "m:opens";

export const channelKey = keysOf("c:");

/** The channel that a `channelKey` is of. */
export function channelIdOf(key: string): Hex {
	return key.slice(2) as Hex;
}

export const proofKey = keysOf("p:");

/** The proof that a `proofKey` is of. */
export function proofOf(key: string): string {
	return key.slice(2);
}

export function isProofKey(key: string): boolean {
	return key.startsWith("p:");
}

export const idempotencyKey = keysOf("i:");

/** The name that an `idempotencyKey` was made of. */
export function idempotencyOf(key: string): string {
	return key.slice(2);
}

/** All answers for a retry. */
export const ANSWERS: Range = all("i:");

export function cursorKey(name: string): string {
	return `n:${wellFormed(name)}`;
}

export function outboxKey(hash: string): string {
	return `o:${wellFormed(hash)}`;
}

/** Audit lines are ordered by time; `opens` and `sequence` keep those of one moment apart, and in order. */
export function auditKey(at: number, opens: number, sequence: number): string {
	return `a:${sortable(at)}:${sortable(opens)}:${sortable(sequence)}`;
}

/** The place of a transaction among all, or among those of one state: by creation, then by nonce. */
export function outboxIndexKey(state: OutboxState, entry: OutboxEntry): string {
	return `${outboxIndex(state)}${sortable(entry.createdAt)}:${sortable(entry.nonce)}:${entry.hash}`;
}

export function outboxIndex(state: OutboxState): string {
	return OUTBOX_INDEX[state];
}

/** The place of an entry about records that expire from `at` on; `opens` and `sequence` keep those of one time apart. */
export function expiryEntryKey(at: number, opens: number, sequence: number): string {
	return `xs:${sortable(at)}:${sortable(opens)}:${sortable(sequence)}`;
}

/** The time in an expiry entry's key. */
export function expiryOf(entryKey: string): number {
	return Number(entryKey.slice(3, 3 + DIGITS));
}

/** Expiry entries whose time came before `now`. */
export function expiredBefore(now: number): Range {
	return { gt: "xs:", lt: `xs:${sortable(now)}` };
}

/** The same of earlier releases, which had one for each record. */
export function expiredSinglyBefore(now: number): Range {
	return { gt: "xp:", lt: `xp:${sortable(now)}` };
}

/** Dated proofs whose time came before `now`. */
export function datedBefore(now: number): Range {
	return { gt: proofKey(datedProof(0, "")), lt: proofKey(datedProof(now, "")) };
}

/** The key of the record that an outbox index entry points to, or an expiry entry of earlier releases. */
export function indexedKey(indexKey: string, numbers: number): string {
	return indexKey.slice(3 + numbers * (DIGITS + 1));
}

/** All keys that begin with `prefix`, which ends in a colon. */
export function all(prefix: string): Range {
	return { gt: prefix, lt: `${prefix.slice(0, -1)};` };
}

/** A turn asks for the key of one name several times: the same string then, whose hash is known. */
function keysOf(prefix: string): (name: string) => string {
	let latest = "";
	let key = prefix;
	return (name) => {
		if (name !== latest) {
			key = prefix + wellFormed(name);
			latest = name;
		}
		return key;
	};
}

/** UTF-8 has no lone surrogates: two keys that differ in one would share a record. */
function wellFormed(key: string): string {
	if (!key.isWellFormed()) throw new RangeError(`${JSON.stringify(key)} is no text that can be a key`);
	return key;
}
