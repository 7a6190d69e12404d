/**
 * A payer's process that gets a deposit back, and dies where it is told to. Reads what it is to do as one JSON line from
 * standard input, the key included, and tells as JSON lines what comes of it.
 */

import { once } from "node:events";
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { createPublicClient, type Hex, http, type Transport } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { openWallet } from "../../../src/client/node/wallet.ts";
import { Nodes } from "../../../src/client/nodes.ts";
import { requestClose } from "../../../src/client/recovery/requestClose.ts";
import { withdraw } from "../../../src/client/recovery/withdraw.ts";
import type { PayerStore } from "../../../src/client/store/store.ts";

/** Where the process can die, in the order of what happens. */
export const POINTS = ["before-write", "after-write", "after-broadcast", "after-mined"] as const;
export type Point = (typeof POINTS)[number];

export type Order = Readonly<{
	rpcUrl: string;
	wallet: string;
	key: Hex;
	channelId: Hex;
	work: "requestClose" | "withdraw";
	dieAt?: Point;
}>;

const say = (what: object) =>
	void writeSync(1, `${JSON.stringify(what, (_, value) => (typeof value === "bigint" ? String(value) : value))}\n`);

/** Says so and is gone: nothing after it runs. */
function die(point: Point): never {
	say({ died: point });
	process.kill(process.pid, "SIGKILL");
	for (;;);
}

async function main(): Promise<void> {
	const lines = createInterface({ input: process.stdin });
	const [line] = (await once(lines, "line")) as [string];
	const { rpcUrl, wallet, key, channelId, work, dieAt } = JSON.parse(line) as Order;
	const account = privateKeyToAccount(key);
	const transport = watched(http(rpcUrl), dieAt);
	const client = createPublicClient({ transport, pollingInterval: 20, cacheTime: 0 });
	const store = watchedStore(await openWallet(wallet), dieAt);
	const nodes = new Nodes({ account, client, clients: {}, now: Date.now });
	const payer = account.address.toLowerCase() as Hex;
	const parts = { store, nodes, payer, now: Date.now };
	const onProgress = (progress: object) => say({ progress });
	const result =
		work === "requestClose"
			? await requestClose(parts, channelId, { onProgress })
			: await withdraw(parts, channelId, { onProgress, pollMs: 20 });
	say({ result });
	await store.close();
	lines.close();
}

/** Every write is one of a transaction's here, or of what came of it: the first one is meant. */
function watchedStore(store: PayerStore, dieAt: Point | undefined): PayerStore {
	const write: PayerStore["write"] = async (change) => {
		if (dieAt === "before-write") die(dieAt);
		const refusal = await store.write(change);
		if (dieAt === "after-write") die(dieAt);
		return refusal;
	};
	return new Proxy(store, {
		get(target, name) {
			if (name === "write") return write;
			const member = Reflect.get(target, name) as unknown;
			return typeof member === "function" ? member.bind(target) : member;
		},
	});
}

function watched(transport: Transport, dieAt: Point | undefined): Transport {
	return (parameters) => {
		const inner = transport(parameters);
		const request = async (args: { method: string }): Promise<unknown> => {
			const answer: unknown = await inner.request(args as never);
			if (args.method === "eth_sendRawTransaction" && dieAt === "after-broadcast") die(dieAt);
			if (args.method === "eth_getTransactionReceipt" && answer !== null && dieAt === "after-mined") die(dieAt);
			return answer;
		};
		return { ...inner, request: request as typeof inner.request };
	};
}

if (process.argv[1] === import.meta.filename) {
	await main().catch((error: unknown) => {
		say({ error: error instanceof Error ? { name: error.name, message: error.message } : {} });
		process.exitCode = 1;
	});
}
