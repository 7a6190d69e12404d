/** What a turn's writes mean for the disk: every record with its index entries, to be written together. */
import { isUnfinal } from "../../escrow/outbox.ts";
import type { Channel } from "../channel.ts";
import { dueChanges } from "./dueIndex.ts";
import type { Written } from "./groupCommit.ts";
import * as keys from "./keys.ts";
import * as record from "./record.ts";
import {
	type IdempotencyRecord,
	isDatedProof,
	isMisdated,
	type ProofRecord,
	type TurnKeys,
	type TurnView,
	type TurnWrites,
} from "./store.ts";

export type Change = readonly [key: string, value: Written];

/** The records a turn named, as it found them. */
export type Before = Readonly<{
	channel: Channel | undefined;
	idempotency: IdempotencyRecord | undefined;
	/** Looked up when it is asked for: looking for one that is not there goes to the disk's index, and not all turns need to. */
	proof(key: string): ProofRecord | undefined;
}>;

/** What the turn is shown: the records it named, and no others. */
export class View implements TurnView, Before {
	readonly channel: Channel | undefined;
	readonly idempotency: IdempotencyRecord | undefined;
	readonly #named: TurnKeys;
	readonly #look: (key: string) => ProofRecord | undefined;

	constructor(
		named: TurnKeys,
		{ channel, idempotency }: Pick<Before, "channel" | "idempotency">,
		look: (key: string) => ProofRecord | undefined,
	) {
		this.#named = named;
		this.channel = channel;
		this.idempotency = idempotency;
		this.#look = look;
	}

	proof(key: string): ProofRecord | undefined {
		if (!this.#named.proofs?.includes(key)) throw new TypeError(`a turn looks at proof ${key}, which it did not name`);
		return this.#look(key);
	}
}

/**
 * A turn may only write what it named: nothing else was kept from changing meanwhile.
 *
 * @throws TypeError when it did not
 */
export function checkNamed(named: TurnKeys, writes: TurnWrites): void {
	const { channel, proofs = NONE, deletedProofs = NONE, idempotency } = writes;
	if (channel !== undefined && channel.channelId !== named.channel) unnamed(`channel ${channel.channelId}`);
	if (idempotency === null && named.idempotency === undefined) unnamed("an idempotency record");
	if (idempotency && idempotency.key !== named.idempotency) unnamed(`idempotency record ${idempotency.key}`);
	for (const proof of proofs) {
		if (!named.proofs?.includes(proof.key)) unnamed(`proof ${proof.key}`);
		checkDate(proof);
	}
	for (const key of deletedProofs) if (!named.proofs?.includes(key)) unnamed(`proof ${key}`);
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
		all.push([key, record.channelWriter(key, writes.channel)]);
		dueChanges(before.channel, writes.channel, all);
	}
	for (const proof of writes.proofs ?? NONE) {
		const key = keys.proofKey(proof.key);
		all.push([key, record.proofWriter(key, proof)]);
		if (!isDatedProof(proof.key)) expiryChanges(key, before.proof(proof.key), proof, all);
	}
	for (const name of writes.deletedProofs ?? NONE) {
		const key = keys.proofKey(name);
		all.push([key, null]);
		if (!isDatedProof(name)) expiryChanges(key, before.proof(name), null, all);
	}
	if (writes.idempotency !== undefined && named.idempotency !== undefined) {
		const key = keys.idempotencyKey(named.idempotency);
		const { idempotency } = writes;
		all.push([key, idempotency && record.idempotencyWriter(key, idempotency)]);
		expiryChanges(key, before.idempotency, idempotency, all);
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

const NONE: readonly never[] = [];

type Expiring = Readonly<{ expiresAt: number | null }>;

function expiryChanges(key: string, before: Expiring | undefined, after: Expiring | null, all: Change[]): void {
	const from = before?.expiresAt ?? null;
	const to = after?.expiresAt ?? null;
	if (from === to) return;
	if (from !== null) all.push([keys.expiryKey(from, key), null]);
	if (to !== null) all.push([keys.expiryKey(to, key), ""]);
}

function checkDate({ key, expiresAt }: ProofRecord): void {
	if (isMisdated(key, expiresAt))
		throw new TypeError(`proof ${key} expires at ${expiresAt}, and not when its key says`);
}

function unnamed(what: string): never {
	throw new TypeError(`a turn writes ${what}, which it did not name`);
}
