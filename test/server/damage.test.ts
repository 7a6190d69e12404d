/** A record of the store that can't be read: somebody has to hear of it, whenever it is found. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { DamageReport } from "../../src/server/damage.ts";
import { type Disk, openDisk } from "../../src/server/store/disk.ts";
import { all, channelKey, expiryEntryKey } from "../../src/server/store/keys.ts";
import { expectRefusal } from "../support/expect.ts";
import { invoice } from "../support/invoiceMethod.ts";
import { useWorld } from "../support/useWorld.ts";
import { type PaidServer, PRICE } from "../support/world.ts";
import { owing } from "./settlement/support.ts";
import { pay, until, WATCHING } from "./watchStage.ts";

const HOUSEKEEPING_MS = 15_000;
const DAMAGED = "a stored record is damaged; restore it from a backup";

const world = useWorld();
afterEach(() => {
	vi.useRealTimers();
});

/** The keys of the records that the server's log calls damaged, in order. */
const told = ({ logs }: PaidServer) =>
	logs.filter(({ message }) => message === DAMAGED).map(({ level, values }) => ({ level, ...values }));

/** Changes the disk of a server, and leaves it stopped. */
async function tamper(server: PaidServer, change: (disk: Disk) => Promise<void>): Promise<void> {
	await server.stop();
	const disk = await openDisk(server.folder);
	await change(disk);
	await disk.close();
}

/** Puts a value without a checksum at a key; the server is up again, and its housekeeping comes when the test says so. */
async function damage(server: PaidServer, key: string): Promise<void> {
	await tamper(server, (disk) => disk.put(key, ""));
	vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
	await server.restart();
	expect(told(server)).toEqual([]);
}

/** Entries of the index of what expires, long due: nothing but housekeeping looks at them. */
const due = (n: number) => expiryEntryKey(0, 1, n);

describe("a damaged record", () => {
	it("is told of once, also where others are found later (I10)", () => {
		const found = [{ key: "c:1", reason: "no checksum" }];
		const lines: object[] = [];
		const log = { info: () => undefined, warn: () => undefined, error: (values: object) => void lines.push(values) };
		const report = new DamageReport({ quarantined: () => found }, log);
		report.tell();
		report.tell();
		found.push({ key: "c:2", reason: "no version" });
		report.tell();
		report.tell();
		expect(lines).toEqual([
			{ key: "c:1", reason: "no checksum" },
			{ key: "c:2", reason: "no version" },
		]);
	});

	it("is in the log when housekeeping comes upon it, long after the start (I10)", async () => {
		const server = await world.serve();
		await damage(server, due(1));
		vi.advanceTimersByTime(HOUSEKEEPING_MS);
		await until("it is told of", () => told(server).length > 0);
		expect(told(server)).toEqual([{ level: "error", key: due(1), reason: expect.stringContaining("checksum") }]);
	});

	/** A server whose record of a channel a request has come upon, and that record's key. */
	async function cameUpon() {
		const server = await world.serve();
		const payer = await world.payer({ gas: true });
		const channel = await owing(server, payer, PRICE);
		const key = channelKey(channel.channelId);
		await damage(server, key);
		expectRefusal(await pay(server, payer, channel, 2n * PRICE), "service-unavailable");
		return { server, key };
	}

	it("is in the log by its key when a request has come upon it (I10)", async () => {
		const { server, key } = await cameUpon();
		vi.advanceTimersByTime(HOUSEKEEPING_MS);
		expect(told(server)).toMatchObject([{ level: "error", key }]);
	});

	it("is in the log at the latest when the server stops (I10)", async () => {
		const { server, key } = await cameUpon();
		await server.stop();
		expect(told(server)).toMatchObject([{ level: "error", key }]);
	});

	it("is in the log although the start fails by it (I10)", async () => {
		const server = await world.serve({ engine: WATCHING });
		let key: string | undefined;
		await tamper(server, async (disk) => {
			[key] = await disk.keys(all("n:")).all();
			if (key === undefined) throw new Error("the server has kept no place in the chain");
			await disk.put(key, "");
		});
		await expect(server.restart()).rejects.toThrow(/checksum/);
		expect(told(server)).toMatchObject([{ level: "error", key }]);
	});
});

describe("housekeeping", () => {
	it("deletes what has expired also while a payment method is not done with its own", async () => {
		const { promise, resolve } = Promise.withResolvers<void>();
		const slow = { ...invoice(), keepHouse: () => promise };
		const server = await world.serve({ engine: { methods: [slow] } });
		await damage(server, due(1));
		vi.advanceTimersByTime(HOUSEKEEPING_MS);
		await until("it was at work once", () => told(server).length > 0);
		const prune = vi.spyOn(server.store, "prune");
		await until("it is at work again", () => {
			vi.advanceTimersByTime(HOUSEKEEPING_MS);
			return prune.mock.calls.length > 0;
		});
		resolve();
	});

	it("goes on where a payment method throws at once, and says so", async () => {
		const broken = {
			...invoice(),
			keepHouse: () => {
				throw new Error("not today");
			},
		};
		const server = await world.serve({ engine: { methods: [broken] } });
		await damage(server, due(1));
		vi.advanceTimersByTime(HOUSEKEEPING_MS);
		await until("what has expired is looked at", () => told(server).length > 0);
		const failed = { level: "warn", message: "housekeeping failed", values: { reason: "Error: not today" } };
		await until("the fault is told", () => server.logs.some(({ level }) => level === "warn"));
		expect(server.logs).toContainEqual(failed);
	});
});
