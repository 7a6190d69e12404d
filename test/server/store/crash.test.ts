import { afterAll, afterEach, describe, expect, it } from "vitest";
import { LevelStore } from "../../../src/server/store/levelStore.ts";
import { freshFolder, removeFolders } from "./folders.ts";
import { exited, killAll, outcomeOfOpening, start } from "./processes.ts";
import { collect } from "./records.ts";
import { WRITERS, wholeTurns } from "./wholeTurns.ts";

const ROUNDS = 6;

afterEach(killAll);
afterAll(removeFolders);

/** A small generator of numbers, so that a failed round can be run again (mulberry32). */
function random(seed: number): () => number {
	let state = seed;
	return () => {
		state = (state + 0x6d2b79f5) | 0;
		let t = Math.imul(state ^ (state >>> 15), 1 | state);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
	};
}

/** Runs turns from number `first` on, kills the process after `afterTurns` of them and a moment, and says what it acknowledged. */
async function writeAndKill(folder: string, first: number, afterTurns: number, afterMs: number): Promise<number[]> {
	const child = start("write", folder, String(first));
	let text = "";
	let lines = 0;
	child.stdout.on("data", (chunk: Buffer) => {
		text += chunk.toString();
		const before = lines;
		lines = text.split("\n").length - 1;
		if (before < afterTurns && lines >= afterTurns) setTimeout(() => child.kill("SIGKILL"), afterMs);
	});
	await exited(child);
	return text.split("\n").slice(0, -1).map(Number);
}

describe("LevelStore and kill -9", () => {
	it("keeps every acknowledged turn, and every turn whole or not at all (I5)", async () => {
		const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
		console.log(`kill -9 rounds with SEED=${seed}`);
		const next = random(seed);
		const folder = await freshFolder();
		const acknowledged: number[] = [];
		let first = 1;
		for (let round = 0; round < ROUNDS; round++) {
			const afterTurns = 1 + Math.floor(next() * 300);
			const afterMs = Math.floor(next() * 30);
			const told = await writeAndKill(folder, first, afterTurns, afterMs);
			expect(told.length).toBeGreaterThanOrEqual(afterTurns);
			acknowledged.push(...told);
			const highest = Math.max(...told) + WRITERS;
			const store = await LevelStore.open({ folder });
			const there = await wholeTurns(store, highest);
			expect(acknowledged.filter((n) => !there.has(n))).toEqual([]);
			expect(store.quarantined()).toEqual([]);
			await store.close();
			first = highest + 1;
		}
	});

	it("leaves the store to the next process, and to one only (I4)", async () => {
		const folder = await freshFolder();
		const writer = start("write", folder);
		await new Promise((resolve) => writer.stdout.once("data", resolve));
		expect(await outcomeOfOpening(folder)).toMatchObject({
			name: "StoreUnavailableError",
			code: "STORE_UNAVAILABLE",
			message: expect.stringMatching(/has it open: stop that one, or give this one a folder of its own/),
		});
		writer.kill("SIGKILL");
		await exited(writer);
		const store = await LevelStore.open({ folder });
		expect((await collect(store.channels())).length).toBeGreaterThan(0);
		await store.close();
	});
});
