/** A process that ends by `stopOnSignals`, for its test. Arguments: how its stop goes, and its deadline in ms. */
import { once } from "node:events";
import { stopOnSignals } from "../../src/server/signals.ts";

const [how, deadlineMs] = process.argv.slice(2);

const stops: Readonly<Record<string, () => Promise<void>>> = {
	/** When it is told to go on. */
	async drains() {
		process.stdin.ref();
		await once(process.stdin, "data");
	},
	/** Never, and nothing is left that would keep the process alive. */
	async hangs() {
		clearInterval(alive);
		await new Promise(() => undefined);
	},
	/** Badly, and not even as promised. */
	throws() {
		throw new Error("no such luck");
	},
};

const alive = setInterval(() => undefined, 1_000);
process.stdin.unref();
const forget = stopOnSignals(stops[how ?? ""] ?? (async () => undefined), { deadlineMs: Number(deadlineMs) });
if (how === "forgets") forget();
process.stdout.write("ready\n");
