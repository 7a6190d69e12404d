import { describe, expect, it } from "vitest";
import type { OutboxEntry } from "../../src/escrow/outbox.ts";
import type { SenderOptions, Standing, TransactionSender } from "../../src/escrow/sender.ts";
import { useSenderStage } from "./senderStage.ts";
import { drop, isInPool, mine, rpc, until, withoutMining } from "./support.ts";

const GWEI = 10n ** 9n;

const on = useSenderStage();

/** A payment of 5 that was mined and concluded, and a snapshot of the chain before it. */
async function concludedPayment(options: Partial<SenderOptions> = {}) {
	const made = on.makeSender({ finality: 3, ...options });
	const snapshot = await rpc(on.client, "evm_snapshot");
	const entry = await made.sender.broadcast(on.payment(5n));
	const receipt = await made.sender.wait(entry);
	const concluded: OutboxEntry = { ...entry, state: "confirmed", minedIn: made.sender.minedIn(receipt) };
	return { ...made, snapshot, concluded };
}

/** Leaves the blocks since `snapshot` behind, with what was in them; blocks to come get other times than they had. */
async function takeBack(snapshot: unknown): Promise<void> {
	expect(await rpc(on.client, "evm_revert", [snapshot])).toBe(true);
	await rpc(on.client, "evm_increaseTime", [100]);
}

async function mineTimes(blocks: number): Promise<void> {
	for (let n = 0; n < blocks; n++) await mine(on.client);
}

/** Looks again until that is what is seen. */
async function recheckUntil(sender: TransactionSender, entry: OutboxEntry, kind: Standing["kind"]): Promise<Standing> {
	let standing: Standing = { kind: "there", entry };
	await until(async () => {
		standing = await sender.recheck(standing.entry);
		return standing.kind === kind;
	});
	return standing;
}

describe("a concluded transaction", () => {
	it("is followed until it is `finality` blocks deep, its own block counted", async () => {
		const { sender, concluded } = await concludedPayment();
		expect(concluded.minedIn).toMatchObject({ final: false, transactionHash: concluded.hash });
		for (let depth = 1; depth < 3; depth++) {
			expect(await sender.recheck(concluded)).toEqual({ kind: "there", entry: concluded });
			await mine(on.client);
		}
		const { kind, entry } = await sender.recheck(concluded);
		expect(kind).toBe("final");
		expect(entry).toEqual({ ...concluded, minedIn: { ...concluded.minedIn, final: true } });
		expect(await sender.recheck(entry)).toEqual({ kind: "final", entry });
	});

	it("is final from the first where `confirmations` are as many as `finality`", async () => {
		const { sender } = on.makeSender({ finality: 1 });
		const receipt = await sender.wait(await sender.broadcast(on.payment(5n)));
		expect(sender.minedIn(receipt).final).toBe(true);
		expect(() => on.makeSender({ finality: 0 })).toThrow(/finality must be a positive integer/);
	});

	it("that a reorganization put into another block is found there, and followed on", async () => {
		const { sender, concluded, snapshot } = await concludedPayment();
		await takeBack(snapshot);
		await mine(on.client);
		await on.client.sendRawTransaction({ serializedTransaction: concluded.raw });
		const { entry } = await recheckUntil(sender, concluded, "moved");
		expect(entry).toMatchObject({ state: "confirmed", minedIn: { transactionHash: concluded.hash, final: false } });
		expect(entry.minedIn?.blockHash).not.toBe(concluded.minedIn?.blockHash);
		expect(entry.minedIn?.blockNumber).toBe((concluded.minedIn?.blockNumber ?? 0) + 1);
		expect((await sender.recheck(entry)).kind).toBe("there");
		await mineTimes(2);
		expect((await sender.recheck(entry)).kind).toBe("final");
		expect(await on.received()).toBe(5n);
	});

	it("that a reorganization took out of the chain is sent again, and counts once (I4)", async () => {
		const { sender, written, concluded, snapshot } = await concludedPayment();
		await withoutMining(on.client, async () => {
			await takeBack(snapshot);
			// The head is lower than the block it was in; and then there are other blocks.
			expect((await sender.recheck(concluded)).kind).toBe("missing");
			expect(await isInPool(on.client, concluded.hash)).toBe(true);
			await drop(on.client, concluded.hash);
			await mineTimes(2);
			expect(await on.received()).toBe(0n);
			expect(await sender.recheck(concluded)).toEqual({ kind: "missing", entry: concluded });
			expect(await isInPool(on.client, concluded.hash)).toBe(true);
			await mine(on.client);
		});
		expect((await recheckUntil(sender, concluded, "moved")).entry.minedIn?.transactionHash).toBe(concluded.hash);
		expect(await on.received()).toBe(5n);
		expect(await on.nonceOf("latest")).toBe(1);
		// Not a new transaction: nothing but the first record was written.
		expect(written).toHaveLength(1);
	});

	it("that the chain itself reorganizes away is sent again", async () => {
		const { sender, concluded } = await concludedPayment();
		await mine(on.client);
		await rpc(on.client, "anvil_reorg", [2, []]);
		expect(await on.received()).toBe(0n);
		const { entry } = await recheckUntil(sender, concluded, "moved");
		expect(entry.minedIn?.transactionHash).toBe(concluded.hash);
		expect(await on.received()).toBe(5n);
	});

	it("that was taken out and is passed over then is bid up, durable first, as any other", async () => {
		const { sender, written, concluded, snapshot } = await concludedPayment({ stuckAfterMs: 0 });
		await withoutMining(on.client, async () => {
			await takeBack(snapshot);
			let standing = await sender.recheck(concluded);
			for (let looks = 0; standing.entry.bids === undefined && looks < 20; looks++) {
				await on.mineAt(100n * GWEI);
				standing = await sender.recheck(standing.entry);
			}
			expect(standing.kind).toBe("missing");
			expect(standing.entry.bids).toHaveLength(1);
			expect(written.at(-1)).toEqual(standing.entry);
			await on.mineAt(100n * GWEI);
			const { entry } = await recheckUntil(sender, standing.entry, "moved");
			expect(entry.minedIn?.transactionHash).toBe(standing.entry.bids?.[0]?.hash);
			await on.mineAt(GWEI);
			await on.setGasPrice(GWEI);
		});
		expect(await on.received()).toBe(5n);
	});

	it("whose nonce another transaction has after a reorganization is lost, but not at the first look", async () => {
		const { sender, concluded, snapshot } = await concludedPayment();
		await takeBack(snapshot);
		await on.useUpNonce(concluded.nonce);
		for (let look = 0; look < 9; look++) expect((await sender.recheck(concluded)).kind).toBe("missing");
		const { kind, entry } = await sender.recheck(concluded);
		const { minedIn: _, ...rest } = concluded;
		expect({ kind, entry }).toEqual({ kind: "lost", entry: { ...rest, state: "dropped" } });
		expect(await on.received()).toBe(0n);
	});

	it("that ended in another way after a reorganization says so", async () => {
		const { sender, concluded, snapshot } = await concludedPayment();
		await takeBack(snapshot);
		const code = await on.client.getCode({ address: on.stage.token });
		await rpc(on.client, "anvil_setCode", [on.stage.token, "0x5f5ffd"]);
		await on.client.sendRawTransaction({ serializedTransaction: concluded.raw });
		const { entry } = await recheckUntil(sender, concluded, "moved");
		await rpc(on.client, "anvil_setCode", [on.stage.token, code]);
		expect(entry.state).toBe("reverted");
	});
});

describe("what a node says that lags behind another", () => {
	it("of a receipt in a block that was left behind is no reason to send or to move anything", async () => {
		let isOff = false;
		const { sender, concluded } = await concludedPayment({
			client: on.clientThat(async (method, ask) => {
				const answer = await ask();
				if (method !== "eth_getBlockByNumber" || !isOff) return answer;
				return { ...(answer as object), hash: `0x${"ab".repeat(32)}` };
			}),
		});
		isOff = true;
		expect(await sender.recheck(concluded)).toEqual({ kind: "there", entry: concluded });
		isOff = false;
		expect((await sender.recheck(concluded)).kind).toBe("there");
	});

	it("asks for each block once when many transactions are looked at", async () => {
		const asked: unknown[] = [];
		const client = on.clientThat(async (method, ask) => {
			asked.push(method);
			return ask();
		});
		const { sender } = on.makeSender({ client, finality: 3 });
		const entries = await withoutMining(on.client, async () => {
			const sent: OutboxEntry[] = [];
			for (let n = 0; n < 5; n++) sent.push(await sender.broadcast(on.payment(1n)));
			await mine(on.client);
			return Promise.all(
				sent.map(async (entry): Promise<OutboxEntry> => {
					return { ...entry, state: "confirmed", minedIn: sender.minedIn(await sender.wait(entry)) };
				}),
			);
		});
		asked.length = 0;
		const view = await sender.viewChain();
		const standings = await Promise.all(entries.map((entry) => sender.recheck(entry, view)));
		expect(standings.map(({ kind }) => kind)).toEqual(Array(5).fill("there"));
		expect(asked).toEqual(["eth_blockNumber", "eth_getBlockByNumber"]);
	});
});

describe("a restart after a reorganization", () => {
	it("leaves its nonce to what was taken out, and sends that again", async () => {
		const { concluded, snapshot } = await concludedPayment();
		await withoutMining(on.client, async () => {
			await takeBack(snapshot);
			const { sender } = on.makeSender({ finality: 3 });
			sender.reserveNonce(concluded);
			const next = await sender.broadcast(on.payment(7n));
			expect(next.nonce).toBe(concluded.nonce + 1);
			expect((await sender.recheck(concluded)).kind).toBe("missing");
			await mine(on.client);
			expect((await sender.wait(next)).status).toBe("success");
			expect((await sender.recheck(concluded)).kind).toBe("moved");
		});
		expect(await on.received()).toBe(12n);
	});
});
