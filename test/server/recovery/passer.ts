/** A thread that goes through a gate again and again, and counts how often. */
import { parentPort, workerData } from "node:worker_threads";
import { Gate } from "../../../src/server/recovery/gate.ts";

const gate = new Gate(workerData.gate);
parentPort?.postMessage("started");
for (;;) {
	gate.inside(() => {
		for (let pass = 0; pass < 16; pass++) {
			gate.pass();
			// At something for a while, shorter than the end of a process waits.
			Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
			Atomics.add(workerData.passed, 0, 1);
		}
	});
}
