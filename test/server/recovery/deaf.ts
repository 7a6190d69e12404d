/** A thread that is ready, never answers, and does not end when it is asked to. */
import { parentPort } from "node:worker_threads";
import { loadCrypto } from "../../../src/server/crypto.ts";

const { curve } = await loadCrypto();
parentPort?.on("message", () => undefined);
parentPort?.postMessage({ curve });
