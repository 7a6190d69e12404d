/** A thread that would verify by another curve than its server. */
import { parentPort } from "node:worker_threads";

parentPort?.on("message", () => undefined);
parentPort?.postMessage({ curve: "another" });
