import { setImmediate } from "node:timers";
import { afterAll, expect, it, vi } from "vitest";
import { type Disk, openDisk, writeThrough } from "../../../src/server/store/disk.ts";
import { GroupCommit } from "../../../src/server/store/groupCommit.ts";
import { decodeProof, encodeProof } from "../../../src/server/store/record.ts";
import { RecordTable } from "../../../src/server/store/recordTable.ts";
import type { ProofRecord } from "../../../src/server/store/store.ts";
import { freshFolder, removeFolders } from "./folders.ts";
import { proof } from "./records.ts";

afterAll(removeFolders);

it("a record written, made durable and forgotten while an older one is being read is not replaced by that one (I4)", async () => {
	const disk = await openDisk(await freshFolder());
	await disk.batch([
		{ type: "put", key: "p:a", value: encodeProof("p:a", proof("a", { usedBy: "old" })) },
		{ type: "put", key: "p:b", value: encodeProof("p:b", proof("b")) },
	]);
	let release = () => {};
	const held = new Promise<void>((resolve) => {
		release = resolve;
	});
	const reallyRead = disk.getMany.bind(disk) as (keys: string[]) => Promise<(string | undefined)[]>;
	let begun = () => {};
	const reading = new Promise<void>((resolve) => {
		begun = resolve;
	});
	Object.assign(disk, {
		async getMany(keys: string[]) {
			const found = await reallyRead(keys);
			begun();
			await held;
			return found;
		},
	});
	const table = new RecordTable({ disk, decode: decodeProof, idle: 1, onCorrupt: () => {} });
	const commit = commitTo(disk, table);

	const load = table.load("p:a");
	await reading;
	const written = proof("a", { usedBy: "new" });
	const batch = commit.add([["p:a", encodeProof("p:a", written)]]);
	table.write("p:a", written, batch);
	await batch.durable;
	expect(table.read("p:b")).toEqual(proof("b"));
	release();
	await load;
	expect(table.read("p:a")).toEqual(written);
	await disk.close();
});

it("keeps no more records in memory than it may, whichever are asked for, and reads the others again", async () => {
	const disk = await openDisk(await freshFolder());
	const all = Array.from({ length: 60 }, (_, n) => proof(`n${n}`, { usedBy: `payer ${n}` }));
	await disk.batch(all.map((one) => ({ type: "put", key: `p:${one.key}`, value: encodeProof(`p:${one.key}`, one) })));
	const table = new RecordTable({ disk, decode: decodeProof, idle: 10, onCorrupt: () => {} });
	const inMemory = () => all.filter(({ key }) => table.isLoaded(`p:${key}`)).length;
	for (let round = 0; round < 3; round++) {
		await Promise.all(all.map(({ key }) => table.load(`p:${key}`)));
		expect(inMemory()).toBe(10);
		for (const one of all) expect(table.read(`p:${one.key}`)).toEqual(one);
		expect(inMemory()).toBe(10);
	}
	await disk.close();
});

it("knows that a record is not there until one is written, also when that one is not in memory any more (I4)", async () => {
	const disk = await openDisk(await freshFolder());
	const table = new RecordTable({ disk, decode: decodeProof, idle: 1, worthKeeping: () => false, onCorrupt: () => {} });
	const commit = commitTo(disk, table);
	await Promise.all(["p:a", "p:b"].map((key) => table.load(key)));
	const reads = vi.spyOn(disk, "getSync");
	expect(["p:a", "p:b"].map((key) => table.read(key))).toEqual([undefined, undefined]);
	expect(reads).not.toHaveBeenCalled();

	const written = proof("a");
	const batch = commit.add([["p:a", encodeProof("p:a", written)]]);
	table.write("p:a", written, batch);
	expect(table.read("p:a")).toEqual(written);
	await batch.durable;
	expect(table.isLoaded("p:a")).toBe(false);
	expect(table.read("p:a")).toEqual(written);
	await disk.close();
});

it("remembers no more than a thousand keys that are not there, and looks for the others again", async () => {
	const disk = await openDisk(await freshFolder());
	const table = new RecordTable({ disk, decode: decodeProof, idle: 1, onCorrupt: () => {} });
	const keys = Array.from({ length: 2_500 }, (_, n) => `p:${n}`);
	await Promise.all(keys.map((key) => table.load(key)));
	const known = keys.filter((key) => table.isLoaded(key));
	expect(known.length).toBeLessThanOrEqual(1_000);
	expect(known).toEqual(keys.slice(-known.length));
	const reads = vi.spyOn(disk, "getSync");
	for (const key of keys) expect(table.read(key)).toBeUndefined();
	expect(reads).toHaveBeenCalledTimes(keys.length - known.length);
	await disk.close();
});

it("shows what was written last while two batches are under way, and when the first of them is on disk (I4)", async () => {
	const disk = await openDisk(await freshFolder());
	const table = new RecordTable({ disk, decode: decodeProof, idle: 10, onCorrupt: () => {} });
	let release = () => {};
	const held = new Promise<void>((resolve) => {
		release = resolve;
	});
	const commit = commitTo(disk, table, held);
	const write = (key: string, usedBy: string | null) => {
		const record = usedBy === null ? null : proof(key, { usedBy });
		const batch = commit.add([[`p:${key}`, record && encodeProof(`p:${key}`, record)]]);
		table.write(`p:${key}`, record, batch);
		return batch;
	};
	const first = write("a", "1");
	for (const key of ["b", "c"]) expect(write(key, "1")).toBe(first);
	await new Promise((resolve) => setImmediate(resolve));
	const second = write("a", "2");
	expect(write("b", null)).toBe(second);
	expect(second.number).toBeGreaterThan(first.number);
	const seen = () => ["a", "b", "c"].map((key) => table.read(`p:${key}`)?.usedBy);
	const batches = () => ["a", "b", "c"].map((key) => table.batchOf(`p:${key}`)?.number);
	expect(seen()).toEqual(["2", undefined, "1"]);
	expect(batches()).toEqual([second.number, second.number, first.number]);
	release();
	await first.durable;
	expect(seen()).toEqual(["2", undefined, "1"]);
	await second.durable;
	expect(seen()).toEqual(["2", undefined, "1"]);
	expect(batches()).toEqual([undefined, undefined, undefined]);
	await disk.close();
});

function commitTo(disk: Disk, table: RecordTable<ProofRecord>, held?: Promise<void>): GroupCommit {
	return new GroupCommit({
		async write(operations) {
			await held;
			await writeThrough(disk, operations);
		},
		onDurable: (batch) => table.settle(batch),
		onFault: () => new Error("faulted"),
	});
}
