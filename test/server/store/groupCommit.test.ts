import { describe, expect, it } from "vitest";
import { GroupCommit, type Operations } from "../../../src/server/store/groupCommit.ts";

/** A disk whose writes end when the test says so. */
function heldDisk() {
	const begun: { operations: Operations; end: () => void; fail: (error: Error) => void }[] = [];
	let onBegin = () => {};
	const commit = new GroupCommit({
		write: (operations) =>
			new Promise<void>((resolve, reject) => {
				begun.push({ operations, end: resolve, fail: reject });
				onBegin();
			}),
		onDurable: () => {},
		onFault: (cause) => new Error("faulted", { cause }),
	});
	/** Resolves when write `n` has begun. */
	const write = async (n: number) => {
		while (begun.length <= n) {
			await new Promise<void>((resolve) => {
				onBegin = resolve;
			});
		}
		return begun[n] as (typeof begun)[number];
	};
	return { commit, write, begun };
}

describe("GroupCommit", () => {
	it("puts what waits into one batch, and writes one batch at a time", async () => {
		const { commit, write, begun } = heldDisk();
		const a = commit.add([["a", "1"]]);
		expect(commit.add([["b", "1"]])).toBe(a);
		const first = await write(0);
		const c = commit.add([["a", "2"]]);
		expect(commit.add([["b", null]])).toBe(c);
		expect(commit.add([["a", "3"]])).toBe(c);
		expect(begun).toHaveLength(1);
		first.end();
		const second = await write(1);
		expect([...first.operations, ...second.operations]).toEqual([
			["a", "1"],
			["b", "1"],
			["a", "3"],
			["b", null],
		]);
		second.end();
		await c.durable;
		await commit.idle();
	});

	it("takes into the next batch whatever the event loop finds ready when one is on disk", async () => {
		const { commit, write } = heldDisk();
		const a = commit.add([["a", "1"]]);
		const first = await write(0);
		const b = commit.add([["b", "1"]]);
		first.end();
		await a.durable;
		await new Promise<void>((resolve) => process.nextTick(resolve));
		expect(commit.add([["c", "1"]])).toBe(b);
		const second = await write(1);
		expect([...second.operations.keys()]).toEqual(["b", "c"]);
		second.end();
		await commit.idle();
	});

	it("loses with a failed batch everything that came after it, and takes nothing more (I10)", async () => {
		const { commit, write, begun } = heldDisk();
		const a = commit.add([["a", "1"]]);
		const first = await write(0);
		const b = commit.add([["b", "1"]]);
		first.fail(new Error("disk"));
		await expect(a.durable).rejects.toThrow("faulted");
		await expect(b.durable).rejects.toThrow("faulted");
		expect(() => commit.add([["c", "1"]])).toThrow("faulted");
		expect(begun).toHaveLength(1);
		await commit.idle();
	});
});
