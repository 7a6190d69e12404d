/** What is counted, up to its limits. */
import { checkedCopy, framed, unseal } from "./frame.ts";
import { counterKey, EXPIRIES, expiryIn, expiryKey } from "./keys.ts";
import type { Unwritten } from "./kv.ts";
import { type Count, countShape } from "./records.ts";
import type { View } from "./rounds.ts";
import { type Counter, type CounterRefusal, PayerStoreError } from "./store.ts";

/** How many counts stay, the ones that end last, however long their time is over: a clock that was wrong loses nothing. */
const KEPT = 2_000;
/** How many go at a time. */
const PRUNED = 1_000;
/** As `sumShape` has it: a hundred digits. */
const MAX_SUM = 10n ** 100n - 1n;

/** What was counted under one key, and the text of it: one object, of which each voucher makes a dozen. */
class Counted implements Unwritten {
	readonly place: string;
	readonly sum: bigint;
	readonly untilMs: number | undefined;

	constructor(place: string, sum: bigint, untilMs: number | undefined) {
		this.place = place;
		this.sum = sum;
		this.untilMs = untilMs;
	}

	get value(): this {
		return this;
	}

	get plain(): Count {
		const { sum, untilMs } = this;
		return { count: String(sum), ...(untilMs !== undefined && { untilMs }) };
	}

	text(): string {
		return framed(this.place, this.plain);
	}
}

/** Counts all of them, or none: the first that would rise above its limit is the answer then. */
export async function countAll(view: View, counters: readonly Counter[]): Promise<CounterRefusal | undefined> {
	const places = counters.map(({ key }) => counterKey(key));
	const found = await readAt(view, places);
	const before = new Map<string, Counted | undefined>();
	const after = new Map<string, Counted>();
	for (const [index, { key, add, max, untilMs }] of counters.entries()) {
		if (add < 0n) throw new RangeError(`counter ${key}: ${add} can't be added, what was signed stays signed`);
		const last = after.get(key) ?? found[index];
		const current = last?.sum ?? 0n;
		const sum = current + add;
		if (max !== undefined && sum > max) return { key, current, max };
		if (!after.has(key)) before.set(key, found[index]);
		after.set(key, new Counted(places[index] ?? counterKey(key), sum, later(last?.untilMs, untilMs)));
	}
	for (const [key, count] of after) writeCount(view, key, count, before.get(key));
	return undefined;
}

/** In the order of the keys. @throws PayerStoreError naming the counter that is damaged */
export function readCounts(view: View, keys: readonly string[]): Promise<readonly (Counted | undefined)[]> {
	return readAt(view, keys.map(counterKey));
}

async function readAt(view: View, places: readonly string[]): Promise<readonly (Counted | undefined)[]> {
	const known = places.map((place) => view.recall(place) as Counted | undefined);
	if (!known.includes(undefined)) return known;
	const texts = await view.getMany(places);
	return places.map((place, index) => {
		const text = texts[index];
		return known[index] ?? (text === undefined ? undefined : countFrom(place, text));
	});
}

/** Takes away what nobody asks for any more: counts whose time is over, the oldest first. */
export async function pruneCounts(view: View, nowMs: number): Promise<void> {
	const newest = await view.entries({ ...EXPIRIES, limit: KEPT, reverse: true });
	const last = newest[KEPT - 1];
	if (last === undefined) return;
	const old = await view.entries({ ...EXPIRIES, lt: last[0], limit: PRUNED });
	for (const [place] of old) {
		const { untilMs, key } = expiryIn(place);
		if (untilMs >= nowMs) return;
		view.delete(place);
		view.delete(counterKey(key));
	}
}

function writeCount(view: View, key: string, count: Counted, before: Counted | undefined): void {
	const { place, sum, untilMs } = count;
	// What is no plain sum and moment can't be read back.
	if (before === undefined || before.untilMs !== untilMs || sum > MAX_SUM) checkedCopy(place, count.plain, countShape);
	view.put(place, count);
	if (before?.untilMs === untilMs) return;
	if (before?.untilMs !== undefined) view.delete(expiryKey(before.untilMs, key));
	if (untilMs !== undefined) view.put(expiryKey(untilMs, key), "1");
}

function countFrom(place: string, text: string): Counted {
	try {
		const { count, untilMs } = unseal(place, text, countShape);
		return new Counted(place, BigInt(count), untilMs);
	} catch (cause) {
		const hint = "nothing that counts there is signed; choose another wallet folder to go on";
		throw new PayerStoreError(`counter ${place.slice(2)}: its record is damaged; ${hint}`, { cause });
	}
}

function later(a: number | undefined, b: number | undefined): number | undefined {
	if (a === undefined || b === undefined) return a ?? b;
	return a > b ? a : b;
}
