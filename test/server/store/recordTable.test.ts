import { afterAll, expect, it } from "vitest";
import { openDisk } from "../../../src/server/store/disk.ts";
import { GroupCommit } from "../../../src/server/store/groupCommit.ts";
import { decodeProof, encodeProof } from "../../../src/server/store/record.ts";
import { RecordTable } from "../../../src/server/store/recordTable.ts";
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
	const commit = new GroupCommit({
		write: (operations) =>
			disk.batch([...operations].map(([key, value]) => ({ type: "put", key, value: String(value ?? "") }))),
		onDurable: (batch) => table.settle(batch),
		onFault: () => new Error("faulted"),
	});

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
