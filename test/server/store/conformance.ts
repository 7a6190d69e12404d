/**
 * What every store has to do, whatever it is made of. Run it from a test file:
 *
 *     describeStore("MemoryStore", { open: async () => new MemoryStore() });
 */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
	type ChannelStore,
	datedProof,
	StoreUnavailableError,
	type TurnKeys,
	type TurnWrites,
} from "../../../src/server/store/store.ts";
import { describeInterleaving } from "./interleaving.ts";
import { channel, collect, id, idempotency, line, proof, receipt, transaction } from "./records.ts";
import { describeScans, type StoreUnderTest } from "./scans.ts";
import { increment, write } from "./turns.ts";

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
					proofs: [proof("a"), proof("b")],
					idempotency: idempotency("k"),
					outbox: [transaction(7)],
					audit: [line(1)],
				};
				await write(store, named, writes);
				const { value: seen } = await store.transact(named, (view) => ({
					value: [view.channel, view.proof("a"), view.proof("b"), view.idempotency],
				}));
				expect(seen).toEqual([writes.channel, ...writes.proofs, writes.idempotency]);
				expect(await collect(store.outbox({ state: "any" }))).toEqual(writes.outbox);
				expect(await collect(store.audit())).toEqual(writes.audit);
			});

			it("credits a proof once, however many turns ask at the same time (I4)", async () => {
				const attempts = Array.from({ length: 40 }, (_, i) =>
					store.transact({ channel: id(i % 4), proofs: ["once"] }, (view) =>
						view.proof("once") === undefined ? { value: true, writes: { proofs: [proof("once")] } } : { value: false },
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
					[{ proofs: ["a"] }, { proofs: [proof("a"), proof("b")] }],
					[{ proofs: ["a"] }, { proofs: [proof("a")], deletedProofs: ["b"] }],
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
				await write(store, named, { proofs: Object.values(records) });
				await write(store, named, { deletedProofs: ["held"] });
				const { value } = await store.transact(named, (view) => ({
					value: named.proofs.map((key) => view.proof(key)),
				}));
				expect(value).toEqual([undefined, records.paid, records.used]);
			});

			it("keeps a dated proof until its date, which its key and its record agree about", async () => {
				const [early, late] = [10, 20].map((expiresAt) => proof(datedProof(expiresAt, "once"), { expiresAt }));
				if (early === undefined || late === undefined) throw new Error("two proofs were made");
				for (const one of [early, late]) await write(store, { proofs: [one.key] }, { proofs: [one] });
				await write(store, { proofs: [late.key] }, { proofs: [{ ...late, state: "used" }] });
				store = (await under.reopen?.(store)) ?? store;
				expect(await store.prune(15)).toBe(1);
				const named = { proofs: [early.key, late.key] };
				const { value } = await store.transact(named, (view) => ({
					value: named.proofs.map((key) => view.proof(key)),
				}));
				expect(value).toEqual([undefined, { ...late, state: "used" }]);
				await write(store, named, { deletedProofs: [late.key] });
				expect(await store.prune(25)).toBe(0);
				const misdated = { ...late, expiresAt: 21 };
				await expect(write(store, named, { proofs: [misdated] })).rejects.toThrow(TypeError);
			});

			it("keeps an answer with its body, or without one (I6)", async () => {
				const body = Uint8Array.from({ length: 256 }, (_, i) => i);
				const headers = { "content-type": "application/octet-stream" };
				const answers = [
					idempotency("a", { state: "done", response: { status: 200, headers, body, receipt: receipt(1) } }),
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
				await write(store, { proofs: names }, { proofs: names.map((key) => proof(key)) });
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

		const { reopen } = under;
		if (reopen !== undefined) {
			it("has everything again after a restart, under a new name (I5)", async () => {
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
						proofs: [proof("p")],
						idempotency: idempotency("k"),
						outbox: [transaction(1, { purpose: { kind: "settle", channel: id(1) } })],
					},
				}));
				void durable;
				const before = store.owner;
				store = await reopen(store);
				expect(store.owner).not.toBe(before);
				expect(store.isGone(before)).toBe(true);
				const { value } = await store.transact(named, (view) => ({
					value: [view.channel, view.proof("p"), view.idempotency],
				}));
				expect(value).toEqual([full, proof("p"), idempotency("k")]);
				expect(await collect(store.due("unsettled"))).toEqual([full]);
				expect(await collect(store.outbox({ state: "pending" }))).toHaveLength(1);
			});
		}
	});

	describe(`${name} is scanned and pruned`, () => describeScans(under));
}
