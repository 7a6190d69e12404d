/** What a book remembers of what it has written: never more than is on disk, bounded, and nobody else's to change. */
import { afterEach, describe, expect, it } from "vitest";
import type { Operations } from "../../../src/client/store/kv.ts";
import { LevelPayerStore } from "../../../src/client/store/levelStore.ts";
import { MemoryKv } from "../../../src/client/store/memoryKv.ts";
import { PayerBook } from "../../../src/client/store/payerBook.ts";
import { Recent } from "../../../src/client/store/recent.ts";
import { Rounds } from "../../../src/client/store/rounds.ts";
import type { ChannelRecord, HeldChannel, PayerStore } from "../../../src/client/store/store.ts";
import { challenge, channel, id, KEY, signed } from "./records.ts";
import { freshFolder, openDatabase, removeFolders } from "./stages.ts";
import { added, signedOf } from "./suite.ts";

afterEach(removeFolders);

type Writable<T> = { -readonly [K in keyof T]: T[K] extends object ? Writable<T[K]> : T[K] };

function changeable(held: HeldChannel): Writable<ChannelRecord> {
	return held.record as Writable<ChannelRecord>;
}

/** A database that fails when it is told to, before or after it has written. */
class FailingKv extends MemoryKv {
	fails: "before" | "after" | undefined;

	override async write(operations: Operations): Promise<void> {
		if (this.fails === "before") throw new Error("the disk is full");
		await super.write(operations);
		if (this.fails === "after") throw new Error("no answer");
	}
}

describe("what a book remembers of a channel", () => {
	it("is changed by nobody who has the record: not who wrote it, nor who was given it (I11)", async () => {
		const store = new PayerBook(new MemoryKv()).as("a");
		const held = await store.add(structuredClone(channel(1)), 9);
		if (held === undefined) throw new Error("not added");
		const write = structuredClone(signed(held, 70));
		await store.write({ channel: write });
		// Whoever has an object that was written, or was given, changes it.
		for (const record of [changeable(write), changeable(held)]) {
			record.state.signed = "5";
			record.state.deposit = "99999";
			record.state.resource.url = "https://other.example.com/";
			record.status = "closed";
			(record.challenge as { realm: string }).realm = "other.example.com";
		}
		const lower = store.write({ channel: { fence: held.fence, record: channel(1, { signed: "69" }) } });
		await expect(lower).rejects.toMatchObject({ code: "SIGNED_LOWERED", kept: "70" });
		expect((await store.list())[0]?.record).toEqual(channel(1, { signed: "70" }));
		// Raised in the quick way, then changed again.
		const raised = { fence: held.fence, record: structuredClone(channel(1, { signed: "80" })) };
		await store.write({ channel: raised });
		changeable(raised).state.signed = "6";
		expect(await signedOf(store, 1)).toBe("80");
		await store.release(id(1), held.fence);
		const again = await store.take(KEY);
		expect(again?.record).toEqual(channel(1, { signed: "80" }));
		if (again === undefined) throw new Error("not taken");
		changeable(again).state.signed = "7";
		expect(await signedOf(store, 1)).toBe("80");
		const below = store.write({ channel: { fence: again.fence, record: channel(1, { signed: "79" }) } });
		await expect(below).rejects.toMatchObject({ code: "SIGNED_LOWERED" });
	});

	it("is forgotten where it is not known whether it was written (I11)", async () => {
		for (const fails of ["before", "after"] as const) {
			const kv = new FailingKv();
			const store = new PayerBook(kv).as("a");
			const held = await added(store, 1);
			await store.write({ channel: signed(held, 10), counters: [{ key: "x", add: 10n }] });
			kv.fails = fails;
			const lost = store.write({ channel: signed(held, 20), counters: [{ key: "x", add: 10n }] });
			await expect(lost).rejects.toMatchObject({ code: "PAYER_STORE" });
			kv.fails = undefined;
			const kept = fails === "before" ? 10n : 20n;
			expect(await store.counts(["x"])).toEqual([kept]);
			// What is on disk counts, whatever was answered.
			const lower = store.write({ channel: signed(held, kept - 1n) });
			await expect(lower).rejects.toMatchObject({ code: "SIGNED_LOWERED", kept: String(kept) });
			await store.write({ channel: signed(held, 30), counters: [{ key: "x", add: 1n, max: kept + 1n }] });
			const over = await store.write({ counters: [{ key: "x", add: 1n, max: kept + 1n }] });
			expect(over).toEqual({ key: "x", current: kept + 1n, max: kept + 1n });
		}
	});

	it("is not what a turn wanted that was refused", async () => {
		const store = new PayerBook(new MemoryKv()).as("a");
		const held = await added(store, 1);
		await store.write({ counters: [{ key: "x", add: 4n, max: 5n }] });
		const writes = [
			store.write({ channel: signed(held, 9), counters: [{ key: "x", add: 2n, max: 5n }] }),
			store.write({ channel: signed(held, 1), counters: [{ key: "x", add: 1n, max: 5n }] }),
			store.write({ channel: signed(held, 2), counters: [{ key: "x", add: 1n, max: 5n }] }),
		];
		expect((await Promise.all(writes)).map((refusal) => refusal?.current)).toEqual([4n, undefined, 5n]);
		expect(await signedOf(store, 1)).toBe("1");
		expect(await store.counts(["x"])).toEqual([5n]);
	});

	it("refuses what could not be read back however little of it has changed", async () => {
		const store = new PayerBook(new MemoryKv()).as("a");
		const held = await added(store, 1);
		const { record, fence } = held;
		const states: readonly object[] = [
			{ ...record.state, signed: "01" },
			{ ...record.state, signed: "1e3" },
			{ ...record.state, signed: String(2n ** 128n) },
			{ ...record.state, deposit: 5 },
			{ ...record.state, deposit: undefined },
			{ ...record.state, more: "than there is" },
			{ ...record.state, payee: "nobody" },
		];
		for (const state of states) {
			const wrong = { ...record, state } as ChannelRecord;
			await expect(store.write({ channel: { record: wrong, fence } })).rejects.toThrow();
		}
		await expect(
			store.write({ channel: { fence, record: { ...record, unknown: 1 } as ChannelRecord } }),
		).rejects.toThrow(/can't be kept/);
		expect((await store.list())[0]?.record).toEqual(channel(1));
	});

	it("takes over all else that has changed with the amounts", async () => {
		const store = new PayerBook(new MemoryKv()).as("a");
		const { fence } = await added(store, 1);
		const fresh: ChannelRecord = { ...channel(1, { signed: "5" }), challenge: { ...challenge, id: "another" } };
		await store.write({ channel: { fence, record: fresh } });
		expect((await store.list())[0]?.record).toEqual(fresh);
		const { challenge: _, ...without } = channel(1, { signed: "6", status: "forgotten" });
		await store.write({ channel: { fence, record: without } });
		expect((await store.list())[0]?.record).toEqual(without);
		expect(await store.take(KEY)).toBeUndefined();
	});

	it("is on disk as it is in memory: another store reads the same", async () => {
		const folder = await freshFolder();
		const store = await LevelPayerStore.open({ db: openDatabase(folder) });
		const held = await added(store, 1);
		for (let amount = 1n; amount <= 20n; amount++)
			await store.write({ channel: signed(held, amount), counters: [{ key: "x", add: 1n, untilMs: 10 ** 13 }] });
		const [listed, counts] = [await store.list(), await store.counts(["x"])];
		await store.close();
		const again: PayerStore = await LevelPayerStore.open({ db: openDatabase(folder) });
		expect(await again.list()).toEqual(listed.map((one) => ({ ...one, isHeld: false })));
		expect(await again.counts(["x"])).toEqual(counts);
		expect(counts).toEqual([20n]);
		await again.close();
	});
});

describe("a memory of what was written", () => {
	it("is bounded: what was asked for longest ago is read again, and is the same", async () => {
		const recent = new Recent({ max: 3 });
		const kv = new MemoryKv();
		const rounds = new Rounds(kv, (task) => task(), recent);
		for (let number = 0; number < 10; number++)
			await rounds.run(async (view) => view.put(`${number}`, { text: () => `text ${number}`, value: { number } }));
		const known = Array.from({ length: 10 }, (_, number) => rounds.look().recall(`${number}`));
		expect(known).toEqual([...Array(7).fill(undefined), { number: 7 }, { number: 8 }, { number: 9 }]);
		expect(await rounds.look().get("2")).toBe("text 2");
	});

	it("knows nothing any more of what was written over as text, or deleted", async () => {
		const rounds = new Rounds(new MemoryKv(), (task) => task(), new Recent());
		await rounds.run(async (view) => {
			for (const key of ["a", "b", "c"]) view.put(key, { text: () => key, value: { key } });
		});
		await rounds.run(async (view) => {
			view.put("a", "another text");
			view.delete("b");
			expect([view.recall("a"), view.recall("b"), view.recall("c")]).toEqual([undefined, undefined, { key: "c" }]);
		});
		const view = rounds.look();
		expect([view.recall("a"), view.recall("b"), view.recall("c")]).toEqual([undefined, undefined, { key: "c" }]);
		expect(await view.getMany(["a", "b", "c"])).toEqual(["another text", undefined, "c"]);
	});

	it("shows a turn what the turns before it in the same round have written", async () => {
		const rounds = new Rounds(new MemoryKv(), (task) => task(), new Recent());
		const seen: unknown[] = [];
		const turn = (count: number) =>
			rounds.run(async (view) => {
				seen.push(view.recall("count"));
				view.put("count", { text: () => `${count}`, value: { count } });
				if (count === 2) throw new Error("refused");
			});
		await Promise.allSettled([turn(1), turn(2), turn(3)]);
		expect(seen).toEqual([undefined, { count: 1 }, { count: 1 }]);
		expect(rounds.look().recall("count")).toEqual({ count: 3 });
	});

	it("knows of what one turn has read and the next one of its round has deleted that it is gone", async () => {
		const rounds = new Rounds(new MemoryKv(), (task) => task(), new Recent());
		await rounds.run(async (view) => view.put("a", "text"));
		const reading = rounds.run(async (view) => {
			view.read.set("a", { text: await view.get("a") });
		});
		await Promise.all([reading, rounds.run(async (view) => view.delete("a"))]);
		expect(rounds.look().recall("a")).toBeUndefined();
		expect(await rounds.look().get("a")).toBeUndefined();
	});

	it("is not there where others write into the same database", async () => {
		const kv = new MemoryKv();
		const tab = () => new PayerBook(kv, { exclusive: (task) => task() });
		const [one, other] = [tab().as("one"), tab().as("other")];
		await one.write({ counters: [{ key: "x", add: 1n }] });
		await other.write({ counters: [{ key: "x", add: 1n }] });
		await one.write({ counters: [{ key: "x", add: 1n }] });
		expect(await other.counts(["x"])).toEqual([3n]);
	});
});
