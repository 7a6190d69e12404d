/** What a turn's writes mean for the disk: every record with its index entries, to be written together. */
import { isUnfinal } from "../../escrow/outbox.ts";
import type { Channel } from "../channel.ts";
import { dueChanges } from "./dueIndex.ts";
import { type Expiring, isNamedAlready, type Timed } from "./expiryIndex.ts";
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

/** What is to be written, and what of it the index of what expires does not name yet: it has one entry for a whole batch. */
export type Changes = Readonly<{ all: readonly Change[]; expiring: readonly Expiring[] }>;

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
): Changes {
	const all: Change[] = [];
	const expiring: Expiring[] = [];
	if (writes.channel !== undefined) {
		const key = keys.channelKey(writes.channel.channelId);
		all.push([key, record.channelWriter(key, writes.channel)]);
		dueChanges(before.channel, writes.channel, all);
	}
	for (const proof of writes.proofs ?? NONE) {
		const key = keys.proofKey(proof.key);
		all.push([key, record.proofWriter(key, proof)]);
		if (!isDatedProof(proof.key)) noteExpiry(key, before.proof(proof.key), proof, expiring);
	}
	for (const name of writes.deletedProofs ?? NONE) {
		// Only to look: a damaged one stays where it is, for it may say that something was used or paid.
		if (!isDatedProof(name)) before.proof(name);
		all.push([keys.proofKey(name), null]);
	}
	if (writes.idempotency !== undefined && named.idempotency !== undefined) {
		const key = keys.idempotencyKey(named.idempotency);
		const { idempotency } = writes;
		all.push([key, idempotency && record.idempotencyWriter(key, idempotency)]);
		if (idempotency) noteExpiry(key, before.idempotency, idempotency, expiring);
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
	return { all, expiring };
}

const NONE: readonly never[] = [];

function noteExpiry(key: string, before: Timed | undefined, { expiresAt }: Timed, expiring: Expiring[]): void {
	if (expiresAt !== null && !isNamedAlready(before, expiresAt)) expiring.push({ key, expiresAt });
}

function checkDate({ key, expiresAt }: ProofRecord): void {
	if (isMisdated(key, expiresAt))
		throw new TypeError(`proof ${key} expires at ${expiresAt}, and not when its key says`);
}

function unnamed(what: string): never {
	throw new TypeError(`a turn writes ${what}, which it did not name`);
}
