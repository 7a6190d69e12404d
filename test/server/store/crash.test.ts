import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { LevelStore } from "../../../src/server/store/levelStore.ts";
import type { ChannelStore } from "../../../src/server/store/store.ts";
import { freshFolder, removeFolders } from "./folders.ts";
import { collect, id, transaction } from "./records.ts";

const ROUNDS = 6;
const CHANNELS = 8;
/** At most this many turns are between their number and their acknowledgement (storeProcess.ts). */
const WRITERS = 16;

const children: ChildProcess[] = [];

function start(...args: string[]): ChildProcess & { stdout: NodeJS.ReadableStream } {
	const flags = ["--experimental-strip-types", "--disable-warning=ExperimentalWarning"];
	const script = join(import.meta.dirname, "storeProcess.ts");
	const child = spawn(process.execPath, [...flags, script, ...args], { stdio: ["ignore", "pipe", "inherit"] });
	children.push(child);
	return child;
}

function exited(child: ChildProcess): Promise<void> {
	return new Promise((resolve) => child.once("close", () => resolve()));
}

afterEach(() => {
	for (const child of children.splice(0)) child.kill("SIGKILL");
});
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

/** The turns that are there, each with all of its records; throws when one is there in part. */
async function wholeTurns(store: ChannelStore, upTo: number): Promise<Set<number>> {
	const audit = new Set((await collect(store.audit())).map(({ values }) => Number(values.n)));
	const outbox = new Set((await collect(store.outbox({ state: "pending" }))).map(({ hash }) => hash));
	const perChannel = new Map<string, bigint>();
	for (let n = 1; n <= upTo; n++) {
		const key = `turn ${n}`;
		const { value } = await store.transact({ proofs: [key], idempotency: key }, (view) => ({
			value: [view.proof(key) !== undefined, view.idempotency !== undefined],
		}));
		const there = audit.has(n);
		expect([...value, outbox.has(transaction(n).hash)], `records of turn ${n}`).toEqual([there, there, there]);
		if (there) perChannel.set(id(n % CHANNELS), (perChannel.get(id(n % CHANNELS)) ?? 0n) + 1n);
	}
	const sums = (await collect(store.channels())).map((one) => [one.channelId, one.acceptedCumulative]);
	expect(sums).toEqual([...perChannel].sort(([a], [b]) => (a < b ? -1 : 1)));
	expect((await collect(store.due("unsettled"))).length).toBe(perChannel.size);
	return audit;
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
		const second = start("open", folder);
		let outcome = "";
		second.stdout.on("data", (chunk: Buffer) => {
			outcome += chunk.toString();
		});
		await exited(second);
		expect(JSON.parse(outcome)).toMatchObject({
			name: "StoreUnavailableError",
			code: "STORE_UNAVAILABLE",
			message: expect.stringMatching(
				/another process has it open: stop that one, or give this one a folder of its own/,
			),
		});
		writer.kill("SIGKILL");
		await exited(writer);
		const store = await LevelStore.open({ folder });
		expect((await collect(store.channels())).length).toBeGreaterThan(0);
		await store.close();
	});
});
