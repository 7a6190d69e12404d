import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TransactionReceipt } from "viem";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { OutboxEntry } from "../../src/escrow/outbox.ts";
import { type SenderOptions, TransactionPendingError, TransactionRevertedError } from "../../src/escrow/sender.ts";
import { LevelStore } from "../../src/server/store/levelStore.ts";
import type { OutboxState } from "../../src/server/store/store.ts";
import {
	type Conclusions,
	concludedEntry,
	recordEntry,
	type TransactionRequest,
	Transactions,
} from "../../src/server/transactions.ts";
import { useSenderStage } from "../escrow/senderStage.ts";
import { isInPool, mine, rpc, until, withoutMining } from "../escrow/support.ts";

const GWEI = 10n ** 9n;
const FINALITY = 3;

const on = useSenderStage();

let folder: string;
let store: LevelStore;

beforeEach(async () => {
	folder = await mkdtemp(join(tmpdir(), "sluice-transactions-"));
	store = await LevelStore.open({ folder });
});
afterEach(async () => {
	await store.close();
	await rm(folder, { recursive: true });
});

/** What a server has of transactions in one run of its process. */
function run(options: Partial<SenderOptions> = {}) {
	const concluded: string[] = [];
	const logged: string[] = [];
	const log = (level: string) => (_: object, message: string) => void logged.push(`${level}: ${message}`);
	const conclusions: Conclusions = {
		async succeeded(entry: OutboxEntry, _: TransactionReceipt) {
			await recordEntry(store, { ...entry, state: "confirmed" });
			concluded.push(`succeeded ${entry.purpose.key}`);
		},
		async failed(entry, outcome) {
			await recordEntry(store, concludedEntry(entry, outcome));
			concluded.push(`${outcome} ${entry.purpose.key}`);
		},
	};
	const outbox = { put: (entry: OutboxEntry) => recordEntry(store, entry) };
	const { sender } = on.makeSender({ outbox, finality: FINALITY, ...options });
	const transactions = new Transactions(
		sender,
		() => conclusions,
		({ key = "" }) => key,
		{ info: log("info"), warn: log("warn"), error: log("error") },
	);
	return { transactions, concluded, logged, sender };
}

function payment(key: string, value: bigint): TransactionRequest {
	const purpose = { kind: "test", key };
	return { ...on.payment(value), key, purpose, record: (entry) => recordEntry(store, entry) };
}

async function stored(state: OutboxState): Promise<readonly OutboxEntry[]> {
	const entries: OutboxEntry[] = [];
	for await (const entry of store.outbox({ state })) entries.push(entry);
	return entries;
}

/** The process is gone, and the next one has what is on disk. */
async function restart(options: Partial<SenderOptions> = {}) {
	await store.close();
	store = await LevelStore.open({ folder });
	return run(options);
}

async function takeBack(snapshot: unknown): Promise<void> {
	expect(await rpc(on.client, "evm_revert", [snapshot])).toBe(true);
	await rpc(on.client, "evm_increaseTime", [100]);
}

describe("a transaction of the server's", () => {
	it("stands in the outbox with the block it was found in, and is followed there until it is final", async () => {
		const { transactions, concluded, logged } = run();
		const receipt = await transactions.perform(payment("a", 5n));
		const [entry] = await stored("unfinal");
		expect(entry).toMatchObject({
			state: "confirmed",
			minedIn: { blockNumber: Number(receipt.blockNumber), transactionHash: receipt.transactionHash, final: false },
		});
		await transactions.followUp(store);
		expect(await stored("unfinal")).toHaveLength(1);
		for (let n = 1; n < FINALITY; n++) await mine(on.client);
		await transactions.followUp(store);
		expect(await stored("unfinal")).toEqual([]);
		expect((await stored("any"))[0]?.minedIn?.final).toBe(true);
		expect(concluded).toEqual(["succeeded a"]);
		expect(logged).toEqual([]);
	});

	it("that reverted is followed as well", async () => {
		const { transactions, concluded } = run();
		await withoutMining(on.client, async () => {
			const failing = transactions.perform(payment("a", 1_000n));
			const failed = expect(failing).rejects.toBeInstanceOf(TransactionRevertedError);
			await until(async () => transactions.pendingEntries().length === 1);
			const [entry] = transactions.pendingEntries();
			await until(() => isInPool(on.client, entry?.hash ?? "0x"));
			const code = await on.client.getCode({ address: on.stage.token });
			await rpc(on.client, "anvil_setCode", [on.stage.token, "0x5f5ffd"]);
			await mine(on.client);
			await failed;
			await rpc(on.client, "anvil_setCode", [on.stage.token, code]);
		});
		expect(concluded).toEqual(["reverted a"]);
		expect(await stored("unfinal")).toMatchObject([{ state: "reverted", minedIn: { final: false } }]);
	});

	it("beside another one of its key, as a crash between two attempts leaves them, is followed when that one has ended, however late (I5)", async () => {
		const first = run({ timeoutMs: 50 });
		await withoutMining(on.client, async () => {
			await expect(first.transactions.perform(payment("a", 1n))).rejects.toBeInstanceOf(TransactionPendingError);
			await expect(first.transactions.perform(payment("b", 2n))).rejects.toBeInstanceOf(TransactionPendingError);
			for (const entry of await stored("pending")) {
				await recordEntry(store, { ...entry, purpose: { ...entry.purpose, key: "a" } });
			}
			const { transactions, concluded } = await restart({ timeoutMs: 50 });
			await transactions.resume(await stored("pending"));
			expect(concluded).toEqual([]);
			expect(transactions.pendingEntries()).toHaveLength(2);
			await mine(on.client);
			await transactions.resume([]);
			expect(concluded).toEqual(["succeeded a", "succeeded a"]);
			expect([transactions.pendingEntries(), await stored("pending")]).toEqual([[], []]);
		});
	});

	it("is known with all its bids while it is on its way, and in the end", async () => {
		const { transactions, concluded } = run({ stuckAfterMs: 0 });
		await withoutMining(on.client, async () => {
			const performing = transactions.perform(payment("a", 5n));
			await until(async () => transactions.pendingEntries().length === 1);
			const [entry] = transactions.pendingEntries();
			await until(() => isInPool(on.client, entry?.hash ?? "0x"));
			await until(async () => {
				await on.mineAt(100n * GWEI);
				return transactions.pendingEntries().length === 0;
			});
			await performing;
			await on.mineAt(GWEI);
			await on.setGasPrice(GWEI);
		});
		const [entry] = await stored("any");
		expect(entry?.bids?.length).toBeGreaterThan(0);
		expect(entry?.bids?.map(({ hash }) => hash)).toContain(entry?.minedIn?.transactionHash);
		expect(concluded).toEqual(["succeeded a"]);
		expect(await on.received()).toBe(5n);
	});
});

describe("a reorganization after the conclusion", () => {
	it("has the transaction sent again, says so, and concludes nothing twice (I4)", async () => {
		const { transactions, concluded, logged } = run();
		const snapshot = await rpc(on.client, "evm_snapshot");
		const { transactionHash } = await transactions.perform(payment("a", 5n));
		await withoutMining(on.client, async () => {
			await takeBack(snapshot);
			await transactions.followUp(store);
			await transactions.followUp(store);
			expect(transactions.resending().map(({ hash }) => hash)).toEqual([transactionHash]);
			expect(transactions.isUnderWay("a")).toBe(false);
			await mine(on.client);
		});
		await until(async () => {
			await transactions.followUp(store);
			return transactions.resending().length === 0;
		});
		expect(logged).toEqual([
			"warn: a reorganization took a transaction out of the chain; it is sent again",
			"info: a reorganization moved a transaction to another block",
		]);
		expect(concluded).toEqual(["succeeded a"]);
		expect(await on.received()).toBe(5n);
		for (let n = 1; n < FINALITY; n++) await mine(on.client);
		await transactions.followUp(store);
		expect(await stored("unfinal")).toEqual([]);
	});

	it("that happened while the server was down is found by the next run, whose own transactions do not take the nonce", async () => {
		const first = run();
		const snapshot = await rpc(on.client, "evm_snapshot");
		await first.transactions.perform(payment("a", 5n));
		// And its node fails at first.
		let isDown = true;
		const client = on.clientThat(async (method, ask) => {
			if (isDown && method === "eth_blockNumber") throw new Error("the node is down");
			return ask();
		});
		const second = await restart({ client });
		await withoutMining(on.client, async () => {
			await takeBack(snapshot);
			await second.transactions.resume(await stored("pending"));
			await expect(second.transactions.followUp(store)).rejects.toThrow("the node is down");
			const performing = second.transactions.perform(payment("b", 7n));
			await until(async () => second.transactions.pendingEntries().length === 1);
			expect(second.transactions.pendingEntries()[0]?.nonce).toBe(1);
			isDown = false;
			await second.transactions.followUp(store);
			expect(second.transactions.resending()).toHaveLength(1);
			await until(async () => (await on.nonceOf("pending")) === 2);
			await mine(on.client);
			await performing;
		});
		await second.transactions.followUp(store);
		expect(second.transactions.resending()).toEqual([]);
		expect((await stored("any")).map(({ nonce }) => nonce)).toEqual([0, 1]);
		expect(await on.received()).toBe(12n);
	});

	it("after which another transaction has the nonce leaves it dropped, loudly", async () => {
		const { transactions, concluded, logged } = run();
		const snapshot = await rpc(on.client, "evm_snapshot");
		await transactions.perform(payment("a", 5n));
		await takeBack(snapshot);
		await on.useUpNonce(0);
		await until(async () => {
			await transactions.followUp(store);
			return (await stored("unfinal")).length === 0;
		});
		expect(await stored("any")).toMatchObject([{ state: "dropped" }]);
		expect(transactions.resending()).toEqual([]);
		expect(logged.at(-1)).toMatch(/^error: .*another has its nonce/);
		expect(concluded).toEqual(["succeeded a"]);
	});

	it("on another chain is none of its business", async () => {
		const { transactions } = run();
		await transactions.perform(payment("a", 5n));
		const [entry] = await stored("any");
		if (entry?.minedIn === undefined) throw new Error("nothing was concluded");
		const minedIn = { ...entry.minedIn, blockHash: `0x${"ab".repeat(32)}` as const };
		await recordEntry(store, { ...entry, chainId: 1, minedIn });
		await transactions.followUp(store);
		expect((await stored("unfinal"))[0]?.minedIn).toEqual(minedIn);
	});
});

describe("a server that stops", () => {
	it("lets go of what is on its way, and the next run concludes it once (I4, I5)", async () => {
		const first = run({ pollMs: 60_000, timeoutMs: 120_000 });
		await withoutMining(on.client, async () => {
			const performing = first.transactions.perform(payment("a", 5n));
			const ended = expect(performing).rejects.toBeInstanceOf(TransactionPendingError);
			await until(async () => (await on.nonceOf("pending")) === 1);
			let isIdle = false;
			const idle = first.transactions.idle().then(() => {
				isIdle = true;
			});
			expect(isIdle).toBe(false);
			void first.transactions.stop();
			await idle;
			await ended;
			expect(first.transactions.pendingEntries()).toHaveLength(1);
			expect(await stored("pending")).toHaveLength(1);
		});
		const second = await restart();
		await second.transactions.resume(await stored("pending"));
		expect(second.concluded).toEqual(["succeeded a"]);
		expect(first.concluded).toEqual([]);
		expect(await on.received()).toBe(5n);
		expect(await stored("pending")).toEqual([]);
		await second.transactions.idle();
	});
});
