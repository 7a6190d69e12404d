/**
 * A process of an agent, which does with its wallet what it is told.
 *
 *     node walletProcess.ts <folder> <holderGraceMs> <ownerMs> [<deadlyKey>]
 *
 * Each line on stdin is `{"id", "ask", "args"}` as JSON, a call of the store; each line on stdout the answer. `count` counts
 * 1 into a key `times` times (or until it is refused), and says each that is acknowledged. With a deadly key, it kills itself
 * right after it has written something into that counter, before anybody is told.
 */
import { createInterface } from "node:readline";
import { openWallet } from "../../../src/client/node/index.ts";
import { LevelKv } from "../../../src/client/store/levelKv.ts";
import type { PayerStore } from "../../../src/client/store/store.ts";

const [, , folder = "", holderGraceMs, ownerMs, deadlyKey] = process.argv;

if (deadlyKey !== undefined) {
	const { write } = LevelKv.prototype;
	LevelKv.prototype.write = async function (operations, isSynced) {
		await write.call(this, operations, isSynced);
		if ([...operations.keys()].some((key) => key.endsWith(`:${deadlyKey}`))) process.kill(process.pid, "SIGKILL");
	};
}

function say(message: unknown): void {
	process.stdout.write(
		`${JSON.stringify(message, (_, value) => (typeof value === "bigint" ? String(value) : value))}\n`,
	);
}

async function count(store: PayerStore, key: string, times: number, max: number, atOnce = 1): Promise<unknown> {
	let left = times;
	let counted = 0;
	const one = async () => {
		while (left-- > 0) {
			const refusal = await store.write({ counters: [{ key, add: 1n, max: BigInt(max) }] });
			if (refusal !== undefined) return;
			counted++;
			say({ counted: key });
		}
	};
	await Promise.all(Array.from({ length: atOnce }, one));
	return counted;
}

try {
	const store = await openWallet(folder, { holderGraceMs: Number(holderGraceMs), ownerMs: Number(ownerMs) });
	store.onWanted((channelId) => say({ wanted: channelId }));
	say({ ready: process.pid });
	for await (const line of createInterface({ input: process.stdin })) {
		const { id, ask, args } = JSON.parse(line);
		const call = ask === "count" ? count(store, ...(args as [string, number, number])) : run(store, ask, args);
		call.then(
			(answer) => say({ id, answer: answer ?? null }),
			(error) => say({ id, error: { name: error.name, code: error.code, message: error.message } }),
		);
	}
} catch (error) {
	const { name, message } = error as Error;
	say({ failed: { name, message } });
}

function run(store: PayerStore, ask: string, args: readonly unknown[]): Promise<unknown> {
	const revived = args.map((arg) =>
		JSON.parse(JSON.stringify(arg), (name, value) => (name === "add" || name === "max" ? BigInt(value) : value)),
	);
	return (store as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>)[ask]?.(
		...(ask === "add" ? [args[0], args[1]] : revived),
	) as Promise<unknown>;
}
