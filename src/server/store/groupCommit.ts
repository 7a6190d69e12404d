import { setImmediate } from "node:timers";

/**
 * What a key is to have; `null` deletes it. A function makes the value when it is about to be written: under load a channel
 * is written several times before its turn on the disk comes, and only the last of these is ever seen.
 */
export type Written = string | null | (() => string);

/** Values by key. A later write to a key takes the place of an earlier one. */
export type Operations = ReadonlyMap<string, Written>;

/** Writes that reach the disk together or not at all. */
export type Batch = Readonly<{
	operations: Operations;
	/** Batches are written in the order of their numbers. */
	number: number;
	/** Resolves when the batch is on disk. Its rejection may go unheard. */
	durable: Promise<void>;
}>;

type OpenBatch = Batch & {
	readonly operations: Map<string, Written>;
	resolve(): void;
	reject(error: Error): void;
};

type GroupCommitOptions = Readonly<{
	/** Writes all of it, through to the disk, or nothing. */
	write: (operations: Operations) => Promise<void>;
	/** A batch is on disk. Called before its `durable` resolves. */
	onDurable: (batch: Batch) => void;
	/** A write failed: nothing can be written any more. Makes the error that everybody waiting gets. */
	onFault: (cause: unknown) => Error;
}>;

/**
 * Shares the cost of reaching the disk: everything that waits while one batch is being written goes into the next one.
 * A failed write is final (I10): what it held, and everything after it, is lost, and nobody is told otherwise.
 */
export class GroupCommit {
	readonly #options: GroupCommitOptions;
	#next: OpenBatch | undefined;
	#writing: Promise<void> | undefined;
	#fault: Error | undefined;
	#count = 0;

	constructor(options: GroupCommitOptions) {
		this.#options = options;
	}

	/** Why nothing can be written any more. */
	get fault(): Error | undefined {
		return this.#fault;
	}

	/** Adds writes that belong together to the next batch. */
	add(operations: Iterable<readonly [string, Written]>): Batch {
		if (this.#fault !== undefined) throw this.#fault;
		this.#next ??= openBatch(++this.#count);
		for (const [key, value] of operations) this.#next.operations.set(key, value);
		this.#writing ??= this.#writeAll();
		return this.#next;
	}

	/** Resolves when nothing is being written and nothing waits. */
	async idle(): Promise<void> {
		await this.#writing;
	}

	async #writeAll(): Promise<void> {
		for (;;) {
			// Every request that the event loop finds ready gets into the batch too.
			await new Promise<void>((resolve) => setImmediate(resolve));
			const batch = this.#take();
			if (batch === undefined) break;
			try {
				await this.#options.write(batch.operations);
			} catch (cause) {
				this.#fault = this.#options.onFault(cause);
				batch.reject(this.#fault);
				this.#take()?.reject(this.#fault);
				return;
			}
			this.#options.onDurable(batch);
			batch.resolve();
		}
		this.#writing = undefined;
	}

	#take(): OpenBatch | undefined {
		const batch = this.#next;
		this.#next = undefined;
		return batch;
	}
}

function openBatch(number: number): OpenBatch {
	let resolve: () => void = () => {};
	let reject: (error: Error) => void = () => {};
	const durable = new Promise<void>((...settle) => {
		[resolve, reject] = settle;
	});
	durable.catch(() => {});
	return { operations: new Map(), number, durable, resolve, reject };
}
