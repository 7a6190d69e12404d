/** What a turn's writes mean for the disk: every record with its index entries, to be written together. */
import { isUnfinal } from "../../escrow/outbox.ts";
import type { Channel } from "../channel.ts";
import { dueChanges } from "./dueIndex.ts";
import * as keys from "./keys.ts";
import * as record from "./record.ts";
import type { IdempotencyRecord, ProofRecord, TurnKeys, TurnView, TurnWrites } from "./store.ts";

/** `null` deletes. */
export type Change = readonly [key: string, value: string | null];

/** The records a turn named, as it found them. */
export type Before = Readonly<{
	channel: Channel | undefined;
	proofs: ReadonlyMap<string, ProofRecord | undefined>;
	idempotency: IdempotencyRecord | undefined;
}>;

/** What the turn is shown: the records it named, and no others. */
export function view(before: Before): TurnView {
	return {
		channel: before.channel,
		idempotency: before.idempotency,
		proof(key) {
			if (!before.proofs.has(key)) throw new TypeError(`a turn looks at proof ${key}, which it did not name`);
			return before.proofs.get(key);
		},
	};
}

/**
 * A turn may only write what it named: nothing else was kept from changing meanwhile.
 *
 * @throws TypeError when it did not
 */
export function checkNamed(named: TurnKeys, writes: TurnWrites): void {
	const { channel, proofs = {}, idempotency } = writes;
	if (channel !== undefined && channel.channelId !== named.channel) unnamed(`channel ${channel.channelId}`);
	if (idempotency === null && named.idempotency === undefined) unnamed("an idempotency record");
	if (idempotency && idempotency.key !== named.idempotency) unnamed(`idempotency record ${idempotency.key}`);
	for (const [key, proof] of Object.entries(proofs)) {
		if (!named.proofs?.includes(key) || (proof !== null && proof.key !== key)) unnamed(`proof ${key}`);
	}
}

/** @param auditKey the place of the next audit line of that time */
export function changes(
	before: Before,
	named: TurnKeys,
	writes: TurnWrites,
	auditKey: (at: number) => string,
): Change[] {
	const all: Change[] = [];
	if (writes.channel !== undefined) {
		const key = keys.channelKey(writes.channel.channelId);
		all.push([key, record.encodeChannel(key, writes.channel)], ...dueChanges(before.channel, writes.channel));
	}
	for (const [name, proof] of Object.entries(writes.proofs ?? {})) {
		const key = keys.proofKey(name);
		all.push([key, proof && record.encodeProof(key, proof)], ...expiryChanges(key, before.proofs.get(name), proof));
	}
	if (writes.idempotency !== undefined && named.idempotency !== undefined) {
		const key = keys.idempotencyKey(named.idempotency);
		const { idempotency } = writes;
		all.push([key, idempotency && record.encodeIdempotency(key, idempotency)]);
		all.push(...expiryChanges(key, before.idempotency, idempotency));
	}
	for (const entry of writes.outbox ?? []) {
		const key = keys.outboxKey(entry.hash);
		all.push([key, record.encodeOutbox(key, entry)], [keys.outboxIndexKey("any", entry), ""]);
		all.push([keys.outboxIndexKey("pending", entry), entry.state === "pending" ? "" : null]);
		all.push([keys.outboxIndexKey("unfinal", entry), isUnfinal(entry) ? "" : null]);
	}
	for (const entry of writes.audit ?? []) {
		const key = auditKey(entry.at);
		all.push([key, record.encodeAudit(key, entry)]);
	}
	return all;
}

type Expiring = Readonly<{ expiresAt: number | null }>;

function expiryChanges(key: string, before: Expiring | undefined, after: Expiring | null): Change[] {
	const from = before?.expiresAt ?? null;
	const to = after?.expiresAt ?? null;
	if (from === to) return [];
	const all: Change[] = [];
	if (from !== null) all.push([keys.expiryKey(from, key), null]);
	if (to !== null) all.push([keys.expiryKey(to, key), ""]);
	return all;
}

function unnamed(what: string): never {
	throw new TypeError(`a turn writes ${what}, which it did not name`);
}
