import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers";
import type { Hex } from "viem";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import type { Channel } from "../channel.ts";
import { compareDue, dueBucket } from "./dueIndex.ts";
import { isInState } from "./scan.ts";
import {
	type AuditEntry,
	type ChannelStore,
	type Committed,
	type CursorRecord,
	type DueOrder,
	type IdempotencyRecord,
	type OutboxState,
	type ProofRecord,
	type QuarantinedRecord,
	StoreUnavailableError,
	type Turn,
	type TurnKeys,
	type TurnView,
	type TurnWrites,
} from "./store.ts";
import { checkNamed, View } from "./turn.ts";

/** A store for tests: it forgets everything with its process. */
export class MemoryStore implements ChannelStore {
	readonly owner: string = randomUUID();
	readonly #channels = new Map<Hex, Channel>();
	readonly #proofs = new Map<string, ProofRecord>();
	readonly #idempotency = new Map<string, IdempotencyRecord>();
	readonly #outbox = new Map<Hex, OutboxEntry>();
	readonly #cursors = new Map<string, CursorRecord>();
	readonly #audit: AuditEntry[] = [];
	#closed = false;

	isGone(owner: string): boolean {
		return owner !== this.owner;
	}

	async transact<T>(named: TurnKeys, turn: (view: TurnView) => Turn<T>): Promise<Committed<T>> {
		await this.#open();
		const found = {
			channel: named.channel && this.#channels.get(named.channel),
			idempotency: named.idempotency === undefined ? undefined : this.#idempotency.get(named.idempotency),
		};
		const { value, writes = {} } = turn(new View(named, found, (key) => this.#proofs.get(key)));
		checkNamed(named, writes);
		this.#write(named, writes);
		return { value, durable: new Promise((resolve) => setImmediate(resolve)) };
	}

	#write(named: TurnKeys, writes: TurnWrites): void {
		const { channel, proofs = [], deletedProofs = [], idempotency, outbox = [], audit = [] } = writes;
		if (channel !== undefined) this.#channels.set(channel.channelId, channel);
		for (const proof of proofs) this.#proofs.set(proof.key, proof);
		for (const key of deletedProofs) this.#proofs.delete(key);
		if (idempotency) this.#idempotency.set(idempotency.key, idempotency);
		if (idempotency === null && named.idempotency !== undefined) this.#idempotency.delete(named.idempotency);
		for (const entry of outbox) this.#outbox.set(entry.hash, entry);
		this.#audit.push(...audit);
	}

	peek(channelId: Hex): Channel | undefined {
		return this.#closed ? undefined : this.#channels.get(channelId);
	}

	async channel(channelId: Hex): Promise<Channel | undefined> {
		await this.#open();
		return this.#channels.get(channelId);
	}

	async *due(order: DueOrder, { limit }: { limit?: number } = {}): AsyncGenerator<Channel> {
		await this.#open();
		const due = [...this.#channels.values()].filter((channel) => dueBucket(order, channel) !== undefined);
		yield* due.sort(compareDue(order)).slice(0, limit);
	}

	async *channels({ after }: { after?: Hex } = {}): AsyncGenerator<Channel> {
		await this.#open();
		const all = [...this.#channels.values()].sort((a, b) => (a.channelId < b.channelId ? -1 : 1));
		yield* all.filter(({ channelId }) => after === undefined || channelId > after);
	}

	async *outbox({ state }: { state: OutboxState }): AsyncGenerator<OutboxEntry> {
		await this.#open();
		const all = [...this.#outbox.values()].sort((a, b) => a.createdAt - b.createdAt || a.nonce - b.nonce);
		yield* all.filter((entry) => isInState(entry, state));
	}

	async cursor(name: string): Promise<CursorRecord | undefined> {
		await this.#open();
		return this.#cursors.get(name);
	}

	async putCursor(cursor: CursorRecord): Promise<void> {
		await this.#open();
		this.#cursors.set(cursor.name, cursor);
	}

	async *audit({ afterMs = Number.NEGATIVE_INFINITY }: { afterMs?: number } = {}): AsyncGenerator<AuditEntry> {
		await this.#open();
		yield* this.#audit.filter(({ at }) => at > afterMs).sort((a, b) => a.at - b.at);
	}

	quarantined(): readonly QuarantinedRecord[] {
		return [];
	}

	async prune(now: number): Promise<number> {
		await this.#open();
		let pruned = 0;
		for (const records of [this.#proofs, this.#idempotency]) {
			for (const [key, { expiresAt }] of records) {
				if (expiresAt !== null && expiresAt < now && records.delete(key)) pruned++;
			}
		}
		return pruned;
	}

	async close(): Promise<void> {
		this.#closed = true;
	}

	/** Always a tick later, like a store that reads from a disk. */
	async #open(): Promise<void> {
		await Promise.resolve();
		if (this.#closed) throw new StoreUnavailableError("the store is closed");
	}
}
