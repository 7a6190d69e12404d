/** Ends the process with exit code 7 while a thread that recovers keys is at work. */
import { setTimeout as sleep } from "node:timers/promises";
import { hexToBytes } from "viem";
import { loadCrypto } from "../../../src/server/crypto.ts";
import { RecoveryThreads } from "../../../src/server/recovery/threads.ts";
import { KNOWN_SIGNATURE } from "../../../src/voucher/index.ts";

const compact = hexToBytes(KNOWN_SIGNATURE).subarray(0, 64);
const digest = new Uint8Array(32).fill(1);
const log = { info: () => undefined, error: () => undefined, warn: () => undefined };
const threads = new RecoveryThreads({ ...(await loadCrypto()), threads: 4, log, startAfter: 0 });
while (threads.ready < 4) await sleep(1);
for (let asked = 0; asked < 129; asked++) void threads.recover(compact, 0, digest);
// Into the middle of it: what they have got takes them somewhat more than a millisecond.
const until = performance.now() + Math.random() * 1.5;
while (performance.now() < until);
process.exit(7);
