import { describe, expect, it } from "vitest";
import type { Found } from "../../../src/server/store/disk.ts";
import { Prefetch } from "../../../src/server/store/prefetch.ts";

function heldReader() {
	const reads: { keys: readonly string[]; answer: (found: Found[]) => void }[] = [];
	const found: [string, Found][] = [];
	const prefetch = new Prefetch(
		(keys) => new Promise((answer) => reads.push({ keys, answer })),
		(key, value) => found.push([key, value]),
	);
	const tick = () => new Promise((resolve) => setImmediate(resolve));
	return { reads, found, prefetch, tick };
}

describe("Prefetch", () => {
	it("reads in one go what is asked for at the same moment, each key once", async () => {
		const { reads, found, prefetch, tick } = heldReader();
		const loads = ["a", "b", "a"].map((key) => prefetch.load(key));
		await tick();
		expect(reads.map(({ keys }) => keys)).toEqual([["a", "b"]]);
		reads[0]?.answer(["1", undefined]);
		await Promise.all(loads);
		expect(found).toEqual([
			["a", "1"],
			["b", undefined],
		]);
	});

	it("does not hand over what was written after its reading began (I4)", async () => {
		const { reads, found, prefetch, tick } = heldReader();
		const old = prefetch.load("a");
		await tick();
		prefetch.forget("a");
		const fresh = prefetch.load("a");
		reads[0]?.answer(["old"]);
		await old;
		await tick();
		reads[1]?.answer(["new"]);
		await fresh;
		expect(found).toEqual([["a", "new"]]);
	});
});
