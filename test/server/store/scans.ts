/** The part of the conformance suite about walking over records, and deleting what expired. */
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { ChannelStore, OutboxState } from "../../../src/server/store/store.ts";
import { describeDueOrders } from "./dueOrders.ts";
import { channel, collect, id, idempotency, line, MINUTE_MS, proof, transaction } from "./records.ts";
import { increment, putChannels, write } from "./turns.ts";

/** How the suite gets at a store. */
export type StoreUnderTest = Readonly<{
	/** An empty store. */
	open(): Promise<ChannelStore>;
	/** Closes `store`, and opens what it kept. Without it, the store keeps nothing. */
	reopen?(store: ChannelStore): Promise<ChannelStore>;
}>;

export function describeScans(under: StoreUnderTest): void {
	let store: ChannelStore;

	beforeEach(async () => {
		store = await under.open();
	});
	afterEach(() => store.close());

	describe("scans", () => {
		it("gives channels in the order of their ids, from any of them on", async () => {
			await putChannels(
				store,
				[5, 300, 1, 77, 16].map((n) => channel(n)),
			);
			expect((await collect(store.channels())).map(({ channelId }) => channelId)).toEqual([1, 5, 16, 77, 300].map(id));
			const later = await collect(store.channels({ after: id(16) }));
			expect(later.map(({ channelId }) => channelId)).toEqual([77, 300].map(id));
		});

		it("gives the highest unsettled value first, and nothing that is settled or finalized", async () => {
			await fc.assert(
				fc.asyncProperty(
					fc.array(fc.tuple(fc.bigInt(0n, 2n ** 127n), fc.boolean()), { maxLength: 30, size: "max" }),
					async (all) => {
						const fresh = await under.open();
						await putChannels(
							fresh,
							all.map(([acceptedCumulative, finalized], n) => channel(n, { acceptedCumulative, finalized })),
						);
						const owed = (await collect(fresh.due("unsettled"))).map((one) => one.acceptedCumulative);
						const expected = all
							.filter(([accepted, finalized]) => accepted > 0n && !finalized)
							.map(([accepted]) => accepted);
						expect(owed).toEqual(expected.sort((a, b) => (a > b ? -1 : 1)));
						await fresh.close();
					},
				),
				{ numRuns: 25 },
			);
		});

		it("gives the longest idle first, and nothing that is finalized", async () => {
			const idleFor = [3, 0.2, 0.1, 900, 1, 2.5];
			await putChannels(
				store,
				idleFor.map((minutes, n) => channel(n, { lastActivityAt: 1_700_000_000_000 - minutes * MINUTE_MS })),
			);
			await putChannels(store, [channel(99, { lastActivityAt: 0, finalized: true })]);
			const ids = (await collect(store.due("idle"))).map(({ channelId }) => channelId);
			expect(ids).toEqual([3, 0, 5, 4, 1, 2].map(id));
		});

		it("follows a channel through settlement, activity and the end", async () => {
			const due = async (order: "unsettled" | "idle") =>
				(await collect(store.due(order))).map(({ channelId }) => channelId);
			await putChannels(store, [channel(1, { acceptedCumulative: 100n }), channel(2, { acceptedCumulative: 50n })]);
			expect(await due("unsettled")).toEqual([1, 2].map(id));
			await putChannels(store, [channel(1, { acceptedCumulative: 100n, settledOnChain: 90n })]);
			expect(await due("unsettled")).toEqual([2, 1].map(id));
			await putChannels(store, [channel(1, { acceptedCumulative: 100n, settledOnChain: 100n })]);
			expect(await due("unsettled")).toEqual([2].map(id));
			await putChannels(store, [channel(2, { lastActivityAt: 1_700_000_000_000 + MINUTE_MS })]);
			expect(await due("unsettled")).toEqual([]);
			expect(await due("idle")).toEqual([1, 2].map(id));
			await putChannels(store, [channel(1, { finalized: true })]);
			expect(await due("idle")).toEqual([2].map(id));
		});

		it("stops at the limit, or where its reader stops", async () => {
			await putChannels(
				store,
				Array.from({ length: 600 }, (_, n) => channel(n, { acceptedCumulative: BigInt(n + 1) })),
			);
			const best = await collect(store.due("unsettled", { limit: 3 }));
			expect(best.map((one) => one.acceptedCumulative)).toEqual([600n, 599n, 598n]);
			expect(await collect(store.due("idle", { limit: 0 }))).toEqual([]);
			for await (const one of store.channels()) {
				if (one.channelId === id(3)) break;
			}
			expect(await collect(store.channels())).toHaveLength(600);
		});

		it("lets turns go on during a scan", async () => {
			await putChannels(
				store,
				Array.from({ length: 300 }, (_, n) => channel(n)),
			);
			let seen = 0;
			for await (const one of store.channels()) {
				await increment(store, Number(one.channelId));
				seen++;
			}
			expect(seen).toBe(300);
		});

		it("gives pending transactions by creation, then by nonce", async () => {
			const entries = [
				transaction(1, { createdAt: 20, nonce: 10 }),
				transaction(2, { createdAt: 20, nonce: 9 }),
				transaction(3, { createdAt: 100, nonce: 1 }),
				transaction(4, { createdAt: 3, nonce: 11 }),
				transaction(5, { createdAt: 4, nonce: 2, state: "reverted" }),
			];
			await write(store, {}, { outbox: entries });
			await write(store, {}, { outbox: [transaction(4, { createdAt: 3, nonce: 11, state: "confirmed" })] });
			const hashes = async (state: OutboxState) => (await collect(store.outbox({ state }))).map(({ hash }) => hash);
			expect(await hashes("pending")).toEqual([2, 1, 3].map(id));
			expect(await hashes("any")).toEqual([4, 5, 2, 1, 3].map(id));
			expect(await hashes("unfinal")).toEqual([]);
		});

		it("gives concluded transactions by creation until they are final", async () => {
			const minedIn = (blockNumber: number, final: boolean) => ({
				minedIn: { blockNumber, blockHash: id(blockNumber), transactionHash: id(1), final },
			});
			const hashes = async () => (await collect(store.outbox({ state: "unfinal" }))).map(({ hash }) => hash);
			await write(store, {}, { outbox: [1, 2, 3, 4].map((n) => transaction(n, { createdAt: 10 - n })) });
			const concluded = [
				transaction(1, { createdAt: 9, state: "confirmed", ...minedIn(5, false) }),
				transaction(2, { createdAt: 8, state: "reverted", ...minedIn(6, false) }),
				transaction(3, { createdAt: 7, state: "confirmed", ...minedIn(7, true) }),
				transaction(4, { createdAt: 6, state: "dropped" }),
			];
			await write(store, {}, { outbox: concluded });
			expect(await hashes()).toEqual([2, 1].map(id));
			store = (await under.reopen?.(store)) ?? store;
			// One is final; of the other a reorganization took the block away.
			await write(store, {}, { outbox: [transaction(1, { createdAt: 9, state: "confirmed", ...minedIn(5, true) })] });
			await write(store, {}, { outbox: [transaction(2, { createdAt: 8 })] });
			expect(await hashes()).toEqual([]);
			expect((await collect(store.outbox({ state: "pending" }))).map(({ hash }) => hash)).toEqual([id(2)]);
		});

		it("gives audit lines by time, and those of one moment as they were written, also after a restart", async () => {
			await write(store, {}, { audit: [line(1, { at: 50 }), line(2, { at: 50 }), line(3, { at: 9 })] });
			await write(store, {}, { audit: [line(4, { at: 50, channelId: id(1) })] });
			store = (await under.reopen?.(store)) ?? store;
			await write(store, {}, { audit: [line(5, { at: 50 }), line(6, { at: 1_000 })] });
			const numbers = async (afterMs?: number) =>
				(await collect(store.audit(afterMs === undefined ? {} : { afterMs }))).map(({ values }) => values.n);
			expect(await numbers()).toEqual(["3", "1", "2", "4", "5", "6"]);
			expect(await numbers(9)).toEqual(["1", "2", "4", "5", "6"]);
			expect(await numbers(50)).toEqual(["6"]);
		});
	});

	describeDueOrders(under);

	describe("pruning", () => {
		it("deletes exactly what expired before now", async () => {
			const expiries = [5, 9, 10, 11, null];
			const proofs = expiries.map((expiresAt) => proof(`p${expiresAt}`, { expiresAt }));
			const named = { proofs: proofs.map(({ key }) => key) };
			await write(store, named, { proofs });
			for (const expiresAt of [9, 10]) {
				await write(
					store,
					{ idempotency: `i${expiresAt}` },
					{ idempotency: idempotency(`i${expiresAt}`, { expiresAt }) },
				);
			}
			expect(await store.prune(10)).toBe(3);
			expect(await store.prune(10)).toBe(0);
			const { value } = await store.transact(named, (view) => ({
				value: named.proofs.filter((key) => view.proof(key) !== undefined),
			}));
			expect(value).toEqual(["p10", "p11", "pnull"]);
			for (const key of ["i9", "i10"]) {
				const left = await store.transact({ idempotency: key }, (view) => ({
					value: view.idempotency !== undefined,
				}));
				expect(left.value).toBe(key === "i10");
			}
		});

		it("spares a record that was written again with a later time, or with none (I4)", async () => {
			const named = { proofs: ["later", "never", "sooner"] };
			const all = (later: number | null, never: number | null, sooner: number | null) => ({
				proofs: [
					proof("later", { expiresAt: later }),
					proof("never", { expiresAt: never }),
					proof("sooner", { expiresAt: sooner }),
				],
			});
			await write(store, named, all(5, 5, 500));
			await write(store, named, all(50, null, 5));
			expect(await store.prune(20)).toBe(1);
			const { value } = await store.transact(named, (view) => ({
				value: named.proofs.filter((key) => view.proof(key)),
			}));
			expect(value).toEqual(["later", "never"]);
			expect(await store.prune(100)).toBe(1);
		});

		it("prunes many while turns go on, and loses none that is written meanwhile (I4)", async () => {
			const names = Array.from({ length: 700 }, (_, i) => `p${i}`);
			await Promise.all(
				names.map((key) => write(store, { proofs: [key] }, { proofs: [proof(key, { expiresAt: 5 })] })),
			);
			const renewed = names.filter((_, i) => i % 7 === 0);
			const [pruned] = await Promise.all([
				store.prune(10),
				...renewed.map((key) => write(store, { proofs: [key] }, { proofs: [proof(key)] })),
			]);
			expect(pruned).toBeGreaterThanOrEqual(names.length - renewed.length);
			const { value: left } = await store.transact({ proofs: names }, (view) => ({
				value: names.filter((key) => view.proof(key) !== undefined),
			}));
			expect(left).toEqual(renewed);
		});
	});
}
