/**
 * Which channels are due, found without looking at all of them. A channel's entry only says in which bucket it is, so
 * that most turns do not change it: unsettled value by its number of bits, activity by the minute.
 */
import { type Channel, chainNow, unsettled } from "../channel.ts";
import type { Written } from "./groupCommit.ts";
import { all, channelKey, type Range } from "./keys.ts";
import { sortable } from "./sortable.ts";
import type { DueOrder } from "./store.ts";

const PREFIX: Readonly<Record<DueOrder, string>> = {
	unsettled: "du:",
	idle: "di:",
	age: "da:",
	contract: "dt:",
	closing: "dc:",
};
const ORDERS = Object.keys(PREFIX) as readonly DueOrder[];
/** What a paid request can change alone: how much is owed, and when something last happened. */
const MOVED_BY_REQUESTS: readonly DueOrder[] = ["unsettled", "idle"];
/** More than the bits of any amount, so that a larger amount gets a smaller number. */
const MOST_BITS = 1_000;
const MINUTE_MS = 60_000;

/** What has to change in the index when `before` becomes `after`, in the same batch as the channel. */
export function dueChanges(
	before: Channel | undefined,
	after: Channel,
	changes: (readonly [key: string, value: Written])[],
): void {
	for (const order of before !== undefined && isDueAsBefore(before, after) ? MOVED_BY_REQUESTS : ORDERS) {
		const from = before && dueBucket(order, before);
		const to = dueBucket(order, after);
		if (from === to) continue;
		if (from !== undefined) changes.push([entry(order, from, after), null]);
		if (to !== undefined) changes.push([entry(order, to, after), ""]);
	}
}

/** All that decides of the other orders: most turns leave it as it is, and then there is nothing to compare. */
function isDueAsBefore(before: Channel, after: Channel): boolean {
	return (
		before.unsettledSince === after.unsettledSince &&
		before.deferredAt === after.deferredAt &&
		before.contractSigner === after.contractSigner &&
		before.finalized === after.finalized &&
		before.closeRequestedAt === after.closeRequestedAt &&
		before.behind === after.behind
	);
}

/** The bucket of a channel, lower ones first; `undefined` when there is nothing to do for it in this order. */
export function dueBucket(order: DueOrder, channel: Channel): number | undefined {
	if (order === "unsettled") {
		const owed = unsettled(channel);
		return owed === 0n ? undefined : MOST_BITS - bitLength(owed);
	}
	const dueFrom = dueSince(order, channel);
	return dueFrom === undefined ? undefined : Math.floor(dueFrom / MINUTE_MS);
}

/**
 * Unix milliseconds since when a channel waits for what `order` is about; `undefined` when it does not.
 *
 * @example
 * for await (const channel of store.due("idle")) if ((dueSince("idle", channel) ?? now) > now - idleMs) break;
 */
export function dueSince(order: Exclude<DueOrder, "unsettled">, channel: Channel): number | undefined {
	const { lastActivityAt, unsettledSince, deferredAt, contractSigner } = channel;
	const { finalized, closeRequestedAt } = chainNow(channel);
	if (finalized) return undefined;
	if (order === "idle") return Math.max(lastActivityAt, deferredAt);
	if (unsettledSince === null) return undefined;
	if (order === "closing") return closeRequestedAt === 0 ? undefined : closeRequestedAt * 1_000;
	if (order === "contract" && !contractSigner) return undefined;
	return Math.max(unsettledSince, deferredAt);
}

/** Exact order within a bucket; by id where that decides nothing. */
export function compareDue(order: DueOrder): (a: Channel, b: Channel) => number {
	return (a, b) => {
		const first =
			order === "unsettled"
				? Number(unsettled(b) - unsettled(a))
				: (dueSince(order, a) ?? 0) - (dueSince(order, b) ?? 0);
		return first !== 0 ? first : a.channelId < b.channelId ? -1 : 1;
	};
}

export function dueRange(order: DueOrder): Range {
	return all(PREFIX[order]);
}

/** What an index entry says. */
export function dueEntry(indexKey: string): { bucket: number; key: string } {
	const [, bucket, ...channelId] = indexKey.split(":");
	return { bucket: Number(bucket), key: channelKey(channelId.join(":")) };
}

function entry(order: DueOrder, bucket: number, channel: Channel): string {
	return `${PREFIX[order]}${sortable(bucket)}:${channel.channelId}`;
}

function bitLength(value: bigint): number {
	// Nearly always: a `number` holds it exactly.
	if (value < 2n ** 53n) {
		const number = Number(value);
		const high = Math.floor(number / 2 ** 32);
		return high > 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(number);
	}
	const digits = value.toString(16);
	return digits.length * 4 - (Math.clz32(Number.parseInt(digits.slice(0, 1), 16)) - 28);
}
