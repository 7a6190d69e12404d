import {
	type Address,
	createPublicClient,
	custom,
	fallback,
	type Hex,
	http,
	type LocalAccount,
	type PublicClient,
} from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { transferWithAuthorizationCall } from "../../src/escrow/calls.ts";
import type { OutboxEntry } from "../../src/escrow/outbox.ts";
import { closeCall } from "../../src/escrow/payeeCalls.ts";
import { readBalance, readTokenDomain } from "../../src/escrow/reads.ts";
import {
	TransactionNotSentError,
	TransactionPendingError,
	TransactionRevertedError,
	TransactionSender,
} from "../../src/escrow/sender.ts";
import { signAuthorization } from "../../src/voucher/index.ts";
import { mined } from "../support/mined.ts";
import {
	createStage,
	drop,
	isInPool,
	mine,
	poolSize,
	recordingOutbox,
	rpc,
	type Stage,
	sendAs,
	setBalance,
	transferCall,
	until,
	withoutMining,
} from "./support.ts";

const PURPOSE = { kind: "test" };
const GAS_MONEY = 10n ** 18n;

let stage: Stage;
let client: PublicClient;
/** New for each test, with tokens and gas. */
let account: LocalAccount;
let recipient: Address;

beforeAll(async () => {
	stage = await createStage();
	client = stage.chain.client;
});
afterAll(() => stage?.chain.stop());

beforeEach(async () => {
	account = privateKeyToAccount(generatePrivateKey());
	recipient = privateKeyToAccount(generatePrivateKey()).address;
	await setBalance(client, account.address, GAS_MONEY);
	await sendAs(stage.chain, stage.payer, transferCall(stage.token, account.address, 1_000n));
});

function makeSender(options: Partial<ConstructorParameters<typeof TransactionSender>[0]> = {}) {
	const outbox = recordingOutbox();
	const { chainId } = stage.chain;
	const sender = new TransactionSender({ client, account, chainId, outbox, pollMs: 10, timeoutMs: 10_000, ...options });
	return { sender, written: outbox.written };
}

/** A payment of `value` that a second execution would repeat. */
function payment(value: bigint) {
	return { ...transferCall(stage.token, recipient, value), purpose: PURPOSE };
}

const received = () => readBalance(client, stage.token, recipient);
const nonceOf = (blockTag: "latest" | "pending") => client.getTransactionCount({ address: account.address, blockTag });

/** Another transaction of the same account with that nonce, past the sender. */
async function takeNonce(nonce: number): Promise<Hex> {
	const { maxFeePerGas, maxPriorityFeePerGas } = await client.estimateFeesPerGas();
	const serializedTransaction = await account.signTransaction({
		type: "eip1559",
		chainId: stage.chain.chainId,
		nonce,
		to: recipient,
		value: 1n,
		gas: 21_000n,
		maxFeePerGas: 2n * maxFeePerGas,
		maxPriorityFeePerGas: 2n * maxPriorityFeePerGas,
	});
	return client.sendRawTransaction({ serializedTransaction });
}

/** The same, and it is mined. */
async function useUpNonce(nonce: number): Promise<void> {
	await mined(client, await takeNonce(nonce));
}

/** A node whose calls pass by `around`, which may answer for it, or lose its answer. */
function transportThat(around: (method: string, ask: () => Promise<unknown>) => Promise<unknown>) {
	const request = ({ method, params }: { method: string; params?: unknown }) =>
		around(method, () => client.request({ method, params } as never));
	return custom({ request }, { retryCount: 0 });
}

function clientThat(around: Parameters<typeof transportThat>[0]): PublicClient {
	return createPublicClient({ transport: transportThat(around), cacheTime: 0 });
}

describe("TransactionSender.broadcast", () => {
	it("records a transaction before any node hears of it, and sends nothing when the record fails", async () => {
		const { sender } = makeSender();
		let recorded: OutboxEntry | undefined;
		const failing = sender.broadcast({
			...payment(1n),
			record: async (entry) => {
				recorded = entry;
				throw new Error("the disk is full");
			},
		});
		await expect(failing).rejects.toThrow("the disk is full");
		expect(recorded).toMatchObject({ state: "pending", nonce: 0, purpose: PURPOSE });
		expect(await poolSize(client)).toBe(0);
		expect(await nonceOf("pending")).toBe(0);
		await expect(client.getTransaction({ hash: recorded?.hash ?? "0x" })).rejects.toThrow();

		// The nonce was not used: the next one is sent with it.
		const entry = await sender.broadcast(payment(2n));
		expect(entry.nonce).toBe(0);
		await sender.wait(entry);
		expect(await received()).toBe(2n);
	});

	it("has the record on disk, whole, at the moment the node hears of it", async () => {
		const { sender, written } = makeSender({
			client: clientThat(async (method, ask) => {
				if (method === "eth_sendRawTransaction") atBroadcast.push(written.length);
				return ask();
			}),
		});
		const atBroadcast: number[] = [];
		const entry = await sender.broadcast(payment(1n));
		expect(atBroadcast).toEqual([1]);
		expect(written).toEqual([entry]);
		expect(entry).toMatchObject({ chainId: stage.chain.chainId, from: account.address.toLowerCase() });
	});

	it("gives parallel sends consecutive nonces, and all are mined", async () => {
		const { sender, written } = makeSender();
		const values = Array.from({ length: 12 }, (_, index) => BigInt(index + 1));
		const entries = await withoutMining(client, () =>
			Promise.all(values.map((value) => sender.broadcast(payment(value)))),
		);
		expect(written.map(({ nonce }) => nonce)).toEqual(values.map((_, index) => index));
		const receipts = await Promise.all(entries.map((entry) => sender.wait(entry)));
		expect(receipts.every(({ status }) => status === "success")).toBe(true);
		expect(await received()).toBe(78n);
	});

	it("refuses a call that would revert with the escrow's error name, before anything is recorded", async () => {
		const { sender, written } = makeSender();
		const unknown: Hex = `0x${"11".repeat(32)}`;
		const call = closeCall(stage.escrow, unknown, 1n, `0x${"22".repeat(65)}`);
		const error = await sender.broadcast({ ...call, purpose: PURPOSE }).catch((thrown: unknown) => thrown);
		expect(error).toBeInstanceOf(TransactionRevertedError);
		expect(error).toMatchObject({ reason: "ChannelNotFound", hash: undefined });
		expect(written).toEqual([]);
		expect(await nonceOf("pending")).toBe(0);
	});

	it("refuses a call that would revert with the token's error name", async () => {
		const { sender, written } = makeSender();
		await expect(sender.broadcast(payment(1_001n))).rejects.toMatchObject({
			code: "TRANSACTION_REVERTED",
			reason: "ERC20InsufficientBalance",
		});
		expect(written).toEqual([]);
	});

	it("says what is missing when the account can't pay the gas, and the nonce is free again", async () => {
		const { sender, written } = makeSender();
		await setBalance(client, account.address, 1n);
		const error = await sender.broadcast(payment(1n)).catch((thrown: unknown) => thrown);
		expect(error).toBeInstanceOf(TransactionNotSentError);
		expect((error as TransactionNotSentError).message).toMatch(/insufficient funds.*fund the account/);
		expect((error as TransactionNotSentError).entry).toEqual(written[0]);

		await setBalance(client, account.address, GAS_MONEY);
		const entry = await sender.broadcast(payment(2n));
		expect(entry.nonce).toBe(0);
		expect((await sender.wait(entry)).status).toBe("success");
		expect(await received()).toBe(2n);
	});

	it("takes a nonce that another transaction has used for dropped, and sends again with a fresh one", async () => {
		const { sender, written } = makeSender();
		let interfered = false;
		const entry = await sender.broadcast({
			...payment(5n),
			record: async (one) => {
				written.push(one);
				if (interfered) return;
				interfered = true;
				await useUpNonce(one.nonce);
			},
		});
		expect(written.map(({ nonce, state }) => [nonce, state])).toEqual([
			[0, "pending"],
			[1, "pending"],
			[0, "dropped"],
		]);
		expect(entry.nonce).toBe(1);
		expect((await sender.wait(entry)).status).toBe("success");
		expect(await received()).toBe(5n);
	});

	it("gives up when its nonce is taken time and again, and says which record has to be dropped", async () => {
		const { sender, written } = makeSender();
		const sending = sender.broadcast({
			...payment(5n),
			record: async (one) => {
				written.push(one);
				await useUpNonce(one.nonce);
			},
		});
		const error = await sending.catch((thrown: unknown) => thrown);
		expect(error).toBeInstanceOf(TransactionNotSentError);
		const dropped = new Set(written.filter(({ state }) => state === "dropped").map(({ hash }) => hash));
		const left = written.filter(({ hash }) => !dropped.has(hash));
		expect(left).toEqual([(error as TransactionNotSentError).entry]);
		expect(await received()).toBe(0n);
		// And it is none the worse for it.
		const entry = await sender.broadcast(payment(6n));
		expect((await sender.wait(entry)).status).toBe("success");
	});

	it("takes no error from a node that knows the transaction already", async () => {
		const { sender, written } = makeSender();
		await withoutMining(client, async () => {
			const entry = await sender.broadcast({
				...payment(5n),
				record: async (one) => {
					written.push(one);
					await client.sendRawTransaction({ serializedTransaction: one.raw });
				},
			});
			expect(written).toEqual([entry]);
			expect(await poolSize(client)).toBe(1);
			await mine(client);
			expect((await sender.wait(entry)).status).toBe("success");
		});
		expect(await received()).toBe(5n);
	});

	it("does not pay twice when the first node's answer is lost and the second one has the transaction mined already (I4)", async () => {
		// The second node says `nonce too low`, about this very transaction.
		let lost = false;
		const losing = transportThat(async (method, ask) => {
			const answer = await ask();
			if (method !== "eth_sendRawTransaction" || lost) return answer;
			lost = true;
			await until(async () => (await nonceOf("latest")) >= 1);
			throw new Error("the connection was reset");
		});
		const { sender, written } = makeSender({
			client: createPublicClient({ transport: fallback([losing, http(stage.chain.url)]), cacheTime: 0 }),
		});
		const entry = await sender.broadcast(payment(5n));
		expect((await sender.wait(entry)).status).toBe("success");
		expect(await received(), "what was paid").toBe(5n);
		expect(await nonceOf("latest")).toBe(1);
		expect(written.map(({ state }) => state)).toEqual(["pending"]);
	});

	it("leaves its nonce to a transaction of an earlier run, if it is this account's on this chain", async () => {
		const { sender } = makeSender();
		const nonce = await nonceOf("latest");
		const earlier = await makeSender().sender.broadcast(payment(1n));
		await sender.wait(earlier);
		sender.reserveNonce({ ...earlier, from: `0x${"77".repeat(20)}`, nonce: nonce + 50 });
		sender.reserveNonce({ ...earlier, chainId: 1, nonce: nonce + 60 });
		expect((await sender.broadcast(payment(2n))).nonce).toBe(nonce + 1);
		sender.reserveNonce({ ...earlier, nonce: nonce + 4 });
		let given = -1;
		const unsent = sender.broadcast({
			...payment(3n),
			record: async (one) => {
				given = one.nonce;
				throw new Error("not sent: it would wait for the nonces before it");
			},
		});
		await expect(unsent).rejects.toThrow("not sent");
		expect(given).toBe(nonce + 5);
	});

	it("goes on with a transaction whose broadcast nobody answered: it may be on its way", async () => {
		let deaf = true;
		const { sender } = makeSender({
			client: clientThat(async (method, ask) => {
				if (method === "eth_sendRawTransaction" && deaf) throw new Error("connection reset");
				return ask();
			}),
		});
		const entry = await sender.broadcast(payment(5n));
		expect(await poolSize(client)).toBe(0);
		deaf = false;
		expect((await sender.wait(entry)).status).toBe("success");
		expect(await received()).toBe(5n);
	});
});

describe("TransactionSender.wait", () => {
	it("tells a mined revert apart, with the hash (Transaction Outcome Checks)", async () => {
		const { sender } = makeSender();
		const { client: chainClient, chainId } = stage.chain;
		const { name, version } = await readTokenDomain(chainClient, stage.token, chainId);
		const { timestamp } = await client.getBlock();
		const authorization = {
			from: account.address,
			to: recipient,
			value: 5n,
			validAfter: 0n,
			validBefore: timestamp + 1_000n,
			nonce: `0x${"33".repeat(32)}` as Hex,
		};
		const domain = { name, version, chainId, verifyingContract: stage.token };
		const signature = await signAuthorization("transfer", account, domain, authorization);
		await withoutMining(client, async () => {
			const call = transferWithAuthorizationCall(stage.token, { ...authorization, signature });
			const entry = await sender.broadcast({ ...call, purpose: PURPOSE });
			// Good when it was estimated, too late when it is mined.
			await rpc(client, "evm_setNextBlockTimestamp", [Number(timestamp) + 2_000]);
			await mine(client);
			const error = await sender.wait(entry).catch((thrown: unknown) => thrown);
			expect(error).toBeInstanceOf(TransactionRevertedError);
			expect(error).toMatchObject({ hash: entry.hash, code: "TRANSACTION_REVERTED" });
			// Final: no second look tells another story.
			await expect(sender.wait(entry)).rejects.toBeInstanceOf(TransactionRevertedError);
		});
		expect(await received()).toBe(0n);
	});

	it("gives up waiting for what is not mined in time; a later wait succeeds", async () => {
		const { sender } = makeSender({ timeoutMs: 50 });
		await withoutMining(client, async () => {
			const entry = await sender.broadcast(payment(5n));
			const error = await sender.wait(entry).catch((thrown: unknown) => thrown);
			expect(error).toBeInstanceOf(TransactionPendingError);
			expect(error).toMatchObject({ hash: entry.hash, code: "TRANSACTION_PENDING" });
			await mine(client);
			expect(await sender.wait(entry)).toMatchObject({ status: "success", transactionHash: entry.hash });
		});
		expect(await received()).toBe(5n);
	});

	it("broadcasts again what the pool has dropped", async () => {
		const { sender } = makeSender();
		await withoutMining(client, async () => {
			const entry = await sender.broadcast(payment(5n));
			await drop(client, entry.hash);
			expect(await isInPool(client, entry.hash)).toBe(false);
			const waiting = sender.wait(entry);
			await until(() => isInPool(client, entry.hash));
			await mine(client);
			expect(await waiting).toMatchObject({ status: "success", transactionHash: entry.hash });
		});
		expect(await received()).toBe(5n);
	});

	it("finds a transaction that an earlier process recorded and never broadcast", async () => {
		const first = makeSender();
		let recorded: OutboxEntry | undefined;
		const dying = first.sender.broadcast({
			...payment(5n),
			record: async (entry) => {
				recorded = entry;
				throw new Error("killed");
			},
		});
		await expect(dying).rejects.toThrow("killed");
		if (recorded === undefined) throw new Error("nothing was recorded");
		const { sender } = makeSender();
		expect((await sender.wait(recorded)).transactionHash).toBe(recorded.hash);
		expect(await received()).toBe(5n);
	});

	it("says so when another transaction of the account has taken the nonce, and the next send follows it", async () => {
		const { sender } = makeSender();
		await withoutMining(client, async () => {
			const entry = await sender.broadcast(payment(5n));
			await drop(client, entry.hash);
			await takeNonce(entry.nonce);
			await mine(client);
			const error = await sender.wait(entry).catch((thrown: unknown) => thrown);
			expect(error).toBeInstanceOf(TransactionNotSentError);
			expect((error as TransactionNotSentError).entry).toEqual(entry);
			const next = await sender.broadcast(payment(6n));
			expect(next.nonce).toBe(1);
			await mine(client);
			expect((await sender.wait(next)).status).toBe("success");
		});
		expect(await received()).toBe(6n);
	});

	it("follows the account when its nonce was moved by others", async () => {
		const { sender } = makeSender();
		await rpc(client, "anvil_setNonce", [account.address, "0x7"]);
		const entry = await sender.broadcast(payment(5n));
		expect(entry.nonce).toBe(7);
		expect((await sender.wait(entry)).status).toBe("success");
	});
});
