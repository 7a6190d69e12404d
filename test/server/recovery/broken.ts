/** A thread that is ready, and breaks at the first question. */
import { parentPort } from "node:worker_threads";
import { loadCrypto } from "../../../src/server/crypto.ts";

const { curve } = await loadCrypto();
parentPort?.on("message", () => {
	throw new Error("broken");
});
parentPort?.postMessage({ curve });
