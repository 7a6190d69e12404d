/** Has a thread that never ends by itself, lets it go, stops it or leaves it alone, and has nothing else to do then. */
import { setTimeout as sleep } from "node:timers/promises";
import { loadCrypto } from "../../../src/server/crypto.ts";
import { RecoveryThreads } from "../../../src/server/recovery/threads.ts";

const how = process.argv[2];
const warned: unknown[] = [];
const log = { info: () => undefined, error: () => undefined, warn: (values: object) => void warned.push(values) };
const script = new URL("./deaf.ts", import.meta.url);
const threads = new RecoveryThreads({
	...(await loadCrypto()),
	threads: 1,
	log,
	startAfter: 0,
	script,
	answerMs: 100,
});
while (threads.ready === 0) await sleep(1);
if (how === "let go") {
	for (let asked = 0; asked < 20; asked++) void threads.recover(new Uint8Array(64), 0, new Uint8Array(32));
	while (warned.length === 0) await sleep(1);
}
if (how !== "left alone") await threads.stop();
console.log(JSON.stringify({ started: threads.started }));
