/** A thread that is ready, and breaks at the first question. */
import { parentPort } from "node:worker_threads";

parentPort?.on("message", () => {
	throw new Error("broken");
});
parentPort?.postMessage("ready");
