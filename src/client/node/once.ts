/**
 * Counts each call once, however often it is repeated. The owner of the wallet may be gone before its answer arrives; whoever
 * repeats the call then can't know whether it was carried out. So every call counts itself too, in the same write: the
 * n-th one of a row into a counter of which n is the limit. Where that is refused, the call was carried out before.
 */
import type { CounterRefusal, StoreWrite } from "../store/store.ts";

/** A row of calls, one at a time. */
type Row = { readonly key: string; done: bigint; usedMs: number };

const DAY_MS = 86_400_000;

/** Repeatable writes of one holder. */
export class OnceWrites {
	readonly #holder: string;
	readonly #free: Row[] = [];
	#rows = 0;

	constructor(holder: string) {
		this.#holder = holder;
	}

	/** Carries a write out that counts something; `send` may be called with it again and again until it answers. */
	async write(
		write: StoreWrite,
		send: (write: StoreWrite) => Promise<CounterRefusal | undefined>,
	): Promise<CounterRefusal | undefined> {
		const { counters = [] } = write;
		// Without a count it changes nothing to write the same record again.
		if (counters.length === 0) return await send(write);
		const nowMs = Date.now();
		const row = this.#take(nowMs);
		// To the day, so that the counter's place among those that end is rarely another one.
		const untilMs = (Math.ceil(nowMs / DAY_MS) + 1) * DAY_MS;
		const itself = { key: row.key, add: 1n, max: row.done + 1n, untilMs };
		// Where this throws, the call may have been carried out or not: the row is of no use any more.
		const refusal = await send({ ...write, counters: [itself, ...counters] });
		const isCounted = refusal === undefined || refusal.key === row.key;
		if (isCounted) row.done += 1n;
		this.#free.push(row);
		return isCounted ? undefined : refusal;
	}

	#take(nowMs: number): Row {
		const row = this.#free.pop() ?? { key: `call:${this.#holder}:${this.#rows++}`, done: 0n, usedMs: nowMs };
		// What was not used for long may be gone from the store.
		if (Math.abs(nowMs - row.usedMs) > DAY_MS / 2) return this.#take(nowMs);
		row.usedMs = nowMs;
		return row;
	}
}
