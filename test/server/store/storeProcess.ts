/**
 * A process of its own for the store's tests.
 *
 *     node storeProcess.ts write <folder> <first>   turns numbered from <first>, for ever; prints each number when it is durable
 *     node storeProcess.ts open <folder>            opens the store; prints what went wrong
 */
import { writeSync } from "node:fs";
import { LevelStore } from "../../../src/server/store/index.ts";
import { channel, id, idempotency, line, proof, transaction } from "./records.ts";

const CHANNELS = 8;
const WRITERS = 16;

/** Turn `n` leaves five records, which belong together. */
async function writeTurn(store: LevelStore, n: number): Promise<void> {
	const own = n % CHANNELS;
	const key = `turn ${n}`;
	const { durable } = await store.transact({ channel: id(own), proofs: [key], idempotency: key }, (view) => {
		const before = view.channel ?? channel(own);
		const after = { ...before, acceptedCumulative: before.acceptedCumulative + 1n };
		return {
			value: undefined,
			writes: {
				channel: after,
				proofs: { [key]: proof(key, { usedBy: id(own) }) },
				idempotency: idempotency(key),
				outbox: [transaction(n)],
				audit: [line(n)],
			},
		};
	});
	await durable;
	// Straight into the pipe: what the parent reads was said before the process died.
	writeSync(1, `${n}\n`);
}

const [, , mode, folder = "", first = "1"] = process.argv;
if (mode === "write") {
	const store = await LevelStore.open({ folder });
	let next = Number(first);
	const writer = async () => {
		for (;;) await writeTurn(store, next++);
	};
	await Promise.all(Array.from({ length: WRITERS }, writer));
}
if (mode === "open") {
	const outcome = await LevelStore.open({ folder }).then(
		() => ({ name: "opened" }),
		({ name, code, message }) => ({ name, code, message }),
	);
	writeSync(1, JSON.stringify(outcome));
}
