/** Stops threads that recover keys while they are at it, again and again; says how many were answered, and what was warned of. */
import { setTimeout as sleep } from "node:timers/promises";
import { hexToBytes } from "viem";
import { loadCrypto } from "../../../src/server/crypto.ts";
import { RecoveryThreads } from "../../../src/server/recovery/threads.ts";
import { KNOWN_SIGNATURE } from "../../../src/voucher/index.ts";

const TIMES = 4;
const THREADS = 4;
/** As much as they take at a time, and the one of each turn that is left to whoever asks. */
const TOGETHER = THREADS * 32 + 1;

const compact = hexToBytes(KNOWN_SIGNATURE).subarray(0, 64);
const digest = new Uint8Array(32).fill(1);
const warned: unknown[] = [];
const log = { info: () => undefined, error: () => undefined, warn: (values: object) => void warned.push(values) };
const crypto = await loadCrypto();
let answered = 0;
for (let time = 0; time < TIMES; time++) {
	const threads = new RecoveryThreads({ ...crypto, threads: THREADS, log, startAfter: 0 });
	while (threads.ready < THREADS && warned.length === 0) await sleep(1);
	const asked = Array.from({ length: TOGETHER }, () => threads.recover(compact, 0, digest));
	// Into the middle of it: what they have got takes them somewhat more than a millisecond.
	const until = performance.now() + Math.random() * 1.5;
	while (performance.now() < until);
	await threads.stop();
	for (const key of await Promise.all(asked)) if (key !== undefined) answered++;
}
console.log(JSON.stringify({ curve: crypto.curve, unanswered: TIMES * (TOGETHER - 1) - answered, warned }));
