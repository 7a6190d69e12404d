/** What is counted, up to its limits. */
import { checkedCopy, framed, unseal } from "./frame.ts";
import { counterKey, EXPIRIES, expiryIn, expiryKey } from "./keys.ts";
import { type Count, countShape } from "./records.ts";
import type { View } from "./rounds.ts";
import { type Counter, type CounterRefusal, PayerStoreError } from "./store.ts";

/** How many counts stay, the ones that end last, however long their time is over: a clock that was wrong loses nothing. */
const KEPT = 2_000;
/** How many go at a time. */
const PRUNED = 1_000;
/** As `sumShape` has it. */
const MAX_DIGITS = 100;

/** Counts all of them, or none: the first that would rise above its limit is the answer then. */
export async function countAll(view: View, counters: readonly Counter[]): Promise<CounterRefusal | undefined> {
	const keys = [...new Set(counters.map(({ key }) => key))];
	const places = keys.map(counterKey);
	const found = await readAt(view, places);
	const before = new Map(keys.map((key, index) => [key, found[index]]));
	const after = new Map<string, Count>();
	for (const { key, add, max, untilMs } of counters) {
		if (add < 0n) throw new RangeError(`counter ${key}: ${add} can't be added, what was signed stays signed`);
		const last = after.get(key) ?? before.get(key);
		const current = BigInt(last?.count ?? 0);
		if (max !== undefined && current + add > max) return { key, current, max };
		const until = later(last?.untilMs, untilMs);
		const count = String(current + add);
		after.set(key, until === undefined ? { count } : { count, untilMs: until });
	}
	for (const [index, key] of keys.entries()) {
		const count = after.get(key);
		if (count !== undefined) writeCount(view, { key, place: places[index] ?? counterKey(key) }, count, found[index]);
	}
	return undefined;
}

/** In the order of the keys. @throws PayerStoreError naming the counter that is damaged */
export function readCounts(view: View, keys: readonly string[]): Promise<readonly (Count | undefined)[]> {
	return readAt(view, keys.map(counterKey));
}

async function readAt(view: View, places: readonly string[]): Promise<readonly (Count | undefined)[]> {
	const known = places.map((place) => view.recall(place) as Count | undefined);
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

function writeCount(
	view: View,
	{ key, place }: Readonly<{ key: string; place: string }>,
	count: Count,
	before: Count | undefined,
): void {
	const isRaised = before !== undefined && before.untilMs === count.untilMs && count.count.length <= MAX_DIGITS;
	// Summed up here, it has digits alone.
	const written = isRaised ? count : checkedCopy(place, count, countShape);
	view.put(place, () => framed(place, written), written);
	if (before?.untilMs === count.untilMs) return;
	if (before?.untilMs !== undefined) view.delete(expiryKey(before.untilMs, key));
	if (count.untilMs !== undefined) view.put(expiryKey(count.untilMs, key), "1");
}

function countFrom(place: string, text: string): Count {
	try {
		return unseal(place, text, countShape);
	} catch (cause) {
		const hint = "nothing that counts there is signed; choose another wallet folder to go on";
		throw new PayerStoreError(`counter ${place.slice(2)}: its record is damaged; ${hint}`, { cause });
	}
}

function later(a: number | undefined, b: number | undefined): number | undefined {
	if (a === undefined || b === undefined) return a ?? b;
	return a > b ? a : b;
}
