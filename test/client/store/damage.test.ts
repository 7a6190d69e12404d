import { afterEach, describe, expect, it } from "vitest";
import { LevelPayerStore } from "../../../src/client/store/levelStore.ts";
import { channel, id, KEY, receipt, signed } from "./records.ts";
import { freshFolder, openDatabase, removeFolders } from "./stages.ts";
import { added } from "./suite.ts";

afterEach(removeFolders);

const SESSION_KEY = `0x${"5e".repeat(32)}` as const;

/** A folder with three channels, counts and a receipt; `key` is where the damage is, if it is anywhere. */
async function damaged(key: string, damage: (text: string) => string): Promise<string> {
	const folder = await freshFolder();
	const store = await LevelPayerStore.open({ db: openDatabase(folder) });
	for (const number of [1, 2]) await added(store, number);
	const secret = await store.add({ ...channel(3), sessionKey: SESSION_KEY }, 9);
	if (secret === undefined) throw new Error("not added");
	await store.write({ channel: signed(secret, 70), counters: [{ key: "x", add: 70n }] });
	await store.setPaused("once");
	await store.setPaused(undefined);
	for (const number of [1, 2]) await store.note(receipt(number));
	await store.close();
	const db = openDatabase(folder);
	await db.put(key, damage((await db.get(key)) ?? ""), { sync: true } as object);
	await db.close();
	return folder;
}

const flip = (text: string): string => text.replace('"signed":"70"', '"signed":"10"');

describe("a damaged record", () => {
	const ways: Readonly<Record<string, (text: string) => string>> = {
		"a lower signed amount": flip,
		"half of it": (text) => text.slice(0, text.length / 2),
		nothing: () => "",
		"an unknown version": (text) => text.replace("1 ", "2 "),
		"no JSON, with its key": (text) => `1 00000000 ${text.slice(12)}`,
	};
	for (const [what, damage] of Object.entries(ways)) {
		it(`of a channel (${what}) keeps that one from being used, and no other`, async () => {
			const folder = await damaged(`c:${id(3)}`, damage);
			const db = openDatabase(folder);
			const before = await db.open().then(() => db.get(`c:${id(3)}`));
			const store = await LevelPayerStore.open({ db });
			const refused = { code: "PAYER_STORE", message: expect.stringMatching(new RegExp(`channel ${id(3)}.*damaged`)) };
			await expect(store.takeById(id(3), 20_000)).rejects.toMatchObject(refused);
			await expect(store.add(channel(3), 9)).rejects.toMatchObject(refused);
			await expect(store.write({ channel: { record: channel(3), fence: 1 } })).rejects.toMatchObject(refused);
			expect((await store.list()).map(({ record }) => record.state.channelId)).toEqual([id(1), id(2)]);
			const [told, ...more] = await store.damaged();
			expect(more).toEqual([]);
			expect(told?.channelId).toBe(id(3));
			expect(`${told?.reason}`).not.toContain("5e5e");
			const held = await store.take(KEY);
			expect(held?.record.state.channelId).toBe(id(1));
			expect((await store.take(KEY))?.record.state.channelId).toBe(id(2));
			expect(await store.take(KEY, 20_000)).toBeUndefined();
			if (held !== undefined) await store.write({ channel: signed(held, 3) });
			expect(await db.get(`c:${id(3)}`)).toBe(before);
			expect(await store.add(channel(4), 3)).toBeUndefined();
			await store.close();
		});
	}

	it("of another channel in its place is found out", async () => {
		let other = "";
		const folder = await damaged(`c:${id(1)}`, (text) => {
			other = text;
			return text;
		});
		const db = openDatabase(folder);
		await db.put(`c:${id(2)}`, other);
		const store = await LevelPayerStore.open({ db });
		await expect(store.takeById(id(2))).rejects.toMatchObject({ code: "PAYER_STORE" });
		await store.close();
	});

	it("of a count refuses whatever counts there, and nothing else", async () => {
		const store = await LevelPayerStore.open({
			db: openDatabase(await damaged("q:x", (text) => text.replace("70", "10"))),
		});
		const refused = { code: "PAYER_STORE", message: expect.stringContaining("counter x") };
		await expect(store.counts(["x"])).rejects.toMatchObject(refused);
		const held = await store.takeById(id(3));
		if (held === undefined) throw new Error("not taken");
		const write = store.write({
			channel: signed(held, 80),
			counters: [
				{ key: "y", add: 1n },
				{ key: "x", add: 1n },
			],
		});
		await expect(write).rejects.toMatchObject(refused);
		expect(await store.counts(["y"])).toEqual([0n]);
		await store.write({ channel: signed(held, 75), counters: [{ key: "y", add: 1n }] });
		await store.close();
	});

	it("of the pause lets nothing be spent until somebody says again whether it is", async () => {
		const store = await LevelPayerStore.open({ db: openDatabase(await damaged("m:paused", () => "x")) });
		await expect(store.paused()).rejects.toMatchObject({ code: "PAYER_STORE" });
		const counting = () => store.write({ counters: [{ key: "y", add: 1n }] });
		await expect(counting()).rejects.toMatchObject({ code: "PAYER_STORE" });
		await store.setPaused(undefined);
		expect(await counting()).toBeUndefined();
		await store.close();
	});

	it("of a receipt, or of how many there are, costs no other receipt", async () => {
		for (const key of ["r:0000000000000000", "m:receipts"]) {
			const store = await LevelPayerStore.open({ db: openDatabase(await damaged(key, () => "x")) });
			await store.note(receipt(3));
			const left = key === "m:receipts" ? ["3", "2", "1"] : ["3", "2"];
			expect((await store.receipts()).map(({ amount }) => amount)).toEqual(left);
			await store.close();
		}
	});
});

describe("a Level database", () => {
	it("has one store at a time, and another one after it", async () => {
		const db = openDatabase(await freshFolder());
		const store = await LevelPayerStore.open({ db });
		await expect(LevelPayerStore.open({ db })).rejects.toMatchObject({
			code: "PAYER_STORE",
			message: expect.stringContaining("share()"),
		});
		const other = store.share();
		await store.close();
		await added(other as LevelPayerStore, 1);
		await other.close();
		const again = await LevelPayerStore.open({ db });
		expect(await again.list()).toHaveLength(1);
		await again.close();
	});

	it("that can't be opened is said to be", async () => {
		const folder = await freshFolder();
		const store = await LevelPayerStore.open({ db: openDatabase(folder) });
		await expect(LevelPayerStore.open({ db: openDatabase(folder) })).rejects.toMatchObject({ code: "PAYER_STORE" });
		await store.close();
	});
});
