/** A thread that would verify by another curve than its server. */
import { parentPort } from "node:worker_threads";
import { END } from "../../../src/server/recovery/messages.ts";

parentPort?.on("message", (message) => message === END && parentPort?.close());
parentPort?.postMessage({ curve: "another" });
