import { expect } from "vitest";
import type { ChannelStore } from "../../../src/server/store/store.ts";
import { collect, id, transaction } from "./records.ts";
import { CHANNELS } from "./writeTurns.ts";

export { WRITERS } from "./writeTurns.ts";

/** The turns of storeProcess.ts that are there, each with all of its records; throws when one is there in part. */
export async function wholeTurns(store: ChannelStore, upTo: number): Promise<Set<number>> {
	const audit = new Set((await collect(store.audit())).map(({ values }) => Number(values.n)));
	const outbox = new Set((await collect(store.outbox({ state: "pending" }))).map(({ hash }) => hash));
	const perChannel = new Map<string, bigint>();
	for (let n = 1; n <= upTo; n++) {
		const key = `turn ${n}`;
		const { value } = await store.transact({ proofs: [key], idempotency: key }, (view) => ({
			value: [view.proof(key) !== undefined, view.idempotency !== undefined],
		}));
		const there = audit.has(n);
		expect([...value, outbox.has(transaction(n).hash)], `records of turn ${n}`).toEqual([there, there, there]);
		if (there) perChannel.set(id(n % CHANNELS), (perChannel.get(id(n % CHANNELS)) ?? 0n) + 1n);
	}
	const sums = (await collect(store.channels())).map((one) => [one.channelId, one.acceptedCumulative]);
	expect(sums).toEqual([...perChannel].sort(([a], [b]) => (a < b ? -1 : 1)));
	expect((await collect(store.due("unsettled"))).length).toBe(perChannel.size);
	return audit;
}
