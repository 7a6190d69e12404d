import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Level } from "level";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { copyStore, openStoreCopy } from "../../../src/server/store/copy.ts";
import { LevelStore } from "../../../src/server/store/levelStore.ts";
import { StoreUnavailableError } from "../../../src/server/store/store.ts";
import { freshFolder, removeFolders } from "./folders.ts";
import { kill, killAll, outcomeOfOpening, start } from "./processes.ts";
import { collect, id } from "./records.ts";
import { increment } from "./turns.ts";
import { WRITERS, wholeTurns } from "./wholeTurns.ts";

let folder: string;
/** Where the copies of one test go. */
let temporary: string;
const before = process.env.TMPDIR;

beforeEach(async () => {
	folder = await freshFolder();
	temporary = await freshFolder();
	await mkdir(temporary);
	process.env.TMPDIR = temporary;
});
afterEach(async () => {
	if (before === undefined) delete process.env.TMPDIR;
	else process.env.TMPDIR = before;
	killAll();
	expect(await readdir(temporary)).toEqual([]);
});
afterAll(removeFolders);

const ROUNDS = 8;
/** More than the rounds need; the process then waits. */
const MOST_TURNS = 40_000;

describe("a copy of a store that another process writes to", () => {
	it("opens, holds all that was durable when it began, every turn whole or not at all, and harms nothing (I5)", async () => {
		const child = start("churn", folder, String(MOST_TURNS));
		const told: number[] = [];
		let rest = "";
		child.stdout.on("data", (chunk: Buffer) => {
			const lines = (rest + chunk.toString()).split("\n");
			rest = lines.pop() ?? "";
			told.push(...lines.map(Number));
		});
		const merged: number[] = [];
		for (let round = 0; round < ROUNDS; round++) {
			const wanted = told.length + 300;
			await expect.poll(() => told.length, { timeout: 30_000, interval: 5 }).toBeGreaterThan(wanted);
			const durable = [...told];
			const copy = await openStoreCopy(folder);
			const there = await wholeTurns(copy, Math.max(...told) + WRITERS);
			expect(durable.filter((n) => !there.has(n))).toEqual([]);
			expect(copy.quarantined()).toEqual([]);
			await copy.close();
			merged.push(await newestTable(folder));
		}
		await kill(child);
		const original = await LevelStore.open({ folder });
		const left = await wholeTurns(original, Math.max(...told) + WRITERS);
		expect(told.filter((n) => !left.has(n))).toEqual([]);
		expect(original.quarantined()).toEqual([]);
		await original.close();
		// Tables were written and merged between any two copies.
		for (let round = 1; round < ROUNDS; round++) expect(merged[round]).toBeGreaterThan((merged[round - 1] ?? 0) + 3);
	});
});

async function newestTable(folder: string): Promise<number> {
	const names = await readdir(folder);
	return Math.max(...names.filter((name) => name.endsWith(".ldb")).map((name) => Number.parseInt(name, 10)));
}

describe("a copy of a store", () => {
	it("leaves the store to the process that has it open, this one too (I4)", async () => {
		const store = await LevelStore.open({ folder });
		await (await increment(store, 1)).durable;
		const copy = await openStoreCopy(folder);
		expect(await outcomeOfOpening(folder)).toMatchObject({ reason: "held", holder: { pid: process.pid } });
		await (await increment(copy, 1)).durable;
		await (await increment(copy, 2)).durable;
		expect((await collect(store.channels())).map((one) => one.acceptedCumulative)).toEqual([1n]);
		await (await increment(store, 1)).durable;
		expect((await copy.channel(id(1)))?.acceptedCumulative).toBe(2n);
		await copy.close();
		await store.close();
		const reopened = await LevelStore.open({ folder });
		expect((await collect(reopened.channels())).map((one) => one.acceptedCumulative)).toEqual([2n]);
		await reopened.close();
	});

	it("shares no file with the store: opened, it would write over tables whose numbers it does not know yet", async () => {
		await (await LevelStore.open({ folder })).close();
		const store = await LevelStore.open({ folder });
		const copy = await copyStore(folder);
		const files = await readdir(folder);
		expect(files.some((name) => name.endsWith(".ldb"))).toBe(true);
		for (const name of files) expect((await stat(join(folder, name))).nlink, name).toBe(1);
		await copy.remove();
		await store.close();
	});

	it("is for this user only, without the lock and the name of who has the store, until it is removed", async () => {
		const store = await LevelStore.open({ folder });
		const copy = await copyStore(folder);
		expect(((await stat(copy.folder)).mode & 0o777).toString(8)).toBe("700");
		expect(await readdir(copy.folder)).not.toContain("HOLDER");
		const own = await LevelStore.open({ folder: copy.folder, mustExist: true });
		await own.close();
		await copy.remove();
		await copy.remove();
		await store.close();
	});

	it("is not made of what is no store", async () => {
		const missing = { name: "StoreUnavailableError", reason: "missing" };
		await expect(copyStore(folder)).rejects.toMatchObject(missing);
		const foreign = new Level<string, string>(folder);
		await foreign.put("theirs", "1");
		const message = expect.stringContaining(`there is no store in ${folder};`);
		await expect(openStoreCopy(folder)).rejects.toMatchObject({ ...missing, message });
		await foreign.close();
	});

	it("of a store that lacks a table is given up after some tries, and leaves nothing behind (I10)", async () => {
		const store = await LevelStore.open({ folder });
		await (await increment(store, 1)).durable;
		await store.close();
		await (await LevelStore.open({ folder })).close();
		for (const name of await readdir(folder)) if (name.endsWith(".ldb")) await rm(join(folder, name));
		const copying = copyStore(folder);
		await expect(copying).rejects.toBeInstanceOf(StoreUnavailableError);
		await expect(copying).rejects.toThrow(/after 5 tries .*missing files.*: try again, or stop the server/);
	});

	it("that has no room says where it wanted to be", async () => {
		await (await LevelStore.open({ folder })).close();
		process.env.TMPDIR = join(temporary, "nowhere");
		await expect(copyStore(folder)).rejects.toThrow(/nowhere, and may the store be read\? TMPDIR names another place/);
	});
});
