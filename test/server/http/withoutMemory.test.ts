/**
 * What a server remembers only saves it work: the same tests as elsewhere, where each of its caches has room for one entry, so
 * that hardly anything is there when it is looked for.
 */
import { vi } from "vitest";

vi.mock("lru-cache", async (original) => {
	const { LRUCache } = await original<typeof import("lru-cache")>();
	class OfOne extends LRUCache<object, object> {
		constructor(options: object) {
			super({ ...options, max: 1 });
		}
	}
	return { LRUCache: OfOne };
});

for (const suite of ["session", "forged", "idempotency", "concurrency", "ahead"]) await import(`./${suite}.test.ts`);
