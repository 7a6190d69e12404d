import { type Entry, type Kv, type Operations, type Range, type Text, textOf } from "./kv.ts";
import type { Recent } from "./recent.ts";
import { PayerStoreError } from "./store.ts";
import { unavailable } from "./unavailable.ts";

/** Runs a task while nobody else who shares the database runs one. */
export type Exclusive = <T>(task: () => Promise<T>) => Promise<T>;

/** How many turns share one write. */
const MAX_TURNS = 256;
/** How many wait. */
const MAX_WAITING = 10_000;

/** Why spending is paused, if it is. */
export type Paused = Readonly<{ reason: string | undefined }>;

/** What is kept, as one turn sees it: what was written before it, by earlier turns of its round too, and by itself. */
export class View {
	readonly #kv: Kv;
	/** What earlier rounds have written, as far as it is remembered. */
	readonly #recent: Recent | undefined;
	/** What earlier turns of the round have written. */
	readonly #before: Before;
	/** What this turn writes. */
	readonly written = new Map<string, Text | null>();
	/** Whether what it writes has to be on disk before anybody is told of it. */
	isSynced = true;
	/** What is to be done as soon as it is written. */
	readonly afterwards: (() => void)[] = [];
	/** What it has read that is asked for again soon. */
	readonly read = new Map<string, object>();
	/** What it has written, or read, of the pause. */
	paused: Paused | undefined;

	constructor(kv: Kv, recent?: Recent, before: Before = NOTHING) {
		this.#kv = kv;
		this.#recent = recent;
		this.#before = before;
	}

	/** What is kept there, where that is remembered. It must not be changed, nor handed out. */
	recall(key: string): object | undefined {
		const text = this.#written(key);
		if (text === undefined) return this.#recent?.value(key);
		return text === null || typeof text === "string" ? undefined : text.value;
	}

	/** Why spending is paused, if it is; `undefined` where that is to be read. */
	get pause(): Paused | undefined {
		return this.paused ?? this.#before.paused ?? this.#recent?.pause;
	}

	async get(key: string): Promise<string | undefined> {
		return (await this.getMany([key]))[0];
	}

	/** In the order of the keys. */
	async getMany(keys: readonly string[]): Promise<readonly (string | undefined)[]> {
		const found = await this.#kv.get(keys.filter((key) => this.#pending(key) === undefined));
		let next = 0;
		return keys.map((key) => {
			const pending = this.#pending(key);
			return pending === undefined ? found[next++] : (pending ?? undefined);
		});
	}

	async entries(range: Range): Promise<readonly Entry[]> {
		const changed = new Map<string, Text | null>();
		for (const operations of [this.#before.written, this.written]) {
			for (const [key, text] of operations) if (key > range.gt && key < range.lt) changed.set(key, text);
		}
		const { limit = Number.POSITIVE_INFINITY, reverse = false } = range;
		// One that was deleted leaves a gap, which the next one fills.
		const found = await this.#kv.entries({ ...range, ...(limit < Infinity && { limit: limit + changed.size }) });
		if (changed.size === 0) return found;
		const all = new Map<string, Text | null>([...found, ...changed]);
		const there = [...all].flatMap(([key, text]): Entry[] => (text === null ? [] : [[key, textOf(text)]]));
		there.sort(([a], [b]) => (a < b === reverse ? 1 : -1));
		return there.slice(0, limit);
	}

	put(key: string, text: Text): void {
		this.written.set(key, text);
	}

	delete(key: string): void {
		this.written.set(key, null);
	}

	/** What was written to a key, by this turn or an earlier one of its round. */
	#written(key: string): Text | null | undefined {
		const text = this.written.get(key);
		return text === undefined ? this.#before.written.get(key) : text;
	}

	#pending(key: string): string | null | undefined {
		const text = this.#written(key);
		return text === undefined || text === null ? text : textOf(text);
	}
}

/** What earlier turns of a round have written. */
type Before = Readonly<{ written: Operations; paused: Paused | undefined }>;

const NOTHING: Before = { written: new Map(), paused: undefined };

type Waiting = Readonly<{ turn: (view: View) => Promise<() => void>; reject: (error: unknown) => void }>;

/**
 * Lets turns read and write one after the other, and shares the cost of reaching the disk: whatever waits while one write
 * is on its way goes into the next. Nobody is told what a turn has done, or seen, before it is written.
 */
export class Rounds {
	readonly #kv: Kv;
	readonly #exclusive: Exclusive;
	readonly #recent: Recent | undefined;
	readonly #waiting: Waiting[] = [];
	#running: Promise<void> | undefined;

	/** @param recent - told of what is on disk before anybody else is, or that it may be there */
	constructor(kv: Kv, exclusive: Exclusive, recent?: Recent) {
		this.#kv = kv;
		this.#exclusive = exclusive;
		this.#recent = recent;
	}

	/** What is kept now, outside of any turn. */
	look(): View {
		return new View(this.#kv, this.#recent);
	}

	/**
	 * Runs `turn` alone. What it throws leaves nothing written.
	 *
	 * @throws PayerStoreError when it can't be written, or too many wait
	 */
	async run<T>(turn: (view: View) => Promise<T>): Promise<T> {
		if (this.#waiting.length >= MAX_WAITING)
			throw new PayerStoreError("too much waits for the wallet's store: its disk is slower than its payments");
		return await new Promise((resolve, reject) => {
			this.#waiting.push({
				reject,
				turn: async (view) => {
					const value = await turn(view);
					return () => resolve(value);
				},
			});
			this.#running ??= this.#runAll();
		});
	}

	/** Resolves when nothing waits. */
	async idle(): Promise<void> {
		await this.#running;
	}

	async #runAll(): Promise<void> {
		// Whoever asks in the same moment gets into the first round too.
		await Promise.resolve();
		while (this.#waiting.length > 0) {
			try {
				await this.#exclusive(() => this.#round());
			} catch (cause) {
				for (const { reject } of this.#waiting.splice(0)) reject(unavailable(cause));
			}
		}
		this.#running = undefined;
	}

	async #round(): Promise<void> {
		let written = new Map<string, Text | null>();
		let paused: Paused | undefined;
		const views: View[] = [];
		const told: Readonly<{ tell: () => void; fail: (error: unknown) => void }>[] = [];
		for (let count = 0; count < MAX_TURNS; count++) {
			const next = this.#waiting.shift();
			if (next === undefined) break;
			const view = new View(this.#kv, this.#recent, { written, paused });
			try {
				const tell = await next.turn(view);
				if (written.size === 0) written = view.written;
				else for (const [key, text] of view.written) written.set(key, text);
				paused = view.paused ?? paused;
				views.push(view);
				told.push({ tell, fail: next.reject });
			} catch (error) {
				told.push({ tell: () => next.reject(error), fail: () => next.reject(error) });
			}
		}
		try {
			const isSynced = views.some((view) => view.isSynced && view.written.size > 0);
			if (written.size > 0) await this.#kv.write(written, isSynced);
		} catch (cause) {
			this.#recent?.forget(written, paused);
			for (const { fail } of told) fail(unavailable(cause));
			return;
		}
		// What one turn has read another one may have written since.
		for (const { read } of views) this.#recent?.read(read);
		this.#recent?.written(written, paused);
		for (const { tell } of told) tell();
		for (const view of views) for (const then of view.afterwards) then();
	}
}
