import { LRUCache } from "lru-cache";
import { type Disk, type Found, readMany, readNow } from "./disk.ts";
import type { Batch } from "./groupCommit.ts";
import { Prefetch } from "./prefetch.ts";
import { CorruptRecordError } from "./store.ts";

type RecordTableOptions<T> = Readonly<{
	disk: Disk;
	decode: (key: string, text: string) => T;
	/** How many records stay in memory while nothing happens to them. */
	idle: number;
	/** Whether it is kept in memory; asked again when it was changed. What was read while it was being written is wanted. */
	worthKeeping?: (record: T, wasRead: boolean) => boolean;
	onCorrupt: (error: CorruptRecordError) => void;
	/** `false`: this key is certainly not on disk. */
	mayBeOnDisk?: (key: string) => boolean;
}>;

/** How many keys are known not to be on disk. Nearly all are written soon after they were looked for. */
const MOST_ABSENT = 1_000;

/** `null`: deleted. */
type Write<T> = { readonly record: T | null; wasRead: boolean };

/** What one batch has written. */
type Layer<T> = Readonly<{ batch: Batch; writes: Map<string, Write<T>> }>;

/**
 * The records of one kind, by key. In memory are those whose writes have not reached the disk (they are the truth, the
 * disk is not), and of the others the last used. Only one process owns the disk, so nobody else changes it.
 */
export class RecordTable<T extends object> {
	readonly #options: RecordTableOptions<T>;
	/**
	 * Of the batches that are not on disk: the one that is being written, and the next. Each has a `Map` of its own that is let
	 * go with it. One `Map` for all, whose entries come and go, keeps records and batches through every minor garbage collection
	 * (docs/performance.md, "Garbage").
	 */
	#layers: readonly Layer<T>[] = [];
	readonly #idle: LRUCache<string, T>;
	/** Looked for lately, and not on disk: most requests bring a key that is new. */
	#absent = new Set<string>();
	readonly #prefetch: Prefetch;

	constructor(options: RecordTableOptions<T>) {
		this.#options = options;
		this.#idle = new LRUCache({ max: options.idle });
		this.#prefetch = new Prefetch(
			(keys) => readMany(options.disk, keys),
			(key, found) => this.#found(key, found),
		);
	}

	/** The record where it is in memory. */
	loaded(key: string): T | undefined {
		const written = this.#written(key);
		return written === undefined ? this.#idle.get(key) : (written.record ?? undefined);
	}

	/** Whether `read` would need no disk. */
	isLoaded(key: string): boolean {
		return this.#written(key) !== undefined || this.#idle.has(key) || this.#isAbsent(key);
	}

	/** Brings a record into memory, so that `read` need not wait for the disk. Never fails: `read` does. */
	async load(key: string): Promise<void> {
		if (!this.isLoaded(key)) await this.#prefetch.load(key);
	}

	/**
	 * The record as the last turn left it.
	 *
	 * @throws CorruptRecordError when it is damaged
	 * @throws StoreUnavailableError when the disk can't be read
	 */
	read(key: string): T | undefined {
		const written = this.#written(key);
		if (written !== undefined) {
			written.wasRead = true;
			return written.record ?? undefined;
		}
		const idle = this.#idle.get(key);
		if (idle !== undefined) return idle;
		if (this.#isAbsent(key)) return undefined;
		const record = this.#fromDisk(key);
		if (record !== undefined) this.#keep(key, record, true);
		return record;
	}

	/** The same, for once: not kept in memory. */
	peek(key: string): T | undefined {
		const written = this.#written(key);
		if (written !== undefined) return written.record ?? undefined;
		return this.#idle.get(key) ?? this.#fromDisk(key);
	}

	/** The batch of the last write to `key`, while it is not on disk. */
	batchOf(key: string): Batch | undefined {
		return this.#layers.findLast(({ writes }) => writes.has(key))?.batch;
	}

	/** A turn wrote (`null`: deleted) this record, in `batch`. */
	write(key: string, record: T | null, batch: Batch): void {
		this.#prefetch.forget(key);
		this.#absent.delete(key);
		let layer = this.#layers.at(-1);
		if (layer?.batch !== batch) {
			layer = { batch, writes: new Map() };
			this.#layers = [...this.#layers, layer];
		}
		// What is idle of it is old from here on; `settle` puts the new one in its place.
		layer.writes.set(key, { record, wasRead: false });
	}

	/** This record is not on disk any more. */
	forget(key: string): void {
		this.#prefetch.forget(key);
		this.#idle.delete(key);
	}

	/** `batch` is on disk: what nobody has written again since may be forgotten. */
	settle(batch: Batch): void {
		const settled = this.#layers.find((layer) => layer.batch === batch);
		if (settled === undefined) return;
		this.#layers = this.#layers.filter((layer) => layer !== settled);
		for (const [key, { record, wasRead }] of settled.writes) {
			if (this.#written(key) !== undefined) continue;
			if (record === null || !this.#keep(key, record, wasRead)) this.#idle.delete(key);
		}
	}

	/** Of a record that is not in memory: whether it is known not to be on disk either. */
	#isAbsent(key: string): boolean {
		return this.#absent.has(key) || this.#options.mayBeOnDisk?.(key) === false;
	}

	/** The last write to `key` that is not on disk. */
	#written(key: string): Write<T> | undefined {
		for (let at = this.#layers.length - 1; at >= 0; at--) {
			const write = this.#layers[at]?.writes.get(key);
			if (write !== undefined) return write;
		}
		return undefined;
	}

	#found(key: string, found: Found): void {
		if (found === undefined) {
			if (this.#absent.size >= MOST_ABSENT) this.#absent = new Set();
			this.#absent.add(key);
		}
		if (typeof found !== "string") return;
		try {
			this.#keep(key, this.#options.decode(key, found), true);
		} catch {
			// `read` decodes it again, and throws.
		}
	}

	#keep(key: string, record: T, wasRead: boolean): boolean {
		const isKept = this.#options.worthKeeping?.(record, wasRead) ?? true;
		if (isKept) this.#idle.set(key, record);
		return isKept;
	}

	#fromDisk(key: string): T | undefined {
		const { disk, decode, onCorrupt } = this.#options;
		try {
			const text = readNow(disk, key);
			return text === undefined ? undefined : decode(key, text);
		} catch (error) {
			if (error instanceof CorruptRecordError) onCorrupt(error);
			throw error;
		}
	}
}
