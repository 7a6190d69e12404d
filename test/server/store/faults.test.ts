import { afterAll, describe, expect, it } from "vitest";
import { openDisk } from "../../../src/server/store/disk.ts";
import { seal } from "../../../src/server/store/frame.ts";
import { LevelStore } from "../../../src/server/store/levelStore.ts";
import { CorruptRecordError, StoreUnavailableError } from "../../../src/server/store/store.ts";
import { freshFolder, removeFolders } from "./folders.ts";
import { folders, open, reopen, tamper } from "./levelStores.ts";
import { channel, collect, id, idempotency, line, proof } from "./records.ts";
import { increment, putChannels, write } from "./turns.ts";

afterAll(removeFolders);

describe("a damaged record", () => {
	it("of a channel puts that channel out of use, and no other (I10)", async () => {
		const store = await open();
		await putChannels(
			store,
			[1, 2, 3].map((n) => channel(n, { acceptedCumulative: BigInt(n) })),
		);
		const damaged = await tamper(store, async (disk) => {
			const text = (await disk.get(`c:${id(2)}`)) ?? "";
			await disk.put(`c:${id(2)}`, text.replace('"2"', '"9"'));
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
			{ proofs: [proof("p", { expiresAt: 1 })], idempotency: idempotency("k") },
		);
		await store.putCursor({ name: "watcher", blockNumber: 1n, blockHash: id(1), updatedAt: 1 });
		const damaged = await tamper(store, (disk) =>
			disk.batch(["p:p", "i:k", "n:watcher"].map((key) => ({ type: "put", key, value: "" }))),
		);
		await expect(damaged.transact({ proofs: ["p"] }, (view) => ({ value: view.proof("p") }))).rejects.toBeInstanceOf(
			CorruptRecordError,
		);
		// Nor is it written over by a turn that did not look.
		const blind = write(damaged, { proofs: ["p"] }, { proofs: [proof("p")] });
		await expect(blind).rejects.toBeInstanceOf(CorruptRecordError);
		const gone = write(damaged, { proofs: ["p"] }, { deletedProofs: ["p"] });
		await expect(gone).rejects.toBeInstanceOf(CorruptRecordError);
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
