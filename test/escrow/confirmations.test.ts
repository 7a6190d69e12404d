import { createPublicClient, custom, type Hex, type PublicClient } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LocalChain, startChain } from "../../src/cli/demo/chain.ts";
import { awaitReceipt } from "../../src/escrow/confirmations.ts";
import { TransactionPendingError, TransactionRevertedError, TransactionSender } from "../../src/escrow/sender.ts";
import { mine, recordingOutbox, rpc, until } from "./support.ts";

/** Nothing is mined here unless a test says so. */
let chain: LocalChain;

beforeAll(async () => {
	chain = await startChain({ args: ["--no-mining"] });
});
afterAll(() => chain?.stop());

/** A client that counts the questions it asks; `answer` may answer for the node. */
function counting(answer?: (method: string) => unknown) {
	const counts = new Map<string, number>();
	const request = async ({ method, params }: { method: string; params?: unknown }) => {
		const given = answer?.(method);
		const result = given === undefined ? await chain.client.request({ method, params } as never) : given;
		counts.set(method, (counts.get(method) ?? 0) + 1);
		return result;
	};
	const client: PublicClient = createPublicClient({ transport: custom({ request }, { retryCount: 0 }), cacheTime: 0 });
	const looks = () => counts.get("eth_getTransactionReceipt") ?? 0;
	return {
		client,
		asked: (method: string) => counts.get(method) ?? 0,
		/** Resolves after three more answers: the last two were asked for after whatever happened before the call. */
		async lookedAgain() {
			const before = looks();
			await until(async () => looks() >= before + 3);
		},
	};
}

/** A promise and whether it is settled yet. */
function watched<T>(promise: Promise<T>) {
	const state = { settled: false };
	promise.then(
		() => {
			state.settled = true;
		},
		() => {
			state.settled = true;
		},
	);
	return { promise, state };
}

/** A transaction of the account at `index`, not mined yet; it `reverts` when it is, if so wanted. */
async function transaction(index: number, client: PublicClient, confirmations?: number, reverts = false) {
	const account = chain.account(index);
	const sender = new TransactionSender({
		client,
		account,
		chainId: chain.chainId,
		outbox: recordingOutbox(),
		pollMs: 5,
		timeoutMs: 20_000,
		...(confirmations !== undefined && { confirmations }),
	});
	// An account without code when it is simulated; `reverts` then puts code there that reverts when the block is made.
	const to: Hex = `0x${(0xbeef00 + index).toString(16).padStart(40, "0")}`;
	const entry = await sender.broadcast({ to, data: "0x01", purpose: { kind: "test" } });
	if (reverts) await rpc(chain.client, "anvil_setCode", [to, "0x5f5ffd"]);
	return { sender, entry };
}

/** Leaves the blocks since `snapshot` behind, with what was in them. */
async function reorganize(snapshot: unknown): Promise<void> {
	expect(await rpc(chain.client, "evm_revert", [snapshot])).toBe(true);
}

describe("TransactionSender.wait with confirmations", () => {
	it("is content with the transaction's own block unless told otherwise", async () => {
		const { client, asked } = counting();
		const { sender, entry } = await transaction(1, client);
		await mine(chain.client);
		const before = asked("eth_blockNumber");
		expect(await sender.wait(entry)).toMatchObject({ status: "success", transactionHash: entry.hash });
		expect(asked("eth_blockNumber")).toBe(before);
	});

	it.each([2, 3])("says how it ended when it is %i blocks deep, and not before", async (confirmations) => {
		const { client, lookedAgain } = counting();
		const { sender, entry } = await transaction(2, client, confirmations);
		const { promise, state } = watched(sender.wait(entry));
		for (let depth = 1; depth < confirmations; depth++) {
			await mine(chain.client);
			await lookedAgain();
			expect(state.settled).toBe(false);
		}
		await mine(chain.client);
		const { blockNumber, status } = await promise;
		expect(status).toBe("success");
		expect((await chain.client.getBlockNumber()) - blockNumber + 1n).toBe(BigInt(confirmations));
	});

	it("does not believe in a failure either before it is that deep", async () => {
		const { client, lookedAgain } = counting();
		const { sender, entry } = await transaction(3, client, 2, true);
		const { promise, state } = watched(sender.wait(entry));
		await mine(chain.client);
		await lookedAgain();
		expect(state.settled).toBe(false);
		await mine(chain.client);
		await expect(promise).rejects.toBeInstanceOf(TransactionRevertedError);
	});

	it("sends again and waits again for one that vanished in a reorganization", async () => {
		const { client, lookedAgain } = counting();
		const { sender, entry } = await transaction(4, client, 2);
		const snapshot = await rpc(chain.client, "evm_snapshot");
		const { promise, state } = watched(sender.wait(entry));
		await mine(chain.client);
		const { blockHash } = await chain.client.getTransactionReceipt({ hash: entry.hash });
		await lookedAgain();
		await reorganize(snapshot);
		await until(() =>
			chain.client.getTransaction({ hash: entry.hash }).then(
				() => true,
				() => false,
			),
		);
		await lookedAgain();
		expect(state.settled).toBe(false);
		await rpc(chain.client, "evm_increaseTime", [100]);
		await mine(chain.client);
		await mine(chain.client);
		const receipt = await promise;
		expect(receipt).toMatchObject({ status: "success", transactionHash: entry.hash });
		expect(receipt.blockHash).not.toBe(blockHash);
	});

	it("leaves the outcome open when the time is up first", async () => {
		const { client } = counting();
		const { entry } = await transaction(5, client, 2);
		const impatient = new TransactionSender({
			client,
			account: chain.account(5),
			chainId: chain.chainId,
			outbox: recordingOutbox(),
			pollMs: 1,
			timeoutMs: 0,
			confirmations: 2,
		});
		await mine(chain.client);
		await expect(impatient.wait(entry)).rejects.toBeInstanceOf(TransactionPendingError);
	});

	it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])(
		"can't be made with %d confirmations",
		(confirmations) => {
			const options = { client: chain.client, account: chain.account(1), chainId: 1, outbox: recordingOutbox() };
			expect(() => new TransactionSender({ ...options, confirmations })).toThrow(RangeError);
		},
	);
});

describe("awaitReceipt", () => {
	it("resolves with the receipt once it is deep enough", async () => {
		const { client, lookedAgain } = counting();
		const { entry } = await transaction(6, chain.client);
		const { promise, state } = watched(awaitReceipt(client, entry.hash, { confirmations: 2, pollMs: 5 }));
		await lookedAgain();
		await mine(chain.client);
		await lookedAgain();
		expect(state.settled).toBe(false);
		await mine(chain.client);
		expect(await promise).toMatchObject({ transactionHash: entry.hash, status: "success" });
	});

	it("resolves with the receipt of a failure too", async () => {
		const { entry } = await transaction(7, chain.client, 1, true);
		await mine(chain.client);
		expect(await awaitReceipt(chain.client, entry.hash)).toMatchObject({ status: "reverted" });
	});

	it("resolves with nothing when the time is up, for one that nobody knows and one that is not deep enough", async () => {
		const { entry } = await transaction(8, chain.client);
		await mine(chain.client);
		const options = { timeoutMs: 0, confirmations: 2 };
		expect(await awaitReceipt(chain.client, `0x${"00".repeat(32)}`, options)).toBeUndefined();
		expect(await awaitReceipt(chain.client, `0x${"00".repeat(32)}`, { timeoutMs: 20, pollMs: 5 })).toBeUndefined();
		expect(await awaitReceipt(chain.client, entry.hash, options)).toBeUndefined();
		expect(await awaitReceipt(chain.client, entry.hash, { timeoutMs: 0 })).toMatchObject({ status: "success" });
	});

	it("does not count a receipt whose block is no longer the one at its height", async () => {
		const { entry } = await transaction(9, chain.client);
		await mine(chain.client);
		await mine(chain.client);
		const stale = await chain.client.request({ method: "eth_getTransactionReceipt", params: [entry.hash] });
		const { client } = counting((method) =>
			method === "eth_getTransactionReceipt" ? { ...stale, blockHash: `0x${"ab".repeat(32)}` } : undefined,
		);
		expect(await awaitReceipt(client, entry.hash, { confirmations: 2, timeoutMs: 0 })).toBeUndefined();
	});

	it("rejects when the node could not be asked", async () => {
		for (const broken of ["eth_getTransactionReceipt", "eth_blockNumber"]) {
			const { client } = counting((method) => {
				if (method === broken) throw new Error("the node is down");
				return undefined;
			});
			const waiting = awaitReceipt(client, `0x${"00".repeat(32)}`, { confirmations: 2, timeoutMs: 1_000 });
			await expect(waiting).rejects.toThrow("the node is down");
		}
	});

	it.each([0, 1.5, Number.NaN])("refuses %d confirmations", async (confirmations) => {
		await expect(awaitReceipt(chain.client, "0x", { confirmations })).rejects.toThrow(RangeError);
	});
});
