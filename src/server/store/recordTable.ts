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
}>;

/**
 * The records of one kind, by key. In memory are those whose writes have not reached the disk (they are the truth, the
 * disk is not), and of the others the last used. Only one process owns the disk, so nobody else changes it.
 */
export class RecordTable<T extends object> {
	readonly #options: RecordTableOptions<T>;
	/** `null`: deleted. */
	readonly #written = new Map<string, { record: T | null; batch: Batch; wasRead: boolean }>();
	readonly #idle: LRUCache<string, T>;
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
		const written = this.#written.get(key);
		return written === undefined ? this.#idle.get(key) : (written.record ?? undefined);
	}

	/** Whether `read` would find the record in memory. */
	isLoaded(key: string): boolean {
		return this.#written.has(key) || this.#idle.has(key);
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
		const written = this.#written.get(key);
		if (written !== undefined) {
			written.wasRead = true;
			return written.record ?? undefined;
		}
		const idle = this.#idle.get(key);
		if (idle !== undefined) return idle;
		const record = this.#decode(key, readNow(this.#options.disk, key));
		if (record !== undefined) this.#keep(key, record, true);
		return record;
	}

	/** The same, for once: not kept in memory. */
	peek(key: string): T | undefined {
		const written = this.#written.get(key);
		if (written !== undefined) return written.record ?? undefined;
		return this.#idle.get(key) ?? this.#decode(key, readNow(this.#options.disk, key));
	}

	/** The batch of the last write to `key`, while it is not on disk. */
	batchOf(key: string): Batch | undefined {
		return this.#written.get(key)?.batch;
	}

	/** A turn wrote (`null`: deleted) this record, in `batch`. */
	write(key: string, record: T | null, batch: Batch): void {
		this.#prefetch.forget(key);
		// What is idle of it is old from here on; `settle` puts the new one in its place.
		this.#written.set(key, { record, batch, wasRead: this.#written.get(key)?.wasRead ?? false });
	}

	/** This record is not on disk any more. */
	forget(key: string): void {
		this.#prefetch.forget(key);
		this.#idle.delete(key);
	}

	/** `batch` is on disk: what nobody has written again since may be forgotten. */
	settle(batch: Batch): void {
		for (const [key, written] of this.#written) {
			if (written.batch !== batch) continue;
			this.#written.delete(key);
			const { record, wasRead } = written;
			if (record === null || !this.#keep(key, record, wasRead)) this.#idle.delete(key);
		}
	}

	#found(key: string, found: Found): void {
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

	#decode(key: string, text: string | undefined): T | undefined {
		try {
			return text === undefined ? undefined : this.#options.decode(key, text);
		} catch (error) {
			if (error instanceof CorruptRecordError) this.#options.onCorrupt(error);
			throw error;
		}
	}
}
