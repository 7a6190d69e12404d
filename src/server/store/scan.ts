/** Walks over records in order. A scan shows what was on disk when it began; it leaves out what is damaged, and reports it. */
import { isUnfinal, type OutboxEntry } from "../../escrow/outbox.ts";
import type { Channel } from "../channel.ts";
import { type Disk, type Found, pages, readMany } from "./disk.ts";
import { compareDue, dueBucket, dueEntry, dueRange } from "./dueIndex.ts";
import * as keys from "./keys.ts";
import { decodeAudit, decodeChannel, decodeOutbox } from "./record.ts";
import { sortable } from "./sortable.ts";
import { type AuditEntry, CorruptRecordError, type DueOrder, type OutboxState } from "./store.ts";

type Report = (error: CorruptRecordError) => void;
type Decode<T> = (key: string, text: string) => T;

/** Channels of one bucket that are put into exact order at a time. */
const WINDOW = 4_096;

export async function* channels(disk: Disk, after: string | undefined, report: Report): AsyncGenerator<Channel> {
	const range = keys.all(keys.channelKey(""));
	const from = after === undefined ? range : { ...range, gt: keys.channelKey(after) };
	for await (const { entries } of pages(disk, from)) {
		for (const [key, text] of entries) {
			const channel = readable(key, text, decodeChannel, report);
			if (channel !== undefined) yield channel;
		}
	}
}

export async function* audit(disk: Disk, afterMs: number | undefined, report: Report): AsyncGenerator<AuditEntry> {
	const range = keys.all("a:");
	const from = afterMs === undefined ? range : { ...range, gt: `a:${sortable(afterMs + 1)}` };
	for await (const { entries } of pages(disk, from)) {
		for (const [key, text] of entries) {
			const line = readable(key, text, decodeAudit, report);
			if (line !== undefined) yield line;
		}
	}
}

export async function* outbox(disk: Disk, state: OutboxState, report: Report): AsyncGenerator<OutboxEntry> {
	for await (const { entries, snapshot } of pages(disk, keys.all(keys.outboxIndex(state)))) {
		const places = entries.map(([place]) => place);
		const recordKeys = places.map((place) => keys.indexedKey(place, 2)).map(keys.outboxKey);
		const found = await readMany(disk, recordKeys, snapshot);
		for (const [i, key] of recordKeys.entries()) {
			const entry = readable(key, found[i], decodeOutbox, report);
			// An entry written again with another time has two places: only the last one counts.
			if (entry === undefined || keys.outboxIndexKey(state, entry) !== places[i]) continue;
			if (isInState(entry, state)) yield entry;
		}
	}
}

/** Whether a scan for `state` shows the entry. */
export function isInState(entry: OutboxEntry, state: OutboxState): boolean {
	if (state === "unfinal") return isUnfinal(entry);
	return state === "any" || entry.state === "pending";
}

export async function* due(disk: Disk, order: DueOrder, limit: number, report: Report): AsyncGenerator<Channel> {
	let left = limit;
	if (left <= 0) return;
	for await (const window of dueWindows(disk, order, report)) {
		for (const channel of window.sort(compareDue(order))) {
			yield channel;
			if (--left <= 0) return;
		}
	}
}

/** Channels of one bucket each, in the order of the buckets. A bucket larger than the window comes in several. */
async function* dueWindows(disk: Disk, order: DueOrder, report: Report): AsyncGenerator<Channel[]> {
	let window: Channel[] = [];
	let windowBucket: number | undefined;
	for await (const { entries, snapshot } of pages(disk, dueRange(order))) {
		const places = entries.map(([place]) => dueEntry(place));
		const found = await readMany(
			disk,
			places.map(({ key }) => key),
			snapshot,
		);
		for (const [i, { bucket, key }] of places.entries()) {
			const channel = readable(key, found[i], decodeChannel, report);
			if (channel === undefined || dueBucket(order, channel) !== bucket) continue;
			if (window.length > 0 && (bucket !== windowBucket || window.length === WINDOW)) {
				yield window;
				window = [];
			}
			windowBucket = bucket;
			window.push(channel);
		}
	}
	yield window;
}

/** Decodes what was found; damage is reported, and then there is nothing to show. */
function readable<T>(key: string, found: Found, decode: Decode<T>, report: Report): T | undefined {
	try {
		if (found instanceof Error) throw found;
		if (found === undefined) throw new CorruptRecordError(key, "an index names it, but it is not there");
		return decode(key, found);
	} catch (error) {
		if (!(error instanceof CorruptRecordError)) throw error;
		report(error);
		return undefined;
	}
}
