import { stat } from "node:fs/promises";
import fc from "fast-check";
import { Level } from "level";
import { afterAll, describe, expect, it } from "vitest";
import { openDisk } from "../../../src/server/store/disk.ts";
import { seal } from "../../../src/server/store/frame.ts";
import { LevelStore } from "../../../src/server/store/levelStore.ts";
import { type ChannelStore, CorruptRecordError, StoreUnavailableError } from "../../../src/server/store/store.ts";
import { describeStore, increment, putChannels, write } from "./conformance.ts";
import { freshFolder, removeFolders } from "./folders.ts";
import { describeInterleaving } from "./interleaving.ts";
import { channel, collect, id, idempotency, line, proof, transaction } from "./records.ts";

const folders = new Map<ChannelStore, string>();

async function open(options: { idleChannels?: number } = {}, folder?: string): Promise<LevelStore> {
	const place = folder ?? (await freshFolder());
	const store = await LevelStore.open({ folder: place, ...options });
	folders.set(store, place);
	return store;
}

async function reopen(store: ChannelStore): Promise<LevelStore> {
	await store.close();
	return open({}, folders.get(store));
}

/** Changes what is on disk behind the store's back. */
async function tamper(
	store: ChannelStore,
	change: (disk: Level<string, string>) => Promise<void>,
): Promise<LevelStore> {
	await store.close();
	const disk = new Level<string, string>(folders.get(store) ?? "");
	await change(disk);
	await disk.close();
	return reopen(store);
}

afterAll(removeFolders);

describeStore("LevelStore", { open, reopen });

describe("LevelStore with next to no memory", () => {
	describeInterleaving(() => open({ idleChannels: 1 }));

	it("loses no turn of many channels (I4)", async () => {
		const store = await open({ idleChannels: 2 });
		for (let round = 0; round < 4; round++) {
			await Promise.all(
				Array.from({ length: 60 }, async (_, n) => {
					const { durable } = await increment(store, n);
					if (n % 3 === 0) await durable;
					await increment(store, 59 - n);
				}),
			);
		}
		const reopened = await reopen(store);
		const sums = (await collect(reopened.channels())).map((one) => one.acceptedCumulative);
		expect(sums).toEqual(Array.from({ length: 60 }, () => 8n));
		await reopened.close();
	});
});

describe("LevelStore owns its folder", () => {
	it("makes it for this user only", async () => {
		const store = await open();
		expect(((await stat(folders.get(store) ?? "")).mode & 0o777).toString(8)).toBe("700");
		await store.close();
	});

	it("refuses a second opener, with what to do, and is not disturbed by it (I4)", async () => {
		const store = await open();
		const second = LevelStore.open({ folder: folders.get(store) ?? "" });
		await expect(second).rejects.toBeInstanceOf(StoreUnavailableError);
		await expect(second).rejects.toThrow(/another process has it open: stop that one/);
		await increment(store, 1);
		await store.close();
	});

	it("says what is wrong with a folder that is none", async () => {
		const store = LevelStore.open({ folder: import.meta.filename });
		await expect(store).rejects.toBeInstanceOf(StoreUnavailableError);
		await expect(store).rejects.toThrow(/can't be opened/);
	});
});

describe("a damaged record", () => {
	it("of a channel puts that channel out of use, and no other (I10)", async () => {
		const store = await open();
		await putChannels(
			store,
			[1, 2, 3].map((n) => channel(n, { acceptedCumulative: BigInt(n) })),
		);
		const damaged = await tamper(store, async (disk) => {
			const text = (await disk.get(`c:${id(2)}`)) ?? "";
			await disk.put(`c:${id(2)}`, text.replace('"acceptedCumulative":"2"', '"acceptedCumulative":"9"'));
		});
		await expect(increment(damaged, 2)).rejects.toBeInstanceOf(CorruptRecordError);
		await expect(increment(damaged, 2)).rejects.toThrow(/checksum/);
		await expect(damaged.channel(id(2))).rejects.toMatchObject({ code: "CORRUPT_RECORD", key: `c:${id(2)}` });
		expect(damaged.quarantined()).toEqual([{ key: `c:${id(2)}`, reason: expect.stringMatching(/checksum/) }]);
		expect((await increment(damaged, 1)).value).toBe(2n);
		expect((await damaged.channel(id(3)))?.acceptedCumulative).toBe(3n);
		await damaged.close();
	});

	it("is left out of every scan, and reported", async () => {
		const store = await open();
		await putChannels(
			store,
			[1, 2, 3].map((n) => channel(n, { acceptedCumulative: BigInt(n) })),
		);
		await write(store, {}, { audit: [line(1, { at: 7 })] });
		const damaged = await tamper(store, async (disk) => {
			await disk.put(`c:${id(2)}`, "x");
			for await (const key of disk.keys({ gte: "a:", lt: "a;" })) await disk.put(key, "x");
		});
		expect(damaged.quarantined()).toEqual([]);
		for (const scan of [damaged.channels(), damaged.due("unsettled"), damaged.due("idle")]) {
			expect((await collect(scan)).map(({ channelId }) => channelId).sort()).toEqual([1, 3].map(id));
		}
		expect(await collect(damaged.audit())).toEqual([]);
		expect(damaged.quarantined().map(({ key }) => key.slice(0, 2))).toEqual(["c:", "a:"]);
		await damaged.close();
	});

	it("is one of another version, another shape or another place too", async () => {
		const store = await open();
		await putChannels(
			store,
			[1, 2, 3, 4].map((n) => channel(n)),
		);
		const damaged = await tamper(store, async (disk) => {
			const [first, second] = await disk.getMany([`c:${id(1)}`, `c:${id(2)}`]);
			await disk.put(`c:${id(1)}`, `2${first?.slice(1)}`);
			await disk.put(`c:${id(3)}`, second ?? "");
			await disk.put(`c:${id(4)}`, seal(`c:${id(4)}`, { channelId: id(4) }));
		});
		await expect(damaged.channel(id(1))).rejects.toThrow(/unknown version 2/);
		await expect(damaged.channel(id(3))).rejects.toThrow(/checksum/);
		await expect(damaged.channel(id(4))).rejects.toThrow(/wrong shape/);
		expect(await damaged.channel(id(2))).toEqual(channel(2));
		await damaged.close();
	});

	it("of a proof, an answer or a cursor is never taken for an absent one (I4, I6, I10)", async () => {
		const store = await open();
		await write(
			store,
			{ proofs: ["p"], idempotency: "k" },
			{ proofs: { p: proof("p", { expiresAt: 1 }) }, idempotency: idempotency("k") },
		);
		await store.putCursor({ name: "watcher", blockNumber: 1n, blockHash: id(1), updatedAt: 1 });
		const damaged = await tamper(store, (disk) =>
			disk.batch(["p:p", "i:k", "n:watcher"].map((key) => ({ type: "put", key, value: "" }))),
		);
		await expect(damaged.transact({ proofs: ["p"] }, () => ({ value: 0 }))).rejects.toBeInstanceOf(CorruptRecordError);
		await expect(damaged.transact({ idempotency: "k" }, () => ({ value: 0 }))).rejects.toBeInstanceOf(
			CorruptRecordError,
		);
		await expect(damaged.cursor("watcher")).rejects.toBeInstanceOf(CorruptRecordError);
		expect(await damaged.prune(10)).toBe(0);
		expect(damaged.quarantined()).toHaveLength(3);
		await damaged.close();
	});
});

describe("a write that fails", () => {
	/** A store whose disk can be made to fail. */
	async function openFailing() {
		const folder = await freshFolder();
		const disk = await openDisk(folder);
		const store = await LevelStore.over(disk);
		folders.set(store, folder);
		const fail = () =>
			Object.assign(disk, {
				batch() {
					throw new Error("no space left on device");
				},
			});
		return { store, disk, fail };
	}

	it("makes the store fail closed: nothing lost is acknowledged or shown, nothing acknowledged is lost (I5, I10)", async () => {
		const { store, fail } = await openFailing();
		await (await increment(store, 1)).durable;
		fail();
		const turns = [increment(store, 1), increment(store, 1), store.transact({ channel: id(1) }, () => ({ value: 0n }))];
		const lost = await Promise.all(turns);
		for (const { durable } of lost) await expect(durable).rejects.toBeInstanceOf(StoreUnavailableError);
		await expect(increment(store, 1)).rejects.toThrow(/a write to the store failed/);
		await expect(store.channel(id(1))).rejects.toBeInstanceOf(StoreUnavailableError);
		await expect(
			store.putCursor({ name: "c", blockNumber: 1n, blockHash: id(1), updatedAt: 1 }),
		).rejects.toBeInstanceOf(StoreUnavailableError);
		await expect(collect(store.due("idle"))).rejects.toBeInstanceOf(StoreUnavailableError);
		const reopened = await reopen(store);
		expect((await collect(reopened.channels())).map((one) => [one.channelId, one.acceptedCumulative])).toEqual([
			[id(1), 1n],
		]);
		await reopened.close();
	});

	it("may go unheard: a turn whose durability nobody awaits takes no process down (I10)", async () => {
		const { store, fail } = await openFailing();
		fail();
		await increment(store, 1);
		await new Promise((resolve) => setTimeout(resolve, 20));
		await expect(increment(store, 1)).rejects.toBeInstanceOf(StoreUnavailableError);
		await store.close();
	});

	it("and a disk that goes away are the same (I10)", async () => {
		const { store, disk } = await openFailing();
		await (await increment(store, 1)).durable;
		const late = await increment(store, 1);
		await disk.close();
		await expect(late.durable).rejects.toBeInstanceOf(StoreUnavailableError);
		await expect(increment(store, 1)).rejects.toBeInstanceOf(StoreUnavailableError);
		const reopened = await reopen(store);
		expect((await reopened.channel(id(1)))?.acceptedCumulative).toBe(1n);
		await reopened.close();
	});

	it("can't be a record that could not be read back: its turn is refused instead (I10)", async () => {
		const store = await open();
		await putChannels(store, [channel(1)]);
		const wrong = [{ spent: -1n }, { chainReadAt: Number.NaN }, { lastActivityAt: 0.5 }, { reservations: { me: -1n } }];
		for (const change of wrong) await expect(putChannels(store, [channel(1, change)])).rejects.toThrow(RangeError);
		await expect(write(store, { proofs: ["\ud800"] }, {})).rejects.toThrow(RangeError);
		expect(await store.channel(id(1))).toEqual(channel(1));
		await store.close();
	});
});

describe("every batch", () => {
	it("is written through to the disk, and holds whatever waited meanwhile (I5)", async () => {
		const disk = await openDisk(await freshFolder());
		const synced: unknown[] = [];
		const begin = disk.batch.bind(disk) as () => ReturnType<typeof disk.batch>;
		Object.assign(disk, {
			batch() {
				const batch = begin();
				const through = batch.write.bind(batch);
				return Object.assign(batch, {
					write(options: { sync?: boolean }) {
						synced.push(options.sync);
						return through(options);
					},
				});
			},
		});
		const store = await LevelStore.over(disk);
		const turns = await Promise.all(Array.from({ length: 100 }, (_, n) => increment(store, n)));
		await Promise.all(turns.map(({ durable }) => durable));
		expect(new Set(synced)).toEqual(new Set([true]));
		expect(synced.length).toBeLessThan(50);
		await store.close();
	});
});

describe("the due index", () => {
	it("is right after any sequence of changes, also when the store was reopened in between", async () => {
		const change = fc.record({
			n: fc.nat(4),
			acceptedCumulative: fc.bigInt(0n, 1_000n),
			settledOnChain: fc.bigInt(0n, 500n),
			lastActivityAt: fc.nat(600_000),
			finalized: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
		});
		await fc.assert(
			fc.asyncProperty(fc.array(change, { maxLength: 30 }), fc.nat(30), async (changes, restartAt) => {
				let store = await open({ idleChannels: 2 });
				const model = new Map<number, ReturnType<typeof channel>>();
				for (const [i, { n, ...rest }] of changes.entries()) {
					model.set(n, channel(n, rest));
					await putChannels(store, [channel(n, rest)]);
					if (i === restartAt) store = await reopen(store);
				}
				const open_ = [...model.values()].filter(({ finalized }) => !finalized);
				const owed = open_.map((one) => one.acceptedCumulative - one.settledOnChain).filter((value) => value > 0n);
				const due = await collect(store.due("unsettled"));
				expect(due.map((one) => one.acceptedCumulative - one.settledOnChain)).toEqual(
					owed.sort((a, b) => Number(b - a)),
				);
				const idle = (await collect(store.due("idle"))).map((one) => one.lastActivityAt);
				expect(idle).toEqual(open_.map((one) => one.lastActivityAt).sort((a, b) => a - b));
				await store.close();
			}),
			{ numRuns: 25 },
		);
	});
});

describe("what the indexes hold", () => {
	/** The kinds of index entries that are on disk, and how many of each. */
	async function entries(store: ChannelStore): Promise<Record<string, number>> {
		const count: Record<string, number> = {};
		await tamper(store, async (disk) => {
			for await (const key of disk.keys()) {
				const [kind = ""] = key.split(":");
				if (kind.length === 2) count[kind] = (count[kind] ?? 0) + 1;
			}
		}).then((reopened) => reopened.close());
		return count;
	}

	it("is one entry for each record that is due, expires or is pending: nothing is left behind", async () => {
		const store = await open();
		for (let i = 1; i <= 10; i++) {
			const lastActivityAt = i * 3_600_000;
			await putChannels(store, [channel(1, { acceptedCumulative: 3n ** BigInt(i), lastActivityAt })]);
			await write(
				store,
				{ proofs: ["p", "q"], idempotency: "k" },
				{
					proofs: { p: proof("p", { expiresAt: i }), q: i === 10 ? null : proof("q", { expiresAt: i }) },
					idempotency: idempotency("k", { expiresAt: i }),
				},
			);
		}
		await putChannels(store, [channel(2, { acceptedCumulative: 5n })]);
		await putChannels(store, [channel(2, { acceptedCumulative: 5n, finalized: true })]);
		await write(store, {}, { outbox: [transaction(1), transaction(2)] });
		await write(store, {}, { outbox: [transaction(1, { state: "confirmed" })] });
		expect(await entries(store)).toEqual({ du: 1, di: 1, xp: 2, op: 1, oa: 2 });
	});

	it("is gone when its record was pruned", async () => {
		const store = await open();
		await write(store, { proofs: ["p"] }, { proofs: { p: proof("p", { expiresAt: 1 }) } });
		expect(await store.prune(2)).toBe(1);
		expect(await entries(store)).toEqual({});
	});

	it("is checked against the record: a channel in a wrong place is not due there", async () => {
		const store = await open();
		await putChannels(store, [channel(1, { acceptedCumulative: 5n })]);
		const changed = await tamper(store, async (disk) => {
			for await (const key of disk.keys({ gte: "du:", lt: "du;" })) await disk.put(key.replace("997:", "990:"), "");
		});
		expect(await collect(changed.due("unsettled"))).toHaveLength(1);
		await changed.close();
	});

	it("is read in pieces, each channel once, when very many are due alike", async () => {
		const store = await open();
		const all = Array.from({ length: 4_500 }, (_, n) => channel(n, { acceptedCumulative: 4_096n + BigInt(n % 4_000) }));
		await putChannels(store, all);
		const due = await collect(store.due("unsettled"));
		expect(new Set(due.map(({ channelId }) => channelId)).size).toBe(4_500);
		expect(due).toHaveLength(4_500);
		await store.close();
	});
});
