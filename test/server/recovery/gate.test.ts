import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { expect, it, vi } from "vitest";
import { Gate } from "../../../src/server/recovery/gate.ts";

it("that is shut lets none of many threads pass any more, and is waited at until none is inside", async () => {
	const gate = new Gate();
	const passed = new Int32Array(new SharedArrayBuffer(4));
	const threads = Array.from(
		{ length: 3 },
		() => new Worker(new URL("./passer.ts", import.meta.url), { workerData: { gate: gate.shared, passed } }),
	);
	try {
		await Promise.all(threads.map((thread) => once(thread, "message")));
		await vi.waitFor(() => expect(Atomics.load(passed, 0)).toBeGreaterThan(20), { timeout: 30_000 });
		gate.shut(30_000);
		const before = Atomics.load(passed, 0);
		await sleep(50);
		expect(Atomics.load(passed, 0)).toBe(before);
	} finally {
		await Promise.all(threads.map((thread) => thread.terminate()));
	}
});

it("that somebody never leaves holds up the end of the process for a moment only", () => {
	const gate = new Gate();
	gate.inside(() => gate.shut());
	expect(Atomics.load(gate.shared, 1)).toBe(0);
});

it("is left by whoever throws inside", () => {
	const gate = new Gate();
	const broken = () => {
		throw new Error("broken");
	};
	expect(() => gate.inside(broken)).toThrow("broken");
	expect(Atomics.load(gate.shared, 1)).toBe(0);
});
