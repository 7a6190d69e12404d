/**
 * What a server remembers only saves it work: the same tests as elsewhere, where its caches forget at once. Those with a time to
 * live are what the chain has said, and those of rates are counts: they are no caches, and stay as they are.
 */
import { afterAll, expect, vi } from "vitest";

const { asked } = vi.hoisted(() => ({ asked: { caches: 0, times: 0 } }));

vi.mock("lru-cache", async (original) => {
	const { LRUCache } = await original<typeof import("lru-cache")>();
	type Options = Readonly<{ max: number; ttl?: number }>;
	class Forgetful extends LRUCache<object, object> {
		readonly #forgets: boolean;
		constructor(options: Options) {
			super(options);
			const isRate = new Error().stack?.includes("rateLimit.ts") === true;
			this.#forgets = options.ttl === undefined && !isRate;
			if (this.#forgets) asked.caches++;
		}
		override get(key: object): object | undefined {
			if (this.#forgets) asked.times++;
			return super.get(key);
		}
		override set(key: object, value: object): this {
			return this.#forgets ? this : super.set(key, value);
		}
	}
	return { LRUCache: Forgetful };
});

for (const suite of ["session", "forged", "idempotency", "concurrency", "ahead"]) await import(`./${suite}.test.ts`);

afterAll(() => {
	expect(asked.caches).toBeGreaterThan(10);
	expect(asked.times).toBeGreaterThan(1_000);
});
