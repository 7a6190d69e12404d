import { access, readFile, rename, stat, symlink, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { isStoreFolder } from "../../../src/server/store/disk.ts";
import { readHolder } from "../../../src/server/store/holder.ts";
import { LevelStore } from "../../../src/server/store/levelStore.ts";
import { StoreUnavailableError } from "../../../src/server/store/store.ts";
import { freshFolder, removeFolders } from "./folders.ts";
import { hold, kill, killAll, outcomeOfOpening } from "./processes.ts";
import { increment } from "./turns.ts";

afterEach(killAll);
afterAll(removeFolders);

async function refusal(opening: Promise<unknown>): Promise<StoreUnavailableError> {
	const error = await opening.then(
		() => undefined,
		(reason) => reason,
	);
	expect(error).toBeInstanceOf(StoreUnavailableError);
	return error;
}

describe("a folder that another process has open", () => {
	it("is refused, with who has it, since when, and what to do (I4)", async () => {
		const folder = await freshFolder();
		const before = Date.now();
		const { pid } = await hold(folder, "shop one");
		const error = await refusal(LevelStore.open({ folder }));
		expect(error).toMatchObject({ reason: "held", holder: { pid, host: hostname(), name: "shop one" } });
		const since = error.holder?.since ?? "";
		expect(Date.parse(since)).toBeGreaterThanOrEqual(before);
		expect(Date.parse(since)).toBeLessThanOrEqual(Date.now());
		expect(error.message).toBe(
			`the store in ${folder} can't be opened; shop one (process ${pid} on ${hostname()}, since ${since}) ` +
				"has it open: stop that one, or give this one a folder of its own",
		);
		expect(await readHolder(folder)).toEqual(error.holder);
	});

	it("is the next one's as soon as that process was killed, and what it left is written over", async () => {
		const folder = await freshFolder();
		const child = await hold(folder);
		await kill(child);
		expect(JSON.parse(await readFile(join(folder, "HOLDER"), "utf8"))).toMatchObject({
			pid: child.pid,
			name: "sluice",
		});
		expect(await readHolder(folder)).toBeUndefined();
		const store = await LevelStore.open({ folder, name: "next\n\u001b[31mone" });
		expect(await readHolder(folder)).toMatchObject({ pid: process.pid, name: "next [31mone" });
		expect(await outcomeOfOpening(folder)).toMatchObject({ reason: "held", holder: { pid: process.pid } });
		await store.close();
		await expect(access(join(folder, "HOLDER"))).rejects.toMatchObject({ code: "ENOENT" });
	});

	it("is refused without a name where the file about it is torn, damaged, too long, or of a process that is gone", async () => {
		const folder = await freshFolder();
		const gone = await hold(folder);
		await kill(gone);
		const old = await readFile(join(folder, "HOLDER"), "utf8");
		await hold(folder);
		const own = JSON.parse(await readFile(join(folder, "HOLDER"), "utf8"));
		const wrong = [
			old,
			"",
			JSON.stringify(own).slice(0, -5),
			JSON.stringify({ ...own, pid: 0 }),
			JSON.stringify({ ...own, name: "\u001b[31m" }),
			JSON.stringify({ ...own, more: "x".repeat(5_000) }),
		];
		for (const text of wrong) {
			await writeFile(join(folder, "HOLDER"), text);
			const error = await refusal(LevelStore.open({ folder }));
			expect(error.message, text).toMatch(/; another process has it open: stop that one/);
			expect(error).toMatchObject({ reason: "held" });
			expect(error.holder).toBeUndefined();
		}
	});
});

describe("a folder that this process has open", () => {
	it("is refused a second time, under whatever path, and stays this process's own (I4)", async () => {
		const folder = await freshFolder();
		const store = await LevelStore.open({ folder });
		await symlink(folder, `${folder}-link`);
		for (const path of [folder, `${folder}-link`, folder]) {
			const error = await refusal(LevelStore.open({ folder: path }));
			expect(error.message).toMatch(/this process has it open already: use that store, or close it first/);
			expect(error.reason).toBe("held");
		}
		// LevelDB alone would have lost its lock by now.
		expect(await outcomeOfOpening(folder)).toMatchObject({ reason: "held", holder: { pid: process.pid } });
		await (await increment(store, 1)).durable;
		await store.close();
		const again = await LevelStore.open({ folder });
		await again.close();
		expect(await outcomeOfOpening(folder)).toMatchObject({ name: "opened" });
	});

	it("is opened once when two ask at the same moment", async () => {
		const folder = await freshFolder();
		const both = await Promise.allSettled([LevelStore.open({ folder }), LevelStore.open({ folder })]);
		expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
		for (const one of both) if (one.status === "fulfilled") await one.value.close();
	});

	it("can be opened after an opening that failed", async () => {
		const folder = await freshFolder();
		await (await LevelStore.open({ folder })).close();
		await rename(join(folder, "CURRENT"), join(folder, "kept"));
		await writeFile(join(folder, "CURRENT"), "no manifest");
		await refusal(LevelStore.open({ folder }));
		await rename(join(folder, "kept"), join(folder, "CURRENT"));
		await (await LevelStore.open({ folder })).close();
	});

	it("says who has it in a file that only this user may read", async () => {
		const folder = await freshFolder();
		const store = await LevelStore.open({ folder });
		expect(((await stat(join(folder, "HOLDER"))).mode & 0o777).toString(8)).toBe("600");
		await store.close();
	});
});

describe("a store that must exist", () => {
	it("is opened where it is", async () => {
		const folder = await freshFolder();
		await (await LevelStore.open({ folder })).close();
		expect(await isStoreFolder(folder)).toBe(true);
		await (await LevelStore.open({ folder, mustExist: true })).close();
	});

	it("is not made where a path was mistyped", async () => {
		const folder = await freshFolder();
		expect(await isStoreFolder(folder)).toBe(false);
		const error = await refusal(LevelStore.open({ folder, mustExist: true }));
		expect(error).toMatchObject({ reason: "missing" });
		expect(error.message).toBe(`there is no store in ${folder}; name the folder that the server keeps its channels in`);
		await expect(access(folder)).rejects.toMatchObject({ code: "ENOENT" });
		const file = import.meta.filename;
		expect(await refusal(LevelStore.open({ folder: file, mustExist: true }))).toMatchObject({ reason: "missing" });
	});

	it("is not another program's database, which is left as it was", async () => {
		const folder = await freshFolder();
		const foreign = new Level<string, string>(folder);
		await foreign.put("theirs", "1");
		await foreign.close();
		expect(await refusal(LevelStore.open({ folder, mustExist: true }))).toMatchObject({ reason: "missing" });
		await foreign.open();
		expect(await foreign.keys().all()).toEqual(["theirs"]);
		await foreign.close();
	});

	it("is refused, and not called missing, where another process has it open", async () => {
		const folder = await freshFolder();
		await hold(folder);
		expect(await refusal(LevelStore.open({ folder, mustExist: true }))).toMatchObject({ reason: "held" });
	});
});
