import { setTimeout } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import type { Neighbours } from "../../../src/client/store/holders.ts";
import type { Entry, Operations, Range } from "../../../src/client/store/kv.ts";
import { MemoryKv } from "../../../src/client/store/memoryKv.ts";
import { PayerBook } from "../../../src/client/store/payerBook.ts";
import type { PayerStore } from "../../../src/client/store/store.ts";
import { channel, id, KEY, payment, receipt, signed } from "./records.ts";
import { added, signedOf, taken } from "./suite.ts";

const WAIT_MS = 20_000;

/** A database that fails when it is told to. */
class FailingKv extends MemoryKv {
	writes = 0;
	/** Whether each write went through to the disk. */
	readonly synced: boolean[] = [];
	fault: Error | undefined;
	/** What a write fails with that was carried out. */
	faultAfter: Error | undefined;
	/** What each write waits for. */
	gate: Promise<void> = Promise.resolve();

	override async write(operations: Operations, isSynced = true): Promise<void> {
		this.writes++;
		this.synced.push(isSynced);
		await this.gate;
		if (this.fault !== undefined) throw this.fault;
		await super.write(operations);
		if (this.faultAfter !== undefined) throw this.faultAfter;
	}
}

/** A database that takes its time over the second channel. */
class GatedKv extends MemoryKv {
	gate: Promise<void> | undefined;

	override async get(keys: readonly string[]): Promise<readonly (string | undefined)[]> {
		if (keys.includes(`c:${id(2)}`)) await this.gate;
		return await super.get(keys);
	}
}

/** A database that counts what is asked of it. */
class CountingKv extends MemoryKv {
	reads = 0;
	writes = 0;
	/** How many texts of ranges it has shown. */
	shown = 0;

	override async entries(range: Range): Promise<readonly Entry[]> {
		const entries = await super.entries(range);
		this.shown += entries.length;
		return entries;
	}

	override async get(keys: readonly string[]): Promise<readonly (string | undefined)[]> {
		this.reads++;
		return await super.get(keys);
	}

	override async write(operations: Operations): Promise<void> {
		this.writes++;
		await super.write(operations);
	}
}

describe("a book after its owner was lost", () => {
	it("leaves channels to their holders for a moment, then gives them to whoever waits", async () => {
		const kv = new MemoryKv();
		const held = await added(new PayerBook(kv).as("gone"), 1);
		const next = new PayerBook(kv, { graceMs: 300 }).as("next");
		expect((await next.list())[0]?.isHeld).toBe(true);
		expect(await next.take(KEY)).toBeUndefined();
		expect(await next.add(channel(1), 5)).toBeUndefined();
		const later = await next.take(KEY, WAIT_MS);
		expect(later?.fence).toBeGreaterThan(held.fence);
	});

	it("gives them to whoever waits when the moment is over while others are still looked for", async () => {
		const kv = new GatedKv();
		const gone = new PayerBook(kv).as("gone");
		await added(gone, 1);
		await added(gone, 2);
		const next = new PayerBook(kv, { graceMs: 50 }).as("next");
		kv.gate = setTimeout(100);
		const taken = await Promise.all([next.takeById(id(1), WAIT_MS), next.takeById(id(2), WAIT_MS)]);
		expect(taken.map((held) => held?.record.state.channelId)).toEqual([id(1), id(2)]);
	});

	it("lets a holder that comes back go on under its old fence (I11)", async () => {
		const kv = new MemoryKv();
		const before = new PayerBook(kv).as("a");
		const [one, two] = [await added(before, 1), await added(before, 2)];
		const book = new PayerBook(kv, { graceMs: 0 });
		expect(await book.holderBack("a", [{ channelId: id(1), fence: one.fence }])).toEqual([]);
		const [back, other] = [book.as("a"), book.as("b")];
		await back.write({ channel: signed(one, 5) });
		expect(await signedOf(other, 1)).toBe("5");
		// Of the other one it did not know: the answer that gave it away was lost.
		const freed = await taken(other);
		expect(freed.record.state.channelId).toBe(id(2));
		await expect(back.write({ channel: signed(two, 5) })).rejects.toMatchObject({ code: "HOLDER_LOST" });
	});

	it("tells a holder that comes back what it has lost", async () => {
		const book = new PayerBook(new MemoryKv());
		const [a, b] = [book.as("a"), book.as("b")];
		const [one, two, three] = [await added(a, 1), await added(a, 2), await added(a, 3)];
		await book.holderGone("a");
		await expect(a.write({ channel: signed(one, 5) })).rejects.toMatchObject({ code: "PAYER_STORE" });
		const taken = await b.takeById(id(1));
		await b.release(id(1), taken?.fence ?? 0);
		const claimed = [
			{ channelId: id(1), fence: one.fence },
			{ channelId: id(2), fence: two.fence },
			{ channelId: id(3), fence: three.fence + 1 },
			{ channelId: id(4), fence: 1 },
		];
		expect(await book.holderBack("a", claimed)).toEqual([id(1), id(3), id(4)]);
		await a.write({ channel: signed(two, 5) });
		await expect(a.write({ channel: signed(one, 5) })).rejects.toMatchObject({ code: "HOLDER_LOST" });
		await expect(a.write({ channel: signed(three, 5) })).rejects.toMatchObject({ code: "HOLDER_LOST" });
	});
});

describe("a book's writes", () => {
	it("share one write where they wait at the same moment, and each is checked", async () => {
		const kv = new FailingKv();
		const store = new PayerBook(kv).as("a");
		const held = await added(store, 1);
		kv.writes = 0;
		const all = Array.from({ length: 100 }, (_, number) =>
			store.write({ channel: signed(held, number), counters: [{ key: "x", add: 1n, max: 70n }] }),
		);
		const refused = (await Promise.all(all)).filter((refusal) => refusal !== undefined);
		expect(refused).toHaveLength(30);
		expect(kv.writes).toBeLessThan(5);
		expect(await signedOf(store, 1)).toBe("69");
	});

	it("are told to nobody when the disk takes none, and go on when it does again (I10)", async () => {
		const kv = new FailingKv();
		const book = new PayerBook(kv);
		const [a, b] = [book.as("a"), book.as("b")];
		const held = await added(a, 1);
		kv.fault = new Error("disk full");
		const failed = { code: "PAYER_STORE", message: expect.stringContaining("disk full") };
		const writing = [
			expect(a.write({ channel: signed(held, 5), counters: [{ key: "x", add: 5n }] })).rejects.toMatchObject(failed),
			expect(a.release(id(1), held.fence)).rejects.toMatchObject(failed),
			expect(b.take(KEY, WAIT_MS)).rejects.toMatchObject(failed),
			expect(b.add(channel(2), 5)).rejects.toMatchObject(failed),
		];
		await Promise.all(writing);
		kv.fault = undefined;
		expect(await a.counts(["x"])).toEqual([0n]);
		expect(await a.list()).toEqual([{ record: channel(1), isHeld: true }]);
		await a.write({ channel: signed(held, 4) });
		expect(await signedOf(a, 1)).toBe("4");
	});

	it("are refused when too many wait, and so is whoever wants a channel then; later both go on", async () => {
		const kv = new FailingKv();
		const book = new PayerBook(kv);
		const [a, b] = [book.as("a"), book.as("b")];
		const held = await added(a, 1);
		await a.release(id(1), held.fence);
		let open = () => {};
		kv.gate = new Promise((resolve) => {
			open = resolve;
		});
		const refused = { code: "PAYER_STORE", message: expect.stringContaining("too much waits") };
		const first = a.setPaused("now");
		await expect.poll(() => kv.writes, { timeout: WAIT_MS }).toBeGreaterThan(2);
		const waiting = Array.from({ length: 10_000 }, () => a.setPaused(undefined));
		await expect(a.setPaused(undefined)).rejects.toMatchObject(refused);
		await expect(b.take(KEY, WAIT_MS)).rejects.toMatchObject(refused);
		open();
		await Promise.all([first, ...waiting]);
		expect((await b.take(KEY, WAIT_MS))?.record).toEqual(channel(1));
	});

	it("give back what comes too late for one who has stopped waiting", async () => {
		const kv = new FailingKv();
		const book = new PayerBook(kv);
		const [a, b] = [book.as("a"), book.as("b")];
		const held = await added(a, 1);
		await a.release(id(1), held.fence);
		const stopped = new AbortController();
		let open = () => {};
		kv.gate = new Promise((resolve) => {
			open = resolve;
		});
		const writes = kv.writes;
		const taking = expect(a.take(KEY, WAIT_MS, stopped.signal)).rejects.toThrow("enough");
		await expect.poll(() => kv.writes, { timeout: WAIT_MS }).toBe(writes + 1);
		stopped.abort(new Error("enough"));
		await taking;
		const waiting = b.take(KEY, WAIT_MS);
		open();
		expect((await waiting)?.record).toEqual(channel(1));
	});

	it("reach the disk before they are told of, but receipts, which may wait", async () => {
		const kv = new FailingKv();
		const store = new PayerBook(kv).as("a");
		await store.note(receipt(1));
		await store.write({ counters: [{ key: "x", add: 1n }] });
		await Promise.all([store.note(receipt(2)), store.setPaused("now")]);
		expect(kv.synced).toEqual([false, true, true]);
	});
});

describe("a book's confirmations", () => {
	it("write nothing, and read nothing that the book knows", async () => {
		const kv = new CountingKv();
		const held = await added(new PayerBook(kv).as("a"), 1);
		const book = await PayerBook.open(kv);
		await book.holderBack("a", [{ channelId: id(1), fence: held.fence }]);
		const store = book.as("a");
		const { reads, writes } = kv;
		for (let times = 0; times < 10; times++) await store.confirm(id(1), held.fence);
		expect(kv).toMatchObject({ reads, writes });
	});

	it("know who had a channel before this book, and that it was paused", async () => {
		const kv = new MemoryKv();
		const before = new PayerBook(kv).as("a");
		const held = await added(before, 1);
		await before.setPaused("before");
		const book = new PayerBook(kv, { graceMs: 0 });
		await book.holderBack("a", [{ channelId: id(1), fence: held.fence }]);
		const [a, b] = [book.as("a"), book.as("b")];
		await expect(a.confirm(id(1), held.fence)).rejects.toMatchObject({ code: "PAUSED", reason: "before" });
		await expect(b.confirm(id(1), held.fence)).rejects.toMatchObject({ code: "HOLDER_LOST" });
		await a.setPaused(undefined);
		await a.confirm(id(1), held.fence);
	});

	it("forget what a write that failed may have written", async () => {
		const kv = new FailingKv();
		const store = new PayerBook(kv).as("a");
		const held = await added(store, 1);
		await store.setPaused("now");
		// It reaches the disk, and fails all the same.
		kv.faultAfter = new Error("no answer");
		await expect(store.setPaused(undefined)).rejects.toMatchObject({ code: "PAYER_STORE" });
		await store.confirm(id(1), held.fence);
		await expect(store.release(id(1), held.fence)).rejects.toMatchObject({ code: "PAYER_STORE" });
		await expect(store.confirm(id(1), held.fence)).rejects.toMatchObject({ code: "HOLDER_LOST" });
	});
});

describe("a book's bounds", () => {
	it("keeps so many receipts, the newest, and each channel's last voucher besides", async () => {
		const store = new PayerBook(new MemoryKv(), { maxReceipts: 3 }).as("a");
		await store.note(receipt(0, { kind: "voucher", channelId: id(1) }));
		for (let number = 1; number <= 7; number++) await store.note(receipt(number));
		await store.note(receipt(8, { kind: "voucher", channelId: id(2) }));
		expect((await store.receipts()).map(({ amount }) => amount)).toEqual(["8", "7", "6", "5", "0"]);
	});

	it("keeps so many payments: the oldest that nobody uses goes, and where all are used none is made", async () => {
		const kv = new MemoryKv();
		const book = new PayerBook(kv, { maxPayments: 3 });
		const [a, b] = [book.as("a"), book.as("b")];
		for (let number = 0; number < 3; number++) await a.keepPayment(`terms ${number}`, payment(number));
		await expect(a.keepPayment("terms 3", payment(3))).rejects.toMatchObject({ code: "PAYER_STORE" });
		await a.freePayment("terms 1", id(1));
		await a.keepPayment("terms 3", payment(3));
		expect(await b.takePayment("terms 1")).toBeUndefined();
		await kv.write(new Map([["m:payments", "nonsense"]]));
		await a.dropPayment("terms 0", id(0));
		await a.keepPayment("terms 4", payment(4));
		await expect(a.keepPayment("terms 5", payment(5))).rejects.toMatchObject({ code: "PAYER_STORE" });
		await book.holderGone("a");
		for (const number of [2, 3, 4]) expect(await b.takePayment(`terms ${number}`)).toEqual(payment(number));
	});

	it("refuses where a payment is damaged, and says nothing of it", async () => {
		const kv = new MemoryKv();
		const store = new PayerBook(kv).as("a");
		await store.keepPayment("x", payment(1));
		const [[key = "", text = ""] = []] = await kv.entries({ gt: "p:", lt: "p;" });
		await kv.write(new Map([[key, text.replace("5ec7e7", "5ec7e8")]]));
		const refused = store.takePayment("x");
		await expect(refused).rejects.toMatchObject({ code: "PAYER_STORE", message: expect.not.stringContaining("5ec7") });
		expect(await store.takePayment("y")).toBeUndefined();
	});

	/** Closes channel after channel, each a second later. */
	async function closeAll(store: PayerStore, numbers: readonly number[]): Promise<void> {
		for (const number of numbers) {
			const held = await added(store, number);
			await store.note(receipt(number, { kind: "voucher", channelId: id(number) }));
			await store.write({ channel: { ...held, record: channel(number, { status: "closed", signed: "5" }) } });
			await store.release(id(number), held.fence);
		}
	}
	const numbersOf = async (store: PayerStore) =>
		(await store.list()).map(({ record }) => Number(record.state.channelId));

	it("keeps so many closed channels, the ones that were closed last, and of the others the receipts as any other", async () => {
		let nowMs = 10 ** 12;
		const kv = new MemoryKv();
		const book = new PayerBook(kv, { maxClosed: 3, maxReceipts: 2, now: () => (nowMs += 1_000) });
		const store = book.as("a");
		const open = await added(store, 1);
		const busy = await added(store, 2);
		await store.write({ channel: { ...busy, record: channel(2, { status: "closed", signed: "5" }) } });
		await closeAll(store, [9, 3, 8, 4, 7, 5, 6]);
		expect(await numbersOf(store)).toEqual([1, 2, 5, 6, 7]);
		expect((await store.receipts()).map(({ amount }) => amount)).toEqual(["6", "5", "7", "4", "8"]);
		await store.release(id(2), busy.fence);
		await closeAll(store, [10]);
		expect(await numbersOf(store)).toEqual([1, 5, 6, 10]);
		await store.write({ channel: { ...open, record: channel(1, { status: "closed", signed: "5" }) } });
		expect(await numbersOf(store)).toEqual([1, 6, 10]);
		expect((await kv.entries({ gt: "d:", lt: "d;" })).length).toBe(3);
		expect((await kv.entries({ gt: "v:", lt: "v;" })).length).toBe(2);
	});

	it("takes away no closed channel whose record is damaged, and goes on with the others", async () => {
		const kv = new MemoryKv();
		const store = new PayerBook(kv, { maxClosed: 1 }).as("a");
		await closeAll(store, [1]);
		await kv.write(new Map([[`c:${id(1)}`, "damaged"]]));
		await closeAll(store, [2, 3]);
		expect(await numbersOf(store)).toEqual([3]);
		expect((await store.damaged()).map(({ channelId }) => channelId)).toEqual([id(1)]);
	});

	it("reads no closed channel where none is asked for", async () => {
		const kv = new CountingKv();
		const store = new PayerBook(kv).as("a");
		await closeAll(
			store,
			Array.from({ length: 50 }, (_, index) => index + 10),
		);
		await added(store, 1);
		kv.shown = 0;
		expect(await store.list({ isClosed: false })).toHaveLength(1);
		expect(kv.shown).toBe(1);
	});

	it("takes away counts whose time is over, and of those none that a clock set back may ask for", async () => {
		const kv = new MemoryKv();
		const count = 2_600;
		const store = new PayerBook(kv).as("a");
		for (let from = 0; from < count; from += 100) {
			const counters = Array.from({ length: 100 }, (_, index) => {
				const untilMs = from + index;
				return { key: `hour ${untilMs}`, add: 1n, untilMs };
			});
			await store.write({ counters });
		}
		await store.write({ counters: [{ key: "ever", add: 1n }] });
		const keys = Array.from({ length: count }, (_, number) => `hour ${number}`);
		const left = async (now: number) => {
			const book = await PayerBook.open(kv, { now: () => now });
			const counts = await book.as("b").counts([...keys, "ever"]);
			return counts.filter((value) => value === 1n).length;
		};
		expect(await left(-1)).toBe(count + 1);
		expect(await left(100)).toBe(count - 100 + 1);
		// Far in the future by mistake: what ended last stays.
		expect(await left(10 ** 15)).toBe(2_000 + 1);
		expect(await left(10 ** 15)).toBe(2_000 + 1);
		expect(await new PayerBook(kv).as("c").counts(["hour 599", "hour 600", "hour 2599"])).toEqual([0n, 1n, 1n]);
	});
});

describe("books of several tabs over one database", () => {
	const tabs = new Set<Tab>();
	let queue: Promise<unknown> = Promise.resolve();
	afterEach(() => tabs.clear());

	/** A page: its holders are there as long as it is. */
	type Tab = { book: PayerBook; holders: Set<string>; tell?: Parameters<Neighbours["listen"]>[0] };

	function openTab(kv: MemoryKv): Tab {
		const others = () => [...tabs].filter((other) => other !== tab);
		const tab: Partial<Tab> = { holders: new Set() };
		const { holders } = tab as Tab;
		tab.book = new PayerBook(kv, {
			exclusive: (task) => {
				const turn = queue.then(task);
				queue = turn.catch(() => {});
				return turn;
			},
			neighbours: {
				lookMs: 20,
				arrive: (holder) => holders.add(holder),
				leave: (holder) => holders.delete(holder),
				isThere: async (holder) => [...tabs].some((other) => other.holders.has(holder)),
				tellWanted: (holder, channelId) => {
					for (const other of others()) other.tell?.wanted(holder, channelId);
				},
				tellFreed: () => {
					for (const other of others()) other.tell?.freed();
				},
				listen: (on) => {
					tab.tell = on;
					return () => delete tab.tell;
				},
			},
		});
		tabs.add(tab as Tab);
		return tab as Tab;
	}

	it("ask each other for a channel, and hand it over (I11)", async () => {
		const kv = new MemoryKv();
		const [a, b] = [openTab(kv).book.as("a"), openTab(kv).book.as("b")];
		const held = await added(a, 1);
		await a.write({ channel: signed(held, 9) });
		a.onWanted((channelId) => void a.release(channelId, held.fence));
		const next = await b.take(KEY, WAIT_MS);
		expect(next?.record.state.signed).toBe("9");
		await expect(a.write({ channel: signed(held, 10) })).rejects.toMatchObject({ code: "HOLDER_LOST" });
	});

	it("confirm nothing that another tab has written since (I11)", async () => {
		const kv = new MemoryKv();
		const [a, b] = [openTab(kv).book.as("a"), openTab(kv).book.as("b")];
		const held = await added(a, 1);
		await a.confirm(id(1), held.fence);
		await b.setPaused("in the other tab");
		await expect(a.confirm(id(1), held.fence)).rejects.toMatchObject({ code: "PAUSED" });
		await b.setPaused(undefined);
		await a.confirm(id(1), held.fence);
		await a.release(id(1), held.fence);
		await taken(b);
		await expect(a.confirm(id(1), held.fence)).rejects.toMatchObject({ code: "HOLDER_LOST" });
	});

	it("find out that a tab is gone while they wait", async () => {
		const kv = new MemoryKv();
		const gone = openTab(kv);
		const held = await added(gone.book.as("gone"), 1);
		const b = openTab(kv).book.as("b");
		expect(await b.take(KEY)).toBeUndefined();
		const waiting = b.take(KEY, WAIT_MS);
		tabs.delete(gone);
		expect((await waiting)?.fence).toBeGreaterThan(held.fence);
	});

	it("never count above a limit together", async () => {
		const kv = new MemoryKv();
		const stores: readonly PayerStore[] = [
			openTab(kv).book.as("a"),
			openTab(kv).book.as("b"),
			openTab(kv).book.as("c"),
		];
		const writes = stores.flatMap((store) =>
			Array.from({ length: 20 }, () => store.write({ counters: [{ key: "x", add: 2n, max: 51n }] })),
		);
		expect((await Promise.all(writes)).filter((refusal) => refusal === undefined)).toHaveLength(25);
		expect(await stores[0]?.counts(["x"])).toEqual([50n]);
	});
});
