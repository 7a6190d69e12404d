/**
 * A process of its own for the store's tests.
 *
 *     node storeProcess.ts write <folder> <first>   turns numbered from <first>, for ever; prints each number when it is durable
 *     node storeProcess.ts churn <folder> <last>    turns 1 to <last>, in tables so small that they are merged all the time
 *     node storeProcess.ts hold <folder> <name>     opens the store, says so, and waits to be killed
 *     node storeProcess.ts open <folder>            opens the store; prints what went wrong
 */
import { writeSync } from "node:fs";
import { Level } from "level";
import { LevelStore } from "../../../src/server/store/index.ts";
import { writeTurns } from "./writeTurns.ts";

/** Whoever reads the store meanwhile has to get to an end: it has more to read with each turn. */
const CHURN_PAUSE_MS = 20;

const [, , mode, folder = "", argument] = process.argv;
if (mode === "write")
	await writeTurns(await LevelStore.open({ folder }), Number(argument ?? 1), Number.POSITIVE_INFINITY);
if (mode === "churn") {
	const disk = new Level<string, string>(folder, { writeBufferSize: 65_536, maxFileSize: 65_536 });
	await disk.open();
	await writeTurns(await LevelStore.over(disk), 1, Number(argument), CHURN_PAUSE_MS);
	waitToBeKilled();
}
if (mode === "hold") {
	await LevelStore.open({ folder, ...(argument !== undefined && { name: argument }) });
	writeSync(1, "open\n");
	waitToBeKilled();
}
if (mode === "open") {
	const outcome = await LevelStore.open({ folder }).then(
		() => ({ name: "opened" }),
		({ name, code, reason, holder, message }) => ({ name, code, reason, holder, message }),
	);
	writeSync(1, JSON.stringify(outcome));
}

function waitToBeKilled(): void {
	setInterval(() => {}, 60_000);
}
