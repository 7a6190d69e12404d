/** What the store's processes write: numbered turns, whose records belong together. */
import { writeSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import type { LevelStore } from "../../../src/server/store/levelStore.ts";
import { channel, id, idempotency, line, proof, transaction } from "./records.ts";

export const CHANNELS = 8;
/** At most this many turns are between their number and their acknowledgement. */
export const WRITERS = 16;

/**
 * Writes turns `first` up to `last`, several at a time; prints each number when it is durable.
 *
 * @param pauseMs how long each writer rests after each of its turns
 */
export async function writeTurns(store: LevelStore, first: number, last: number, pauseMs?: number): Promise<void> {
	let next = first;
	const writer = async () => {
		while (next <= last) {
			await writeTurn(store, next++);
			if (pauseMs !== undefined) await setTimeout(pauseMs);
		}
	};
	await Promise.all(Array.from({ length: WRITERS }, writer));
}

/** Turn `n` leaves five records. */
async function writeTurn(store: LevelStore, n: number): Promise<void> {
	const own = n % CHANNELS;
	const key = `turn ${n}`;
	const { durable } = await store.transact({ channel: id(own), proofs: [key], idempotency: key }, (view) => {
		const before = view.channel ?? channel(own);
		const after = channel(own, { acceptedCumulative: before.acceptedCumulative + 1n });
		return {
			value: undefined,
			writes: {
				channel: after,
				proofs: [proof(key, { usedBy: id(own) })],
				idempotency: idempotency(key),
				outbox: [transaction(n)],
				audit: [line(n)],
			},
		};
	});
	await durable;
	// Straight into the pipe: what the parent reads was said before the process died.
	writeSync(1, `${n}\n`);
}
