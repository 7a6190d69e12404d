import { randomUUID } from "node:crypto";
import type { Hex } from "viem";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import type { Channel } from "../channel.ts";
import {
	type Disk,
	type DiskOptions,
	eachKey,
	openDisk,
	readMany,
	readNow,
	unavailable,
	writeThrough,
} from "./disk.ts";
import { ExpiringKeys } from "./expiringKeys.ts";
import { ExpiryIndex } from "./expiryIndex.ts";
import { GroupCommit } from "./groupCommit.ts";
import * as keys from "./keys.ts";
import { prune, pruneDated } from "./prune.ts";
import * as record from "./record.ts";
import { RecordTable } from "./recordTable.ts";
import * as scan from "./scan.ts";
import {
	type AuditEntry,
	type ChannelStore,
	type Committed,
	CorruptRecordError,
	type CursorRecord,
	type DueOrder,
	type IdempotencyRecord,
	isDatedProof,
	type OutboxState,
	type ProofRecord,
	type QuarantinedRecord,
	StoreUnavailableError,
	type Turn,
	type TurnKeys,
	type TurnView,
	type TurnWrites,
} from "./store.ts";
import { type Changes, changes, checkNamed, View } from "./turn.ts";

/** What stays in memory while nothing happens to it: a request that comes back soon finds its own. */
const IDLE_CHANNELS = 10_000;
const IDLE_PROOFS = 20_000;
const IDLE_IDEMPOTENCY = 5_000;
/** A longer answer is read from the disk again. */
const IDLE_BODY_BYTES = 4_096;

export type LevelStoreOptions = Readonly<{
	/** How many channels stay in memory while nothing happens to them. */
	idleChannels?: number;
}>;

/**
 * The default store: LevelDB in a folder of its own, owned by one process (DESIGN 7).
 *
 * A turn is one synchronous step, from reading its records to handing over its writes: that is what keeps turns apart.
 * The channel, the idempotency record and the proof that is sought are brought into memory before it, so that the step need
 * not wait for the disk; other proofs are nearly always new, and LevelDB knows that without reading. The next turn sees the
 * new state at once, from memory; the disk gets it in the next shared batch (I5).
 */
export class LevelStore implements ChannelStore {
	readonly owner: string = randomUUID();
	readonly #disk: Disk;
	readonly #opens: number;
	readonly #commit: GroupCommit;
	readonly #channels: RecordTable<Channel>;
	readonly #proofs: RecordTable<ProofRecord>;
	readonly #idempotency: RecordTable<IdempotencyRecord>;
	/** Which idempotency records there may be. */
	readonly #answered = new ExpiringKeys();
	#learning: Promise<void> | undefined;
	readonly #expiries: ExpiryIndex;
	readonly #quarantined = new Map<string, QuarantinedRecord>();
	readonly #report = (error: CorruptRecordError): void => {
		this.#quarantined.set(error.key, { key: error.key, reason: error.message });
	};
	#auditLines = 0;
	readonly #afterClose: (() => Promise<void>) | undefined;
	#closing: Promise<void> | undefined;

	/**
	 * Opens the store in `folder`, and makes it if there is none. `name` is what another process is told that finds it in
	 * use ("sluice" unless given); with `mustExist` no store is made.
	 *
	 * @throws StoreUnavailableError when another process has it open, it is missing, or its disk can't be used
	 * @example
	 * const store = await LevelStore.open({ folder: "./sluice-data" });
	 * const { durable } = await store.transact({ channel: id }, ({ channel }) => ({ value: channel?.spent }));
	 * await durable;
	 */
	static async open({
		folder,
		...options
	}: LevelStoreOptions & DiskOptions & Readonly<{ folder: string }>): Promise<LevelStore> {
		return LevelStore.over(await openDisk(folder, options), options);
	}

	/** Runs over a database that is already open: the store closes it, then calls `afterClose`. */
	static async over(
		disk: Disk,
		options: LevelStoreOptions & Readonly<{ afterClose?: () => Promise<void> }> = {},
	): Promise<LevelStore> {
		try {
			const before = readNow(disk, keys.OPENS_KEY);
			const opens = 1 + (before === undefined ? 0 : record.decodeOpens(before));
			await writeThrough(disk, new Map([[keys.OPENS_KEY, record.encodeOpens(opens)]]));
			return new LevelStore(disk, opens, options);
		} catch (error) {
			await disk.close();
			throw error instanceof CorruptRecordError ? error : unavailable(error);
		}
	}

	private constructor(
		disk: Disk,
		opens: number,
		{ idleChannels = IDLE_CHANNELS, afterClose }: LevelStoreOptions & { afterClose?: () => Promise<void> },
	) {
		this.#disk = disk;
		this.#afterClose = afterClose;
		this.#opens = opens;
		this.#expiries = new ExpiryIndex(opens);
		const shared = { disk, onCorrupt: this.#report };
		this.#channels = new RecordTable({ ...shared, decode: record.decodeChannel, idle: idleChannels });
		this.#proofs = new RecordTable({
			...shared,
			decode: record.decodeProof,
			idle: IDLE_PROOFS,
			// A credential that was used once is hardly seen again; where it is, it is kept from then on.
			worthKeeping: ({ key, state }, wasRead) => wasRead || state !== "used" || !isDatedProof(key),
		});
		this.#idempotency = new RecordTable({
			...shared,
			decode: record.decodeIdempotency,
			mayBeOnDisk: (key) => this.#answered.mayHave(key),
			idle: IDLE_IDEMPOTENCY,
			// Few requests are sent again; an answer that was asked for again may be once more.
			worthKeeping: ({ state, response }, wasRead) =>
				(wasRead || state === "running") && (response?.body?.byteLength ?? 0) <= IDLE_BODY_BYTES,
		});
		this.#commit = new GroupCommit({
			write: (operations) => writeThrough(disk, operations),
			onDurable: (batch) => {
				for (const table of [this.#channels, this.#proofs, this.#idempotency]) table.settle(batch);
			},
			onFault: (cause) =>
				new StoreUnavailableError("a write to the store failed: what it held is lost; check the disk, then restart", {
					cause,
				}),
		});
	}

	/**
	 * Learns which answers there are by the very keys that would be looked for, beside the requests. Where that fails each is looked
	 * for on the disk, as it is until then, and whoever looks there is told what is wrong with it.
	 */
	#learnAnswered(): Promise<void> {
		return eachKey(this.#disk, keys.ANSWERS, (key) => this.#answered.learn(key)).then(
			() => this.#answered.complete(),
			() => undefined,
		);
	}

	/** One process at a time: whoever is not this one is gone. */
	isGone(owner: string): boolean {
		return owner !== this.owner;
	}

	async transact<T>(named: TurnKeys, turn: (view: TurnView) => Turn<T>): Promise<Committed<T>> {
		this.#checkUsable();
		// Not before there is one: who only looks at a store need not know.
		if (named.idempotency !== undefined) this.#learning ??= this.#learnAnswered();
		const loads = this.#loads(named);
		if (loads.length > 0) await Promise.all(loads);
		return this.#runTurn(named, turn);
	}

	/** Of what the turn will look at, whatever would have to be read from the disk. */
	#loads({ channel, sought, idempotency }: TurnKeys): Promise<void>[] {
		const loads: Promise<void>[] = [];
		const load = (table: Pick<RecordTable<object>, "isLoaded" | "load">, key: string) => {
			if (!table.isLoaded(key)) loads.push(table.load(key));
		};
		if (channel !== undefined) load(this.#channels, keys.channelKey(channel));
		if (sought !== undefined) load(this.#proofs, keys.proofKey(sought));
		if (idempotency !== undefined) load(this.#idempotency, keys.idempotencyKey(idempotency));
		return loads;
	}

	/** Synchronous from here to the end: no other turn comes between. */
	#runTurn<T>(named: TurnKeys, turn: (view: TurnView) => Turn<T>): Committed<T> {
		this.#checkUsable();
		const view = this.#view(named);
		const { value, writes = {} } = turn(view);
		checkNamed(named, writes);
		const changed = changes(view, named, writes, (at) => keys.auditKey(at, this.#opens, ++this.#auditLines));
		if (changed.all.length === 0) return { value, durable: this.#durableSoFar(named) };
		return { value, durable: this.#write(named, writes, changed) };
	}

	#view(named: TurnKeys): View {
		const { channel, idempotency } = named;
		return new View(
			named,
			{
				channel: channel === undefined ? undefined : this.#channels.read(keys.channelKey(channel)),
				idempotency: idempotency === undefined ? undefined : this.#idempotency.read(keys.idempotencyKey(idempotency)),
			},
			this.#lookAtProof,
		);
	}

	readonly #lookAtProof = (key: string): ProofRecord | undefined => this.#proofs.read(keys.proofKey(key));

	#write(named: TurnKeys, writes: TurnWrites, { all, expiring }: Changes): Promise<void> {
		const { channel, proofs = [], deletedProofs = [], idempotency } = writes;
		// First: what is on its way to the disk has to be known, whatever else fails here.
		if (idempotency) this.#answered.add(keys.idempotencyKey(idempotency.key), idempotency.expiresAt);
		const batch = this.#commit.add(all);
		for (const one of expiring) this.#commit.add(this.#expiries.note(one, batch));
		if (channel !== undefined) this.#channels.write(keys.channelKey(channel.channelId), channel, batch);
		for (const proof of proofs) this.#proofs.write(keys.proofKey(proof.key), proof, batch);
		for (const key of deletedProofs) this.#proofs.write(keys.proofKey(key), null, batch);
		if (idempotency !== undefined && named.idempotency !== undefined) {
			this.#idempotency.write(keys.idempotencyKey(named.idempotency), idempotency, batch);
		}
		return batch.durable;
	}

	/** What a turn saw may not be told before it is on disk, even if the turn itself wrote nothing. */
	#durableSoFar({ channel, proofs = [], idempotency }: TurnKeys): Promise<void> {
		const batches = proofs.map((key) => this.#proofs.batchOf(keys.proofKey(key)));
		if (channel !== undefined) batches.push(this.#channels.batchOf(keys.channelKey(channel)));
		if (idempotency !== undefined) batches.push(this.#idempotency.batchOf(keys.idempotencyKey(idempotency)));
		const last = batches.reduce((a, b) => ((b?.number ?? 0) > (a?.number ?? 0) ? b : a), undefined);
		return last?.durable ?? Promise.resolve();
	}

	peek(channelId: Hex): Channel | undefined {
		this.#checkUsable();
		return this.#channels.loaded(keys.channelKey(channelId));
	}

	async channel(channelId: Hex): Promise<Channel | undefined> {
		this.#checkUsable();
		const key = keys.channelKey(channelId);
		await this.#channels.load(key);
		this.#checkUsable();
		return this.#channels.read(key);
	}

	due(order: DueOrder, { limit = Number.POSITIVE_INFINITY }: { limit?: number } = {}): AsyncIterable<Channel> {
		return this.#whileUsable(() => scan.due(this.#disk, order, limit, this.#report));
	}

	channels({ after }: { after?: Hex } = {}): AsyncIterable<Channel> {
		return this.#whileUsable(() => scan.channels(this.#disk, after, this.#report));
	}

	outbox({ state }: { state: OutboxState }): AsyncIterable<OutboxEntry> {
		return this.#whileUsable(() => scan.outbox(this.#disk, state, this.#report));
	}

	audit({ afterMs }: { afterMs?: number } = {}): AsyncIterable<AuditEntry> {
		return this.#whileUsable(() => scan.audit(this.#disk, afterMs, this.#report));
	}

	async *#whileUsable<T>(start: () => AsyncIterable<T>): AsyncGenerator<T> {
		this.#checkUsable();
		for await (const item of start()) {
			yield item;
			this.#checkUsable();
		}
	}

	async cursor(name: string): Promise<CursorRecord | undefined> {
		this.#checkUsable();
		const key = keys.cursorKey(name);
		const [found] = await readMany(this.#disk, [key]);
		this.#checkUsable();
		if (found === undefined) return undefined;
		try {
			if (found instanceof Error) throw found;
			return record.decodeCursor(key, found);
		} catch (error) {
			// Not `undefined`: whoever follows the chain would begin anew, and miss what happened in between.
			if (error instanceof CorruptRecordError) this.#report(error);
			throw error;
		}
	}

	async putCursor(cursor: CursorRecord): Promise<void> {
		this.#checkUsable();
		const key = keys.cursorKey(cursor.name);
		await this.#commit.add([[key, record.encodeCursor(key, cursor)]]).durable;
	}

	quarantined(): readonly QuarantinedRecord[] {
		return [...this.#quarantined.values()];
	}

	async prune(now: number): Promise<number> {
		this.#checkUsable();
		const options = {
			disk: this.#disk,
			commit: this.#commit,
			tableOf: (key: string) => (keys.isProofKey(key) ? this.#proofs : this.#idempotency),
			onGone: (key: string) => this.#proofs.forget(key),
			onCorrupt: this.#report,
			// It stays out of use, and must not be taken for an absent one.
			onDamaged: (key: string) => {
				if (!keys.isProofKey(key)) this.#answered.learn(key);
			},
			checkUsable: () => this.#checkUsable(),
		};
		const pruned = await prune(options, now);
		this.#answered.deleted(now);
		return pruned + (await pruneDated(options, now));
	}

	close(): Promise<void> {
		this.#closing ??= this.#commit
			.idle()
			.then(() => this.#disk.close())
			.finally(this.#afterClose);
		return this.#closing;
	}

	/** Fails closed (I10): nothing is shown that may be lost. */
	#checkUsable(): void {
		if (this.#closing !== undefined) throw new StoreUnavailableError("the store is closed");
		if (this.#commit.fault !== undefined) throw this.#commit.fault;
	}
}
