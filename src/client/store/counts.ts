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
/** As `sumShape` has it: a hundred digits. */
const MAX_SUM = 10n ** 100n - 1n;

/** What was counted under one key. */
type Counted = Readonly<{ sum: bigint; untilMs: number | undefined }>;

/** Counts all of them, or none: the first that would rise above its limit is the answer then. */
export async function countAll(view: View, counters: readonly Counter[]): Promise<CounterRefusal | undefined> {
	const places = counters.map(({ key }) => counterKey(key));
	const found = await readAt(view, places);
	const after = new Map<string, Counted & Readonly<{ place: string; before: Counted | undefined }>>();
	for (const [index, { key, add, max, untilMs }] of counters.entries()) {
		if (add < 0n) throw new RangeError(`counter ${key}: ${add} can't be added, what was signed stays signed`);
		const before = found[index];
		const last = after.get(key) ?? before;
		const current = last?.sum ?? 0n;
		const sum = current + add;
		if (max !== undefined && sum > max) return { key, current, max };
		after.set(key, { sum, untilMs: later(last?.untilMs, untilMs), place: places[index] ?? "", before });
	}
	for (const [key, { sum, untilMs, place, before }] of after) writeCount(view, key, place, { sum, untilMs }, before);
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

function writeCount(view: View, key: string, place: string, count: Counted, before: Counted | undefined): void {
	// What is no plain sum and moment can't be read back.
	if (before === undefined || before.untilMs !== count.untilMs || count.sum > MAX_SUM)
		checkedCopy(place, plain(count), countShape);
	view.put(place, { text: () => framed(place, plain(count)), value: count });
	if (before?.untilMs === count.untilMs) return;
	if (before?.untilMs !== undefined) view.delete(expiryKey(before.untilMs, key));
	if (count.untilMs !== undefined) view.put(expiryKey(count.untilMs, key), "1");
}

function plain({ sum, untilMs }: Counted): Count {
	return { count: String(sum), ...(untilMs !== undefined && { untilMs }) };
}

function countFrom(place: string, text: string): Counted {
	try {
		const { count, untilMs } = unseal(place, text, countShape);
		return { sum: BigInt(count), untilMs };
	} catch (cause) {
		const hint = "nothing that counts there is signed; choose another wallet folder to go on";
		throw new PayerStoreError(`counter ${place.slice(2)}: its record is damaged; ${hint}`, { cause });
	}
}

function later(a: number | undefined, b: number | undefined): number | undefined {
	if (a === undefined || b === undefined) return a ?? b;
	return a > b ? a : b;
}
