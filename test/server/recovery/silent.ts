/** A thread that is ready, and never answers. */
import { parentPort } from "node:worker_threads";
import { loadCrypto } from "../../../src/server/crypto.ts";

const { curve } = await loadCrypto();
parentPort?.on("message", () => undefined);
parentPort?.postMessage({ curve });
