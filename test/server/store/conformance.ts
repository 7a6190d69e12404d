/**
 * What every store has to do, whatever it is made of. Run it from a test file:
 *
 *     describeStore("MemoryStore", { open: async () => new MemoryStore() });
 */
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Channel } from "../../../src/server/channel.ts";
import {
	type ChannelStore,
	type Committed,
	StoreUnavailableError,
	type TurnKeys,
	type TurnWrites,
} from "../../../src/server/store/store.ts";
import { describeInterleaving } from "./interleaving.ts";
import { channel, collect, id, idempotency, line, MINUTE_MS, proof, transaction } from "./records.ts";

export type StoreUnderTest = Readonly<{
	/** An empty store. */
	open(): Promise<ChannelStore>;
	/** Closes `store`, and opens what it kept. Without it, the store keeps nothing. */
	reopen?(store: ChannelStore): Promise<ChannelStore>;
}>;

/** Runs a turn that only writes, and waits until that is on disk. */
export async function write(store: ChannelStore, keys: TurnKeys, writes: TurnWrites): Promise<void> {
	await (await store.transact(keys, () => ({ value: undefined, writes }))).durable;
}

export async function putChannels(store: ChannelStore, channels: readonly Channel[]): Promise<void> {
	await Promise.all(channels.map((one) => write(store, { channel: one.channelId }, { channel: one })));
}

/** Adds 1 to what the channel accepted, and answers with the sum. */
export function increment(store: ChannelStore, n: number): Promise<Committed<bigint>> {
	return store.transact({ channel: id(n) }, ({ channel: before = channel(n) }) => {
		const acceptedCumulative = before.acceptedCumulative + 1n;
		return { value: acceptedCumulative, writes: { channel: { ...before, acceptedCumulative } } };
	});
}

export function describeStore(name: string, under: StoreUnderTest): void {
	describe(`${name} is a ChannelStore`, () => {
		let store: ChannelStore;

		beforeEach(async () => {
			store = await under.open();
		});
		afterEach(() => store.close());

		describe("turns", () => {
			it("shows a turn what the turn before it wrote, before that is durable (I4)", async () => {
				const values = await Promise.all(Array.from({ length: 50 }, async () => (await increment(store, 1)).value));
				expect(values.sort((a, b) => Number(a - b))).toEqual(Array.from({ length: 50 }, (_, i) => BigInt(i + 1)));
				expect((await store.channel(id(1)))?.acceptedCumulative).toBe(50n);
			});

			it("writes all records of a turn together (I5)", async () => {
				const named = { channel: id(1), proofs: ["a", "b"], idempotency: "k" };
				const writes = {
					channel: channel(1),
					proofs: { a: proof("a"), b: proof("b") },
					idempotency: idempotency("k"),
					outbox: [transaction(7)],
					audit: [line(1)],
				};
				await write(store, named, writes);
				const { value: seen } = await store.transact(named, (view) => ({
					value: [view.channel, view.proof("a"), view.proof("b"), view.idempotency],
				}));
				expect(seen).toEqual([writes.channel, writes.proofs.a, writes.proofs.b, writes.idempotency]);
				expect(await collect(store.outbox({ state: "any" }))).toEqual(writes.outbox);
				expect(await collect(store.audit())).toEqual(writes.audit);
			});

			it("credits a proof once, however many turns ask at the same time (I4)", async () => {
				const attempts = Array.from({ length: 40 }, (_, i) =>
					store.transact({ channel: id(i % 4), proofs: ["once"] }, (view) =>
						view.proof("once") === undefined
							? { value: true, writes: { proofs: { once: proof("once") } } }
							: { value: false },
					),
				);
				const won = (await Promise.all(attempts)).filter(({ value }) => value);
				expect(won).toHaveLength(1);
			});

			it("leaves no trace of a turn that throws, and goes on (I5)", async () => {
				await write(store, { channel: id(1) }, { channel: channel(1, { spent: 5n }) });
				const failing = store.transact({ channel: id(1), proofs: ["p"] }, () => {
					throw new RangeError("no");
				});
				await expect(failing).rejects.toThrow(new RangeError("no"));
				const { value } = await store.transact({ channel: id(1), proofs: ["p"] }, (view) => ({
					value: [view.channel?.spent, view.proof("p")],
				}));
				expect(value).toEqual([5n, undefined]);
			});

			it("refuses what a turn did not name, and writes nothing of it (I4)", async () => {
				const attempts: [TurnKeys, TurnWrites][] = [
					[{ channel: id(1) }, { channel: channel(2) }],
					[{ proofs: ["a"] }, { proofs: { a: proof("a"), b: proof("b") } }],
					[{ proofs: ["a"] }, { proofs: { a: proof("b") } }],
					[{ idempotency: "k" }, { idempotency: idempotency("l"), audit: [line(1)] }],
					[{}, { idempotency: null, audit: [line(1)] }],
				];
				for (const [named, writes] of attempts) {
					await expect(store.transact(named, () => ({ value: 0, writes }))).rejects.toThrow(TypeError);
				}
				const peeking = store.transact({ proofs: ["a"] }, (view) => ({ value: view.proof("b") }));
				await expect(peeking).rejects.toThrow(TypeError);
				expect(await collect(store.channels())).toEqual([]);
				expect(await collect(store.audit())).toEqual([]);
				const { value } = await store.transact({ proofs: ["a", "b"] }, (view) => ({
					value: [view.proof("a"), view.proof("b")],
				}));
				expect(value).toEqual([undefined, undefined]);
			});

			it("lets a turn that waits for its durability not hold up others, on the same key or another", async () => {
				const first = await increment(store, 1);
				const [same, other] = await Promise.all([increment(store, 1), increment(store, 2)]);
				expect([first.value, same.value, other.value]).toEqual([1n, 2n, 1n]);
				await Promise.all([first.durable, same.durable, other.durable]);
			});

			it("makes turns on the same keys durable in their order (I5)", async () => {
				const order: bigint[] = [];
				const turns = Array.from({ length: 30 }, async () => {
					const { value, durable } = await increment(store, 1);
					await durable;
					order.push(value);
				});
				await Promise.all(turns);
				expect(order).toEqual([...order].sort((a, b) => Number(a - b)));
			});

			it("makes a turn that only reads wait for what it read to be durable (I5)", async () => {
				const events: string[] = [];
				const { durable: written } = await increment(store, 1);
				void written.then(() => events.push("written"));
				const { value, durable: read } = await store.transact({ channel: id(1) }, (view) => ({
					value: view.channel?.acceptedCumulative,
				}));
				void read.then(() => events.push("read"));
				await Promise.all([written, read]);
				await Promise.resolve();
				expect(value).toBe(1n);
				expect(events).toEqual(["written", "read"]);
			});
		});

		describeInterleaving(() => under.open());

		describe("records", () => {
			it("keeps held, paid and used proofs apart, and deletes one (I4)", async () => {
				const records = {
					held: proof("held", { state: "held", owner: store.owner }),
					paid: proof("paid", { state: "paid", expiresAt: 12 }),
					used: proof("used", { reference: id(9) }),
				};
				const named = { proofs: ["held", "paid", "used"] };
				await write(store, named, { proofs: records });
				await write(store, named, { proofs: { held: null } });
				const { value } = await store.transact(named, (view) => ({
					value: named.proofs.map((key) => view.proof(key)),
				}));
				expect(value).toEqual([undefined, records.paid, records.used]);
			});

			it("keeps an answer with its body, or without one (I6)", async () => {
				const body = Uint8Array.from({ length: 256 }, (_, i) => i);
				const headers = { "content-type": "application/octet-stream" };
				const answers = [
					idempotency("a", { state: "done", response: { status: 200, headers, body } }),
					idempotency("b", { state: "done", response: { status: 200, headers, body: null } }),
					idempotency("c", { state: "done", response: { status: 204, headers: {}, body: new Uint8Array() } }),
				];
				for (const answer of answers) await write(store, { idempotency: answer.key }, { idempotency: answer });
				store = (await under.reopen?.(store)) ?? store;
				for (const answer of answers) {
					const { value } = await store.transact({ idempotency: answer.key }, (view) => ({ value: view.idempotency }));
					expect(value).toEqual(answer);
				}
				await write(store, { idempotency: "a" }, { idempotency: null });
				const { value } = await store.transact({ idempotency: "a" }, (view) => ({ value: view.idempotency }));
				expect(value).toBeUndefined();
			});

			it("tells keys apart whatever text they are", async () => {
				const names = ["", " ", ":", "a:b", "ключ", "😀", "\u0000", "x".repeat(2_000)];
				await write(store, { proofs: names }, { proofs: Object.fromEntries(names.map((key) => [key, proof(key)])) });
				const { value } = await store.transact({ proofs: names }, (view) => ({
					value: names.map((key) => view.proof(key)),
				}));
				expect(value).toEqual(names.map((key) => proof(key)));
			});

			it("remembers how far a follower came", async () => {
				const cursor = { name: "watcher", blockNumber: 2n ** 70n, blockHash: id(3), updatedAt: 5 };
				expect(await store.cursor("watcher")).toBeUndefined();
				await store.putCursor({ ...cursor, blockNumber: 1n });
				await store.putCursor(cursor);
				expect(await store.cursor("watcher")).toEqual(cursor);
				expect(await store.cursor("other")).toBeUndefined();
			});

			it("counts only itself as alive", () => {
				expect(store.isGone(store.owner)).toBe(false);
			});
		});

		describe("scans", () => {
			it("gives channels in the order of their ids, from any of them on", async () => {
				await putChannels(
					store,
					[5, 300, 1, 77, 16].map((n) => channel(n)),
				);
				expect((await collect(store.channels())).map(({ channelId }) => channelId)).toEqual(
					[1, 5, 16, 77, 300].map(id),
				);
				const later = await collect(store.channels({ after: id(16) }));
				expect(later.map(({ channelId }) => channelId)).toEqual([77, 300].map(id));
			});

			it("gives the highest unsettled value first, and nothing that is settled or finalized", async () => {
				await fc.assert(
					fc.asyncProperty(
						fc.array(fc.tuple(fc.bigInt(0n, 2n ** 127n), fc.boolean()), { maxLength: 30 }),
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
				const hashes = async (state: "pending" | "any") =>
					(await collect(store.outbox({ state }))).map(({ hash }) => hash);
				expect(await hashes("pending")).toEqual([2, 1, 3].map(id));
				expect(await hashes("any")).toEqual([4, 5, 2, 1, 3].map(id));
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

		describe("pruning", () => {
			it("deletes exactly what expired before now", async () => {
				const expiries = [5, 9, 10, 11, null];
				const proofs = expiries.map((expiresAt) => proof(`p${expiresAt}`, { expiresAt }));
				const named = { proofs: proofs.map(({ key }) => key) };
				await write(store, named, { proofs: Object.fromEntries(proofs.map((one) => [one.key, one])) });
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
					proofs: {
						later: proof("later", { expiresAt: later }),
						never: proof("never", { expiresAt: never }),
						sooner: proof("sooner", { expiresAt: sooner }),
					},
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
					names.map((key) => write(store, { proofs: [key] }, { proofs: { [key]: proof(key, { expiresAt: 5 }) } })),
				);
				const renewed = names.filter((_, i) => i % 7 === 0);
				const [pruned] = await Promise.all([
					store.prune(10),
					...renewed.map((key) => write(store, { proofs: [key] }, { proofs: { [key]: proof(key) } })),
				]);
				expect(pruned).toBeGreaterThanOrEqual(names.length - renewed.length);
				const { value: left } = await store.transact({ proofs: names }, (view) => ({
					value: names.filter((key) => view.proof(key) !== undefined),
				}));
				expect(left).toEqual(renewed);
			});
		});

		it("refuses everything once it is closed (I10)", async () => {
			await increment(store, 1);
			await store.close();
			const closed = { name: "StoreUnavailableError", code: "STORE_UNAVAILABLE" };
			await expect(increment(store, 1)).rejects.toMatchObject(closed);
			await expect(store.channel(id(1))).rejects.toMatchObject(closed);
			await expect(store.cursor("watcher")).rejects.toMatchObject(closed);
			await expect(store.prune(1)).rejects.toBeInstanceOf(StoreUnavailableError);
			await expect(collect(store.channels())).rejects.toMatchObject(closed);
			await store.close();
		});

		it.skipIf(under.reopen === undefined)("has everything again after a restart, under a new name (I5)", async () => {
			const named = { channel: id(1), proofs: ["p"], idempotency: "k" };
			const full = channel(1, {
				acceptedCumulative: 2n ** 126n,
				reservations: { [store.owner]: 5n, another: 0n },
				challengeIds: ["a", "b"],
				closingBy: store.owner,
				generation: 3,
			});
			const { durable } = await store.transact(named, () => ({
				value: 0,
				writes: {
					channel: full,
					proofs: { p: proof("p") },
					idempotency: idempotency("k"),
					outbox: [transaction(1, { purpose: { kind: "settle", channel: id(1) } })],
				},
			}));
			void durable;
			const before = store.owner;
			store = (await under.reopen?.(store)) ?? store;
			expect(store.owner).not.toBe(before);
			expect(store.isGone(before)).toBe(true);
			const { value } = await store.transact(named, (view) => ({
				value: [view.channel, view.proof("p"), view.idempotency],
			}));
			expect(value).toEqual([full, proof("p"), idempotency("k")]);
			expect(await collect(store.due("unsettled"))).toEqual([full]);
			expect(await collect(store.outbox({ state: "pending" }))).toHaveLength(1);
		});
	});
}
