import { stat } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { afterAll, describe, expect, it, vi } from "vitest";
import { type Disk, openDisk } from "../../../src/server/store/disk.ts";
import { LevelStore } from "../../../src/server/store/levelStore.ts";
import { type ChannelStore, CorruptRecordError, StoreUnavailableError } from "../../../src/server/store/store.ts";
import { describeStore } from "./conformance.ts";
import { describeDueOrders } from "./dueOrders.ts";
import { freshFolder, removeFolders } from "./folders.ts";
import { describeInterleaving } from "./interleaving.ts";
import { folders, open, reopen, tamper } from "./levelStores.ts";
import { channel, collect, idempotency, proof, transaction } from "./records.ts";
import { increment, putChannels, write } from "./turns.ts";

afterAll(removeFolders);

describeStore("LevelStore", { open, reopen });

describe("LevelStore with next to no memory", () => {
	describeInterleaving(() => open({ idleChannels: 1 }));
	describeDueOrders({ open: () => open({ idleChannels: 2 }), reopen });

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
		await expect(second).rejects.toThrow(/this process has it open already: use that store/);
		await increment(store, 1);
		await store.close();
	});

	it("says what is wrong with a folder that is none", async () => {
		const store = LevelStore.open({ folder: import.meta.filename });
		await expect(store).rejects.toBeInstanceOf(StoreUnavailableError);
		await expect(store).rejects.toThrow(/can't be opened/);
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

describe("an answer for a retry", () => {
	const DAY_MS = 24 * 3_600_000;
	/** Longer than what stays in memory of an answer. */
	const LONG = { status: 200, headers: {}, body: new Uint8Array(5_000) };
	const numbered = (count: number, kind: string) => Array.from({ length: count }, (_, n) => `${kind} ${n}`);

	/** Which of these there are, and how often the disk was asked for one. */
	async function look(store: LevelStore, disk: Disk, keys: readonly string[]) {
		const read = vi.spyOn(disk, "getMany");
		const readAtOnce = vi.spyOn(disk, "getSync");
		const found: string[] = [];
		for (const key of keys) {
			const { value } = await store.transact({ idempotency: key }, (view) => ({ value: view.idempotency?.key }));
			if (value !== undefined) found.push(value);
		}
		const looks = read.mock.calls.length + readAtOnce.mock.calls.length;
		read.mockRestore();
		readAtOnce.mockRestore();
		return { found, looks };
	}

	async function answer(store: LevelStore, keys: readonly string[], expiresAt: number): Promise<void> {
		const turns = keys.map((key) =>
			store.transact({ idempotency: key }, () => ({
				value: undefined,
				writes: { idempotency: idempotency(key, { state: "done", expiresAt, response: LONG }) },
			})),
		);
		for (const { durable } of await Promise.all(turns)) await durable;
	}

	/** A disk with these answers. */
	async function answered(
		...answers: readonly (readonly [keys: readonly string[], expiresAt: number])[]
	): Promise<Disk> {
		const folder = await freshFolder();
		const store = await LevelStore.open({ folder });
		for (const [keys, expiresAt] of answers) await answer(store, keys, expiresAt);
		await store.close();
		return openDisk(folder);
	}

	/** Waits until the store knows which answers there are. */
	async function learned(store: LevelStore, disk: Disk): Promise<void> {
		await vi.waitFor(async () => expect((await look(store, disk, [`${Math.random()}`])).looks).toBe(0));
	}

	it("of an earlier run is found, and the disk is not asked for those that are not there (I6)", async () => {
		const [early, late] = [numbered(300, "early"), numbered(400, "late")];
		const disk = await answered([early, DAY_MS], [late, 3 * DAY_MS]);
		const store = await LevelStore.over(disk);
		await learned(store, disk);
		expect(await store.prune(2 * DAY_MS)).toBe(300);
		expect((await look(store, disk, late)).found).toEqual(late);
		expect(await look(store, disk, numbered(100, "none"))).toEqual({ found: [], looks: 0 });
		expect((await look(store, disk, early)).found).toEqual([]);
		await store.close();
	});

	it("of this run is found as long as it has not expired, whatever else has (I6)", async () => {
		const disk = await answered();
		const store = await LevelStore.over(disk);
		await learned(store, disk);
		const [early, late] = [numbered(20, "early"), numbered(20, "late")];
		await answer(store, early, DAY_MS);
		await answer(store, late, 2 * DAY_MS);
		expect(await store.prune(DAY_MS)).toBe(0);
		expect((await look(store, disk, [...early, ...late])).found).toEqual([...early, ...late]);
		expect(await store.prune(1.5 * DAY_MS)).toBe(20);
		// What has expired is let go of.
		expect(await look(store, disk, early)).toEqual({ found: [], looks: 0 });
		expect((await look(store, disk, late)).found).toEqual(late);
		await store.close();
	});

	/** Holds the walk over what there is, until it is let go on or fails. */
	function held(disk: Disk): { goOn(): void; fail(): void } {
		let hold = { goOn: () => {}, fail: () => {} };
		const waiting = new Promise<void>((resolve, reject) => {
			hold = { goOn: resolve, fail: () => reject(new Error("the disk can't be walked over")) };
		});
		waiting.catch(() => undefined);
		const walk = disk.keys.bind(disk);
		Object.assign(disk, {
			keys(options: Parameters<typeof walk>[0]) {
				const keys = walk(options);
				const next = keys.nextv.bind(keys) as (size: number) => Promise<string[]>;
				return Object.assign(keys, { nextv: (size: number) => waiting.then(() => next(size)) });
			},
		});
		return hold;
	}

	it("is looked for on the disk as long as it is not known which there are, and where that can't be learned (I6, I10)", async () => {
		const disk = await answered([["old"], DAY_MS]);
		const { fail } = held(disk);
		const store = await LevelStore.over(disk);
		expect(await look(store, disk, ["new"])).toEqual({ found: [], looks: 1 });
		expect((await look(store, disk, ["old"])).found).toEqual(["old"]);
		fail();
		await setImmediate();
		expect((await look(store, disk, ["newer", "old"])).found).toEqual(["old"]);
		expect((await look(store, disk, ["newest"])).looks).toBe(1);
		await store.close();
	});

	it("that is given while it is learned which there are is found afterwards (I6)", async () => {
		const disk = await answered([["old"], DAY_MS]);
		const { goOn } = held(disk);
		const store = await LevelStore.over(disk);
		await answer(store, ["meanwhile"], DAY_MS);
		goOn();
		await learned(store, disk);
		expect((await look(store, disk, ["old", "meanwhile"])).found).toEqual(["old", "meanwhile"]);
		await store.close();
	});

	it("that is damaged, and has expired, stays out of use, and is not taken for an absent one (I6, I10)", async () => {
		const disk = await answered([["damaged"], DAY_MS]);
		const index = await disk.keys({ gte: "xs:", lt: "xs;" }).all();
		expect(index).toHaveLength(1);
		await disk.put("i:damaged", "");
		const store = await LevelStore.over(disk);
		await learned(store, disk);
		await answer(store, ["damaged in this run"], DAY_MS);
		await disk.put("i:damaged in this run", "");
		for (const now of [2 * DAY_MS, 9 * DAY_MS]) {
			expect(await store.prune(now)).toBe(0);
			for (const key of ["damaged", "damaged in this run"])
				await expect(look(store, disk, [key])).rejects.toBeInstanceOf(CorruptRecordError);
		}
		await store.close();
	});

	it("is found whatever became of its entry in the index (I6)", async () => {
		const disk = await answered([["kept"], DAY_MS]);
		await disk.clear({ gte: "xs:", lt: "xs;" });
		const store = await LevelStore.over(disk);
		await learned(store, disk);
		expect((await look(store, disk, ["kept"])).found).toEqual(["kept"]);
		await store.close();
	});

	it("keeps nobody from closing the store while it is learned which there are", async () => {
		const disk = await answered([["old"], DAY_MS]);
		const { goOn } = held(disk);
		const store = await LevelStore.over(disk);
		expect((await look(store, disk, ["old"])).found).toEqual(["old"]);
		await store.close();
		expect(disk.status).toBe("closed");
		goOn();
		await setImmediate();
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

	it("is one entry for each record that is due or pending, and one for all that a batch has written and that expire in the same second", async () => {
		const store = await open();
		for (let i = 1; i <= 10; i++) {
			const lastActivityAt = i * 3_600_000;
			const acceptedCumulative = 3n ** BigInt(i);
			const times = { lastActivityAt, unsettledSince: lastActivityAt, closeRequestedAt: i * 3_600 };
			await putChannels(store, [channel(1, { acceptedCumulative, ...times, contractSigner: true })]);
			await write(
				store,
				{ proofs: ["p", "q"], idempotency: "k" },
				{
					proofs: ["p", ...(i === 10 ? [] : ["q"])].map((key) => proof(key, { expiresAt: i })),
					deletedProofs: i === 10 ? ["q"] : [],
					idempotency: idempotency("k", { expiresAt: i }),
				},
			);
		}
		const other = { acceptedCumulative: 5n, contractSigner: true, closeRequestedAt: 1 };
		await putChannels(store, [channel(2, other)]);
		await putChannels(store, [channel(2, { ...other, finalized: true })]);
		await write(store, {}, { outbox: [transaction(1), transaction(2)] });
		await write(store, {}, { outbox: [transaction(1, { state: "confirmed" })] });
		expect(await entries(store)).toEqual({ du: 1, di: 1, da: 1, dt: 1, dc: 1, xs: 1, op: 1, oa: 2 });
	});

	it("is gone when its record was pruned", async () => {
		const store = await open();
		await write(store, { proofs: ["p"] }, { proofs: [proof("p", { expiresAt: 1 })] });
		expect(await store.prune(2)).toBe(1);
		expect(await entries(store)).toEqual({});
	});

	const expiring = (store: ChannelStore, times: Readonly<Record<string, number | null>>) =>
		Promise.all(
			Object.entries(times).map(([key, expiresAt]) =>
				write(store, { proofs: [key] }, { proofs: [proof(key, { expiresAt })] }),
			),
		);

	it("is an entry of its own for each 256 records that expire together, and all of them are pruned in time", async () => {
		const store = await open();
		const names = Array.from({ length: 600 }, (_, n) => [`p${n}`, n] as const);
		await write(
			store,
			{ proofs: names.map(([key]) => key) },
			{ proofs: names.map(([key, expiresAt]) => proof(key, { expiresAt })) },
		);
		expect(await store.prune(300)).toBe(300);
		expect(await store.prune(300)).toBe(0);
		const inThree = await tamper(store, async (disk) => {
			expect(await disk.keys({ gte: "xs:", lt: "xs;" }).all()).toHaveLength(2);
		});
		expect(await inThree.prune(600)).toBe(300);
		expect(await entries(inThree)).toEqual({});
	});

	it("is looked at with others, for 256 records at a time at most", async () => {
		const disk = await openDisk(await freshFolder());
		const store = await LevelStore.over(disk);
		// Entries of twelve seconds, and one that fills a portion by itself.
		const names = Array.from({ length: 900 }, (_, n) => [`p${n}`, n < 256 ? 20_000 : (n % 12) * 1_000] as const);
		await write(
			store,
			{ proofs: names.map(([key]) => key) },
			{ proofs: names.map(([key, expiresAt]) => proof(key, { expiresAt })) },
		);
		const looks = vi.spyOn(disk, "getMany");
		expect(await store.prune(30_000)).toBe(900);
		const sizes = looks.mock.calls.map(([keys]) => keys.length);
		expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(900);
		expect(Math.max(...sizes)).toBeLessThanOrEqual(256);
		// And not one by one.
		expect(sizes.length).toBeLessThanOrEqual(6);
		await store.close();
	});

	it("is another one in each run, also of the same second", async () => {
		const store = await open();
		await expiring(store, { first: 5 });
		const reopened = await reopen(store);
		await expiring(reopened, { second: 6 });
		expect(await reopened.prune(10)).toBe(2);
		expect(await entries(reopened)).toEqual({});
	});

	it("is kept as long as something that it names has not expired, and no longer", async () => {
		const store = await open();
		await expiring(store, { first: 10, second: 500, next: 1_100 });
		expect(await store.prune(200)).toBe(1);
		expect(await store.prune(500)).toBe(0);
		// Named already, in this second; a new entry in the next one.
		await expiring(store, { second: 400 });
		expect(await store.prune(401)).toBe(1);
		await expiring(store, { second: 550 });
		await expiring(store, { second: 1_050 });
		expect(await store.prune(1_001)).toBe(0);
		await expiring(store, { second: 990, next: null });
		expect(await store.prune(1_001)).toBe(1);
		expect(await store.prune(9_000)).toBe(0);
		expect(await entries(store)).toEqual({});
	});

	it("of earlier releases, an entry for each record that expires, is read", async () => {
		const store = await open();
		await expiring(store, { now: 5, moved: 5, later: 90_000 });
		const old = await tamper(store, async (disk) => {
			await disk.clear({ gte: "xs:", lt: "xs;" });
			for (const [key, at] of Object.entries({ now: 5, moved: 5, later: 90_000 }))
				await disk.put(`xp:${String(at).padStart(16, "0")}:p:${key}`, "");
		});
		await expiring(old, { moved: 30_000 });
		expect(await old.prune(10)).toBe(1);
		expect(await old.prune(30_001)).toBe(1);
		expect(await old.prune(90_001)).toBe(1);
		expect(await entries(old)).toEqual({});
	});

	it("is reported where it is damaged, and others are pruned all the same (I10)", async () => {
		const store = await open();
		await expiring(store, { lost: 5 });
		await expiring(store, { found: 70_000 });
		const damaged = await tamper(store, async (disk) => {
			const [first = ""] = await disk.keys({ gte: "xs:", lt: "xs;" }).all();
			await disk.put(first, "");
		});
		expect(await damaged.prune(100_000)).toBe(1);
		expect(damaged.quarantined()).toMatchObject([{ key: expect.stringMatching(/^xs:/), reason: expect.any(String) }]);
		await damaged.close();
	});

	it("is kept for a record that is damaged, which is deleted in time once it is mended (I4)", async () => {
		const store = await open();
		await expiring(store, { p: 5 });
		let whole: string | undefined;
		const damaged = await tamper(store, async (disk) => {
			whole = await disk.get("p:p");
			await disk.put("p:p", "");
		});
		expect(await damaged.prune(10)).toBe(0);
		const mended = await tamper(damaged, (disk) => disk.put("p:p", whole ?? ""));
		expect(await mended.prune(10)).toBe(1);
		expect(await entries(mended)).toEqual({});
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
