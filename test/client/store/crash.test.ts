import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { LevelPayerStore } from "../../../src/client/store/levelStore.ts";
import { id } from "./records.ts";
import { freshFolder, openDatabase, removeFolders } from "./stages.ts";

const ROUNDS = 3;
const children: ChildProcess[] = [];

afterEach(() => {
	for (const child of children.splice(0)) child.kill("SIGKILL");
});
afterAll(removeFolders);

/** Kills a writing process once it has acknowledged so many amounts: the highest of all that it did. */
async function writeAndKill(folder: string, lines: number): Promise<bigint> {
	const flags = ["--experimental-strip-types", "--disable-warning=ExperimentalWarning"];
	const script = join(import.meta.dirname, "writerProcess.ts");
	const child = spawn(process.execPath, [...flags, script, folder], { stdio: ["ignore", "pipe", "inherit"] });
	children.push(child);
	let text = "";
	child.stdout.on("data", (chunk: Buffer) => {
		text += chunk.toString();
		if (text.split("\n").length > lines) child.kill("SIGKILL");
	});
	await new Promise((resolve) => child.once("close", resolve));
	const told = text.split("\n").slice(0, -1).map(BigInt);
	expect(told.length).toBeGreaterThanOrEqual(lines);
	return told.reduce((a, b) => (a > b ? a : b));
}

describe("LevelPayerStore and kill -9", () => {
	it("has every amount that it said was on disk, with its count, and lends the channel anew (I11)", async () => {
		const folder = await freshFolder();
		let fence = 0;
		for (let round = 0; round < ROUNDS; round++) {
			const lines = 1 + Math.floor(Math.random() * 150);
			const highest = await writeAndKill(folder, lines);
			const store = await LevelPayerStore.open({ db: openDatabase(folder), graceMs: 0 });
			expect(await store.damaged()).toEqual([]);
			const held = await store.takeById(id(1));
			const amount = BigInt(held?.record.state.signed ?? -1);
			expect(amount, `killed after ${lines} lines`).toBeGreaterThanOrEqual(highest);
			// Each write raises the amount by one and counts one: it is whole, or it is not there.
			expect(await store.counts(["x"])).toEqual([amount]);
			expect(held?.fence).toBeGreaterThan(fence);
			fence = held?.fence ?? 0;
			expect((await store.receipts()).length).toBeLessThanOrEqual(1);
			await store.close();
		}
	});
});
