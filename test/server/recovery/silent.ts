/** A thread that is ready, and never answers. */
import { parentPort } from "node:worker_threads";
import { loadCrypto } from "../../../src/server/crypto.ts";
import { END } from "../../../src/server/recovery/messages.ts";

const { curve } = await loadCrypto();
parentPort?.on("message", (message) => message === END && parentPort?.close());
parentPort?.postMessage({ curve });
