/** Starts a thread that recovers keys, and says whether it got ready, and what was warned of meanwhile. */
import { setTimeout as sleep } from "node:timers/promises";
import { loadCrypto } from "../../../src/server/crypto.ts";
import { RecoveryThreads } from "../../../src/server/recovery/threads.ts";

const DEADLINE_MS = 30_000;

const warned: unknown[] = [];
const log = { info: () => undefined, error: () => undefined, warn: (values: object) => void warned.push(values) };
const threads = new RecoveryThreads({ ...(await loadCrypto()), threads: 1, log, startAfter: 0 });
const until = Date.now() + DEADLINE_MS;
while (threads.ready === 0 && warned.length === 0 && Date.now() < until) await sleep(5);
console.log(JSON.stringify({ ready: threads.ready, warned }));
await threads.stop();
