import { expect, it } from "vitest";
import { OnceWrites } from "../../../src/client/node/once.ts";
import { MemoryPayerStore } from "../../../src/client/store/memoryStore.ts";
import type { StoreWrite } from "../../../src/client/store/store.ts";
import { recordOf } from "./walletRecords.ts";

const add = (amount: bigint, max = 1_000n): StoreWrite => ({ counters: [{ key: "day", add: amount, max }] });

it("a write that is repeated counts once, whether it was carried out before its answer was lost or not", async () => {
	const store = new MemoryPayerStore();
	const once = new OnceWrites("h");
	for (const times of [1, 2, 3, 1, 2]) {
		await once.write(add(10n), async (write) => {
			let answer: Awaited<ReturnType<typeof store.write>>;
			for (let time = 0; time < times; time++) answer = await store.write(write);
			return answer;
		});
	}
	expect(await store.counts(["day"])).toEqual([50n]);
});

it("many at a time count once each", async () => {
	const store = new MemoryPayerStore();
	const once = new OnceWrites("h");
	const twice = async (write: StoreWrite) => {
		await store.write(write);
		await new Promise((resolve) => setTimeout(resolve, 1));
		return await store.write(write);
	};
	await Promise.all(Array.from({ length: 50 }, () => once.write(add(1n), twice)));
	await Promise.all(Array.from({ length: 50 }, () => once.write(add(1n), twice)));
	expect(await store.counts(["day"])).toEqual([100n]);
});

it("one that is refused says so, and the next one counts", async () => {
	const store = new MemoryPayerStore();
	const once = new OnceWrites("h");
	const send = (write: StoreWrite) => store.write(write);
	expect(await once.write(add(8n, 10n), send)).toBeUndefined();
	expect(await once.write(add(8n, 10n), send)).toEqual({ key: "day", current: 8n, max: 10n });
	expect(await once.write(add(2n, 10n), send)).toBeUndefined();
	expect(await store.counts(["day"])).toEqual([10n]);
});

it("one of which nothing is known does not stand for a later one", async () => {
	const store = new MemoryPayerStore();
	const once = new OnceWrites("h");
	const lost = once.write(add(1n), async (write) => {
		await store.write(write);
		throw new Error("no answer");
	});
	await expect(lost).rejects.toThrow("no answer");
	await once.write(add(1n), (write) => store.write(write));
	expect(await store.counts(["day"])).toEqual([2n]);
});

it("what counts nothing is written as it is", async () => {
	const store = new MemoryPayerStore();
	const held = await store.add(recordOf(1), 10);
	if (held === undefined) throw new Error("not added");
	const seen: StoreWrite[] = [];
	await new OnceWrites("h").write({ channel: held }, async (write) => {
		seen.push(write);
		return await store.write(write);
	});
	expect(seen).toEqual([{ channel: held }]);
});
