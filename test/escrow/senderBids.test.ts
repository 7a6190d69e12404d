import { type Hex, parseTransaction } from "viem";
import { describe, expect, it } from "vitest";
import type { OutboxEntry } from "../../src/escrow/outbox.ts";
import {
	FeesTooHighError,
	type SenderOptions,
	TransactionNotSentError,
	TransactionPendingError,
	type TransactionSender,
} from "../../src/escrow/sender.ts";
import { newestHash, PURPOSE, useSenderStage } from "./senderStage.ts";
import { drop, isInPool, mine, poolSize, rpc, setAutomine, setBalance, until, withoutMining } from "./support.ts";

const GWEI = 10n ** 9n;

const on = useSenderStage();

/** Bids again as soon as a block has passed a transaction over. */
const eager = (options: Partial<SenderOptions> = {}) => on.makeSender({ stuckAfterMs: 0, ...options });

/** Sends a payment of 5 and makes gas too dear for it. */
async function stuckPayment(sender: TransactionSender, more: Readonly<{ feeLimit?: bigint }> = {}) {
	const entry = await sender.broadcast({ ...on.payment(5n), ...more });
	await on.setGasPrice(100n * GWEI);
	return entry;
}

/** Makes blocks with dear gas until `done`. */
async function mineUntil<T>(wait: Promise<T>, wei = 100n * GWEI): Promise<T> {
	const state = { done: false };
	const end = () => {
		state.done = true;
	};
	wait.then(end, end);
	while (!state.done) {
		await on.mineAt(wei);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
	return wait;
}

/** Ends the process, as far as its sender knows, at that point of its first bid; what is on disk then. */
async function dyingAt(point: "before the record" | "before the broadcast") {
	const disk: OutboxEntry[] = [];
	let isDead = false;
	const { sender } = eager({
		client: on.clientThat(async (method, ask) => {
			const isBid = method === "eth_sendRawTransaction" && (disk.at(-1)?.bids?.length ?? 0) > 0;
			if (isBid && point === "before the broadcast") isDead = true;
			if (isDead) throw new Error("the process is dead");
			return ask();
		}),
		outbox: {
			put: async (entry) => {
				if (entry.bids !== undefined && point === "before the record") {
					isDead = true;
					throw new Error("the process is dead");
				}
				disk.push(entry);
			},
		},
	});
	const entry = await stuckPayment(sender);
	await mineUntil(sender.wait(entry).catch(() => undefined));
	expect(isDead).toBe(true);
	return disk.at(-1) ?? entry;
}

/** Runs with mining off, and afterwards gas is cheap again. */
async function held<T>(work: () => Promise<T>): Promise<T> {
	await setAutomine(on.client, false);
	try {
		return await work();
	} finally {
		await on.mineAt(GWEI);
		await on.setGasPrice(GWEI);
		await setAutomine(on.client, true);
	}
}

describe("a transaction that blocks pass over", () => {
	it("is signed again with the same nonce and higher fees, durable before the broadcast, and mined once (I4, I5)", async () => {
		const undurable: unknown[] = [];
		const { sender, written } = eager({
			client: on.clientThat(async (method, ask, params) => {
				const [raw] = (params ?? []) as readonly unknown[];
				const isOnDisk = written.some((one) => [one, ...(one.bids ?? [])].some((version) => version.raw === raw));
				if (method === "eth_sendRawTransaction" && !isOnDisk) undurable.push(raw);
				return ask();
			}),
		});
		await held(async () => {
			const entry = await stuckPayment(sender);
			const told: OutboxEntry[] = [];
			const receipt = await mineUntil(sender.wait(entry, { onBid: (bid) => told.push(bid) }));
			expect(receipt.status).toBe("success");
			expect(told.length).toBeGreaterThan(0);
			expect(written).toEqual([entry, ...told]);
			expect(undurable).toEqual([]);
			const last = told.at(-1);
			expect(last).toMatchObject({ hash: entry.hash, raw: entry.raw, nonce: entry.nonce, state: "pending" });
			expect(last?.bids?.map(({ hash }) => hash)).toContain(receipt.transactionHash);
			expect(receipt.transactionHash).not.toBe(entry.hash);
			const versions = [entry.raw, ...(last?.bids ?? []).map(({ raw }) => raw)].map((raw) => parseTransaction(raw));
			for (const [at, { nonce, to, data, gas, maxFeePerGas = 0n }] of versions.entries()) {
				const before = versions[at - 1]?.maxFeePerGas ?? 0n;
				expect(maxFeePerGas * 8n).toBeGreaterThanOrEqual(before * 9n);
				expect({ nonce, to, data, gas }).toEqual({
					nonce: entry.nonce,
					to: versions[0]?.to,
					data: versions[0]?.data,
					gas: versions[0]?.gas,
				});
			}
			// What was recorded of the fees is what was signed.
			const [first] = versions;
			expect(entry.fees?.maxFeePerGas).toBe(String(first?.maxFeePerGas));
			expect(last?.bids?.at(-1)?.maxFeePerGas).toBe(String(versions.at(-1)?.maxFeePerGas));
		});
		expect(await on.received()).toBe(5n);
		expect(await on.nonceOf("latest")).toBe(1);
	});

	it("is left as it is while no block is made: no bid helps there", async () => {
		const { sender, written } = eager({ timeoutMs: 150 });
		await withoutMining(on.client, async () => {
			const entry = await sender.broadcast(on.payment(5n));
			await expect(sender.wait(entry)).rejects.toBeInstanceOf(TransactionPendingError);
			expect(written).toEqual([entry]);
		});
	});

	it("is left as it is before its time", async () => {
		const { sender, written } = on.makeSender({ stuckAfterMs: 60_000, timeoutMs: 300 });
		await held(async () => {
			const entry = await stuckPayment(sender);
			const waiting = sender.wait(entry);
			await expect(mineUntil(waiting)).rejects.toBeInstanceOf(TransactionPendingError);
			expect(written).toEqual([entry]);
		});
	});

	it("is left as it is, and found all the same, by a sender that never bids more", async () => {
		const { sender, written } = on.makeSender({ stuckAfterMs: Number.POSITIVE_INFINITY, timeoutMs: 200 });
		await held(async () => {
			const entry = await stuckPayment(sender);
			await expect(mineUntil(sender.wait(entry))).rejects.toBeInstanceOf(TransactionPendingError);
			expect(written).toEqual([entry]);
			expect((await mineUntil(sender.wait(entry), GWEI)).transactionHash).toBe(entry.hash);
		});
	});

	it("never bids more than its limit, nor than the sender's", async () => {
		const limits = { feeLimit: 10n * GWEI, maxFeePerGas: 20n * GWEI };
		for (const [name, options] of [
			["feeLimit", {}],
			["maxFeePerGas", { maxFeePerGas: limits.maxFeePerGas }],
		] as const) {
			await on.renew();
			const { sender, written } = eager({ timeoutMs: 400, ...options });
			await held(async () => {
				const entry = await stuckPayment(sender, name === "feeLimit" ? { feeLimit: limits.feeLimit } : {});
				await expect(mineUntil(sender.wait(entry))).rejects.toBeInstanceOf(TransactionPendingError);
				const bids = (written.at(-1)?.bids ?? []).map(({ maxFeePerGas }) => BigInt(maxFeePerGas));
				expect(bids.length).toBeGreaterThan(0);
				expect(bids.every((bid) => bid <= limits[name])).toBe(true);
				// And gas gets cheaper.
				expect((await mineUntil(sender.wait(written.at(-1) ?? entry), 5n * GWEI)).status).toBe("success");
			});
			expect(await on.received()).toBe(5n);
		}
	});

	it("is not signed at all when its limit is below the base fee", async () => {
		const { sender, written } = eager();
		await on.mineAt(50n * GWEI);
		const error = await sender.broadcast({ ...on.payment(5n), feeLimit: 2n * GWEI }).catch((thrown: unknown) => thrown);
		expect(error).toBeInstanceOf(FeesTooHighError);
		expect(error).toMatchObject({ code: "FEES_TOO_HIGH", limit: 2n * GWEI });
		expect(written).toEqual([]);
		await on.mineAt(GWEI);
		const entry = await sender.broadcast({ ...on.payment(5n), feeLimit: 2n * GWEI });
		expect(entry).toMatchObject({ nonce: 0, feeLimit: String(2n * GWEI) });
		expect(BigInt(entry.fees?.maxFeePerGas ?? 0)).toBeLessThanOrEqual(2n * GWEI);
		expect((await sender.wait(entry)).status).toBe("success");
	});

	it("bids above its limit for the sake of one behind it that may cost more", async () => {
		const { sender, written } = eager();
		await held(async () => {
			const cheap = await sender.broadcast({ ...on.payment(5n), feeLimit: 4n * GWEI });
			const urgent = await sender.broadcast(on.payment(7n));
			await on.setGasPrice(100n * GWEI);
			expect(urgent.nonce).toBe(cheap.nonce + 1);
			const both = Promise.all([sender.wait(cheap), sender.wait(urgent)]);
			const receipts = await mineUntil(both);
			expect(receipts.map(({ status }) => status)).toEqual(["success", "success"]);
			const bids = written.findLast(({ hash }) => hash === cheap.hash)?.bids ?? [];
			expect(BigInt(bids.at(-1)?.maxFeePerGas ?? 0)).toBeGreaterThan(4n * GWEI);
		});
		expect(await on.received()).toBe(12n);
	});

	it("is the one in front alone: what waits behind it is not bid up", async () => {
		const { sender, written } = eager({ timeoutMs: 400 });
		await held(async () => {
			const front = await sender.broadcast({ ...on.payment(5n), feeLimit: 4n * GWEI });
			const behind = await sender.broadcast({ ...on.payment(7n), feeLimit: 4n * GWEI });
			await on.setGasPrice(100n * GWEI);
			const both = Promise.allSettled([sender.wait(front), sender.wait(behind)]);
			await mineUntil(both);
			expect(written.filter(({ hash }) => hash === behind.hash)).toEqual([behind]);
		});
	});

	it("bids twice the step when a node finds the bid too low, and again until it is taken", async () => {
		let refusals = 3;
		const { sender, written } = eager({
			client: on.clientThat(async (method, ask, params) => {
				const [raw] = (params ?? []) as readonly Hex[];
				const isBid = method === "eth_sendRawTransaction" && raw !== written[0]?.raw;
				if (isBid && refusals-- > 0) throw new Error("replacement transaction underpriced");
				return ask();
			}),
		});
		await held(async () => {
			const entry = await stuckPayment(sender);
			const receipt = await mineUntil(sender.wait(entry));
			expect(receipt.status).toBe("success");
			const bids = written.at(-1)?.bids ?? [];
			expect(bids.length).toBeGreaterThan(1);
			const steps = bids.map(({ maxFeePerGas }, at) => {
				const before = BigInt(at === 0 ? (entry.fees?.maxFeePerGas ?? 0) : (bids[at - 1]?.maxFeePerGas ?? 0));
				return ((BigInt(maxFeePerGas) - before) * 1_000n) / before;
			});
			expect(steps[1]).toBeGreaterThanOrEqual(250n);
		});
		expect(await on.received()).toBe(5n);
	});

	it("may bid more from now on, which is on disk before it does, and keeps the bids that it has", async () => {
		const { sender, written } = eager();
		await held(async () => {
			const entry = await stuckPayment(sender, { feeLimit: 4n * GWEI });
			const waiting = sender.wait(entry);
			waiting.catch(() => undefined);
			await on.mineAt(100n * GWEI);
			const gas = parseTransaction(entry.raw).gas ?? 0n;
			const maxCost = ((300n * GWEI * gas) / 120n) * 100n;
			sender.raiseFeeLimit(entry, maxCost);
			// Never less again.
			sender.raiseFeeLimit(entry, 1n);
			expect((await mineUntil(waiting)).status).toBe("success");
			const last = written.at(-1);
			expect(BigInt(last?.feeLimit ?? 0)).toBeGreaterThanOrEqual(299n * GWEI);
			expect(BigInt(last?.feeLimit ?? 0)).toBeLessThanOrEqual(301n * GWEI);
			const firstAbove = written.findIndex(({ bids = [] }) => BigInt(bids.at(-1)?.maxFeePerGas ?? 0) > 4n * GWEI);
			expect(written.findIndex(({ feeLimit }) => BigInt(feeLimit ?? 0) > 4n * GWEI)).toBeLessThan(firstAbove);
			const counts = written.map(({ bids = [] }) => bids.length);
			expect(counts).toEqual(counts.toSorted((a, b) => a - b));
		});
	});

	it("bids less per gas where the call needs more gas than was planned with, so that it costs no more", async () => {
		const { sender } = eager();
		// The first payment makes a balance where there was none.
		await sender.wait(await sender.broadcast(on.payment(5n)));
		const usual = await sender.broadcast({ ...on.payment(5n), feeLimit: 40n * GWEI, plannedGas: 10_000_000n });
		expect(usual.feeLimit).toBe(String(40n * GWEI));
		const gas = ((parseTransaction(usual.raw).gas ?? 0n) * 100n) / 120n;
		const dear = await sender.broadcast({ ...on.payment(5n), feeLimit: 40n * GWEI, plannedGas: gas / 2n });
		expect(Number(dear.feeLimit) / Number(20n * GWEI)).toBeCloseTo(1, 2);
		await Promise.all([usual, dear].map((entry) => sender.wait(entry)));
		await on.mineAt(50n * GWEI);
		const much = { ...on.payment(5n), feeLimit: 60n * GWEI, plannedGas: gas / 2n };
		await expect(sender.broadcast(much)).rejects.toBeInstanceOf(FeesTooHighError);
		await on.mineAt(GWEI);
	});

	it("with many bids bids again all the same when gas rises: its nonce holds up all others", async () => {
		const begun = Date.now();
		const now = () => begun + (Date.now() - begun) * 10_000;
		const { sender, written } = eager({ now, timeoutMs: 3_600_000_000 });
		await held(async () => {
			const entry = await stuckPayment(sender);
			// As it stands on disk after a long time of rising gas.
			const { maxFeePerGas = "0", maxPriorityFeePerGas = "0" } = entry.fees ?? {};
			const bid = { hash: entry.hash, raw: entry.raw, maxFeePerGas, maxPriorityFeePerGas, signedAt: begun };
			const old = { ...entry, bids: Array.from({ length: 20 }, () => bid) };
			expect((await mineUntil(sender.wait(old))).status).toBe("success");
			expect(written.at(-1)?.bids?.length).toBeGreaterThan(20);
		});
	});

	it("does not bid at every look where a node finds it too low", async () => {
		let looks = 0;
		const { sender, written } = on.makeSender({
			timeoutMs: 1_500,
			stuckAfterMs: 60_000,
			client: on.clientThat(async (method, ask) => {
				if (method === "eth_getTransactionByHash") return null;
				if (method === "eth_sendRawTransaction" && looks++ >= 0) throw new Error("replacement transaction underpriced");
				return ask();
			}),
		});
		const entry = await sender.broadcast(on.payment(5n));
		await expect(sender.wait(entry)).rejects.toBeInstanceOf(TransactionPendingError);
		expect(looks).toBeGreaterThan(5);
		expect(written.at(-1)?.bids).toHaveLength(1);
	});

	it("is not bid up without end by a node that always wants more", async () => {
		const { sender, written } = eager({
			timeoutMs: 1_000,
			client: on.clientThat(async (method, ask) => {
				if (method === "eth_getTransactionByHash") return null;
				if (method === "eth_sendRawTransaction") throw new Error("replacement transaction underpriced");
				return ask();
			}),
		});
		const entry = await sender.broadcast(on.payment(5n));
		await expect(sender.wait(entry)).rejects.toBeInstanceOf(TransactionPendingError);
		const bids = written.at(-1)?.bids ?? [];
		expect(bids.length).toBeGreaterThan(3);
		expect(bids.length).toBeLessThanOrEqual(20);
		const { maxFeePerGas } = await on.client.estimateFeesPerGas();
		const most = 10n * [maxFeePerGas, BigInt(entry.fees?.maxFeePerGas ?? 0)].reduce((a, b) => (a > b ? a : b));
		expect(BigInt(bids.at(-1)?.maxFeePerGas ?? 0)).toBeLessThanOrEqual(most);
	});

	it("waits on with what it has when the account can't pay for more", async () => {
		const { sender, written } = eager({ timeoutMs: 500 });
		await held(async () => {
			const entry = await stuckPayment(sender);
			await setBalance(on.client, on.account.address, 150_000n * BigInt(entry.fees?.maxFeePerGas ?? 0));
			await expect(mineUntil(sender.wait(entry))).rejects.toBeInstanceOf(TransactionPendingError);
			// One bid that no node takes, and none upon it.
			expect(written.at(-1)?.bids?.length ?? 0).toBeLessThanOrEqual(1);
			const last = written.at(-1) ?? entry;
			expect((await mineUntil(sender.wait(last), GWEI)).transactionHash).toBe(entry.hash);
		});
	});

	it("is found whichever of its versions is mined", async () => {
		await held(async () => {
			const last = await dyingAt("before the broadcast");
			await rpc(on.client, "anvil_dropAllTransactions");
			await on.setGasPrice(GWEI);
			await on.client.sendRawTransaction({ serializedTransaction: last.raw });
			await mine(on.client);
			expect((await on.makeSender().sender.wait(last)).transactionHash).toBe(last.hash);
		});
		expect(await on.received()).toBe(5n);
		expect(await on.nonceOf("latest")).toBe(1);
	});

	it("of another account is never bid for", async () => {
		const { sender, written } = eager({ timeoutMs: 300 });
		const payer = on.stage.payer;
		const { maxFeePerGas, maxPriorityFeePerGas } = await on.client.estimateFeesPerGas();
		const nonce = await on.client.getTransactionCount({ address: payer.address });
		const { to, data } = on.payment(5n);
		const call = { to, data, gas: 100_000n, nonce, chainId: on.stage.chain.chainId };
		const raw = await payer.signTransaction({ ...call, type: "eip1559", maxFeePerGas, maxPriorityFeePerGas });
		await held(async () => {
			const signed = { raw, from: payer.address, nonce };
			const entry = await sender.broadcastSigned({ signed, purpose: PURPOSE });
			expect(entry.fees).toBeUndefined();
			await expect(mineUntil(sender.wait(entry))).rejects.toBeInstanceOf(TransactionPendingError);
			expect(written).toEqual([entry]);
		});
	});
});

describe("after a crash (I4, I5)", () => {
	it.each(["before the record", "before the broadcast"] as const)(
		"of a bid %s it goes on, and pays once",
		async (point) => {
			await held(async () => {
				const stored = await dyingAt(point);
				expect(stored.bids?.length ?? 0).toBe(point === "before the record" ? 0 : 1);
				// Only the record is left, and the node remembers what it was told.
				const { sender, written } = eager();
				sender.reserveNonce(stored);
				const receipt = await mineUntil(sender.wait(stored));
				expect(receipt.status).toBe("success");
				const versions = [stored.hash, ...((written.at(-1) ?? stored).bids ?? []).map(({ hash }) => hash)];
				expect(versions).toContain(receipt.transactionHash);
			});
			expect(await on.received()).toBe(5n);
			expect(await on.nonceOf("latest")).toBe(1);
		},
	);

	it("with all versions gone from the pool the newest is broadcast again, not a new one signed", async () => {
		await held(async () => {
			const stored = await dyingAt("before the broadcast");
			for (const hash of [stored.hash, newestHash(stored)]) await drop(on.client, hash);
			expect(await poolSize(on.client)).toBe(0);
			const { sender, written } = on.makeSender();
			const waiting = sender.wait(stored);
			await until(() => isInPool(on.client, newestHash(stored)));
			await on.mineAt(GWEI);
			expect((await waiting).transactionHash).toBe(newestHash(stored));
			expect(written).toEqual([]);
		});
	});

	it("an entry of an earlier release, without fees, is bid up from what it signed", async () => {
		const { sender } = eager();
		await held(async () => {
			const { fees: _, ...old } = await stuckPayment(sender);
			const later = eager();
			const receipt = await mineUntil(later.sender.wait(old));
			expect(receipt.transactionHash).not.toBe(old.hash);
			expect(later.written.at(-1)?.bids?.length).toBeGreaterThan(0);
		});
	});
});

describe("a nonce that another transaction took", () => {
	it("is told from a bid's: all versions count, and then none is on its way", async () => {
		await held(async () => {
			const last = await dyingAt("before the broadcast");
			await rpc(on.client, "anvil_dropAllTransactions");
			await on.takeNonce(last.nonce);
			await on.mineAt(GWEI);
			const error = await on
				.makeSender()
				.sender.wait(last)
				.catch((thrown: unknown) => thrown);
			expect(error).toBeInstanceOf(TransactionNotSentError);
			expect((error as TransactionNotSentError).entry).toEqual(last);
		});
		expect(await on.received()).toBe(0n);
	});
});

describe("a wait that is told to end", () => {
	it("ends at once, with the transaction pending, and it can be waited for again", async () => {
		const { sender } = on.makeSender({ pollMs: 60_000, timeoutMs: 120_000 });
		await withoutMining(on.client, async () => {
			const entry = await sender.broadcast(on.payment(5n));
			const controller = new AbortController();
			const waiting = sender.wait(entry, { signal: controller.signal });
			setTimeout(() => controller.abort(), 20);
			await expect(waiting).rejects.toBeInstanceOf(TransactionPendingError);
			await expect(sender.wait(entry, { signal: controller.signal })).rejects.toBeInstanceOf(TransactionPendingError);
			await mine(on.client);
			expect((await sender.wait(entry, { signal: controller.signal })).status).toBe("success");
		});
	});

	it("survives a node that fails now and then, and rejects when it fails time and again", async () => {
		let calls = 0;
		const flaky = on.makeSender({
			client: on.clientThat(async (method, ask) => {
				if (method === "eth_getTransactionReceipt" && calls++ % 3 !== 2) throw new Error("the node is down");
				return ask();
			}),
		});
		const entry = await flaky.sender.broadcast(on.payment(5n));
		expect((await flaky.sender.wait(entry)).status).toBe("success");
		const down = on.makeSender({
			client: on.clientThat(async () => {
				throw new Error("the node is down");
			}),
		});
		await expect(down.sender.wait(entry)).rejects.toThrow("the node is down");
	});
});
