import { privateKeyToAccount } from "viem/accounts";
import { afterAll, describe, expect, it } from "vitest";
import type { Channel } from "../../src/server/channel.ts";
import { LevelStore, PaymentEngine } from "../../src/server/index.ts";
import { type Disk, openDisk } from "../../src/server/store/disk.ts";
import { useWorld } from "../support/useWorld.ts";
import { freshFolder, removeFolders } from "./store/folders.ts";
import { channel, MINUTE_MS } from "./store/records.ts";
import { putChannels } from "./store/turns.ts";

const world = useWorld();
afterAll(removeFolders);

const PRIVATE_KEY = `0x${"5a".repeat(32)}` as const;
const ACCOUNT = privateKeyToAccount(PRIVATE_KEY);
const CHANNELS = 3_000;
const DAY_MS = 86_400_000;

function start(store: LevelStore): Promise<PaymentEngine> {
	return PaymentEngine.start({
		realm: "test.sluice.local",
		client: world.chain.client,
		chainId: world.chain.chainId,
		escrow: world.escrow,
		currency: world.token,
		account: ACCOUNT,
		secrets: ["a secret of the test, long enough for it"],
		store,
	});
}

/** Of this payee; nothing is owed on it, and it was used within the last hours. */
function used(number: number, change: Partial<Channel> = {}): Channel {
	const at = Date.now() - (number % 600) * MINUTE_MS;
	return channel(number, {
		escrow: world.escrow,
		payee: ACCOUNT.address.toLowerCase() as `0x${string}`,
		token: world.token,
		chainReadAt: Date.now(),
		openedAt: at,
		lastActivityAt: at,
		...change,
	});
}

/** Counts which channels are read from the disk. */
function counting(disk: Disk): Map<string, number> {
	const reads = new Map<string, number>();
	const count = (key: string) => {
		if (key.startsWith("c:")) reads.set(key, (reads.get(key) ?? 0) + 1);
	};
	const { get, getSync, getMany, iterator: iterate } = disk;
	const counted =
		(read: (...args: never[]) => unknown) =>
		(key: string, ...rest: unknown[]) => {
			count(key);
			return Reflect.apply(read, disk, [key, ...rest]);
		};
	Object.assign(disk, {
		get: counted(get),
		getSync: counted(getSync),
		getMany(keys: string[], ...rest: unknown[]) {
			for (const key of keys) count(key);
			return Reflect.apply(getMany, disk, [keys, ...rest]);
		},
		iterator(...range: unknown[]) {
			const iterator = Reflect.apply(iterate, disk, range);
			const nextv = iterator.nextv.bind(iterator);
			iterator.nextv = async (size: number) => {
				const entries: [string, string][] = await nextv(size);
				for (const [key] of entries) count(key);
				return entries;
			};
			return iterator;
		},
	});
	return reads;
}

describe("a start on many channels", () => {
	it("reads those that may be due, and a page of the others, however many there are", async () => {
		const folder = await freshFolder();
		const before = await LevelStore.open({ folder });
		// An earlier run has followed the chain up to now.
		await (await start(before)).stop();
		const all = Array.from({ length: CHANNELS }, (_, number) => used(number));
		// Closed long ago: it is due for nothing, and would be read first of all.
		const closed = used(CHANNELS, { finalized: true, lastActivityAt: Date.now() - 30 * DAY_MS });
		await putChannels(before, [...all, closed]);
		await before.close();

		const disk = await openDisk(folder);
		const reads = counting(disk);
		const store = await LevelStore.over(disk);
		const engine = await start(store);
		// What a start begins has been done as well.
		await engine.settle();
		expect(reads.size).toBeLessThan(CHANNELS / 4);
		expect(reads.has(`c:${closed.channelId}`)).toBe(false);
		await engine.stop();
		await store.close();
	}, 60_000);
});
