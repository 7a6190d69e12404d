/** A thread that is ready, and breaks at the first question. */
import { parentPort } from "node:worker_threads";
import { loadCrypto } from "../../../src/server/crypto.ts";
import { END } from "../../../src/server/recovery/messages.ts";

const { curve } = await loadCrypto();
parentPort?.on("message", (message) => {
	if (message === END) return parentPort?.close();
	throw new Error("broken");
});
parentPort?.postMessage({ curve });
