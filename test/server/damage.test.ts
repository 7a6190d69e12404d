import { afterEach, describe, expect, it, vi } from "vitest";
import { openDisk } from "../../src/server/store/disk.ts";
import { expiryEntryKey } from "../../src/server/store/keys.ts";
import { useWorld } from "../support/useWorld.ts";
import { type PaidServer, PRICE } from "../support/world.ts";
import { owing } from "./settlement/support.ts";
import { until } from "./watchStage.ts";

const HOUSEKEEPING_MS = 15_000;
const DAMAGED = "a stored record is damaged; restore it from a backup";

const world = useWorld();
afterEach(() => {
	vi.useRealTimers();
});

/** What the server's log says of damage, in order. */
const told = ({ logs }: PaidServer) => logs.filter(({ message }) => message === DAMAGED);

/** Puts a value without a checksum at each key, while the server is down, and starts it again. */
async function damage(server: PaidServer, keys: readonly string[]): Promise<void> {
	await server.stop();
	const disk = await openDisk(server.folder);
	for (const key of keys) await disk.put(key, "");
	await disk.close();
	vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
	await server.restart();
}

/** One more round of what the engine does by itself. */
async function keepHouse(server: PaidServer): Promise<void> {
	const pruned = vi.spyOn(server.store, "prune");
	vi.advanceTimersByTime(HOUSEKEEPING_MS);
	await until("housekeeping is over", async () => pruned.mock.settledResults[0]?.type === "fulfilled");
	pruned.mockRestore();
}

describe("a damaged record", () => {
	it("that housekeeping comes upon, long after the start, is in the log, once (I10)", async () => {
		const server = await world.serve();
		const key = expiryEntryKey(0, 1, 1);
		await damage(server, [key]);
		expect(told(server)).toEqual([]);
		await keepHouse(server);
		await until("it is told of", async () => told(server).length > 0);
		await keepHouse(server);
		await keepHouse(server);
		expect(told(server)).toEqual([
			{ level: "error", message: DAMAGED, values: { key, reason: expect.stringContaining("checksum") } },
		]);
	});

	it("that a request comes upon is in the log by its key, after the next housekeeping (I10)", async () => {
		const server = await world.serve();
		const payer = await world.payer({ gas: true });
		const channel = await owing(server, payer, PRICE);
		await damage(server, [`c:${channel.channelId}`]);
		await expect(server.ledger(channel)).rejects.toThrow(/checksum/);
		await keepHouse(server);
		await until("it is told of", async () => told(server).length > 0);
		expect(told(server)).toMatchObject([{ level: "error", values: { key: `c:${channel.channelId}` } }]);
	});
});

describe("a damaged record that the start comes upon", () => {
	it("is in the log although the start fails by it (I10)", async () => {
		const server = await world.serve({ engine: { watch: { pollMs: 20 } } });
		await server.stop();
		const disk = await openDisk(server.folder);
		const [cursor = ""] = await disk.keys({ gt: "n:", lt: "n;" }).all();
		await disk.put(cursor, "");
		await disk.close();
		await expect(server.restart()).rejects.toThrow(/checksum/);
		expect(told(server)).toMatchObject([{ level: "error", values: { key: cursor } }]);
	});
});
