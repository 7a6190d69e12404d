import { createPublicClient, fallback, type Hex, http } from "viem";
import { describe, expect, it } from "vitest";
import { transferWithAuthorizationCall } from "../../src/escrow/calls.ts";
import type { OutboxEntry } from "../../src/escrow/outbox.ts";
import { closeCall } from "../../src/escrow/payeeCalls.ts";
import { readTokenDomain } from "../../src/escrow/reads.ts";
import {
	NoFundsError,
	TransactionNotSentError,
	TransactionPendingError,
	TransactionRevertedError,
} from "../../src/escrow/sender.ts";
import { signAuthorization } from "../../src/voucher/index.ts";
import { GAS_MONEY, PURPOSE, useSenderStage } from "./senderStage.ts";
import { drop, isInPool, mine, poolSize, rpc, setBalance, until, withoutMining } from "./support.ts";

const on = useSenderStage();

describe("TransactionSender.broadcast", () => {
	it("records a transaction before any node hears of it, and sends nothing when the record fails", async () => {
		const { sender } = on.makeSender();
		let recorded: OutboxEntry | undefined;
		const failing = sender.broadcast({
			...on.payment(1n),
			record: async (entry) => {
				recorded = entry;
				throw new Error("the disk is full");
			},
		});
		await expect(failing).rejects.toThrow("the disk is full");
		expect(recorded).toMatchObject({ state: "pending", nonce: 0, purpose: PURPOSE });
		expect(await poolSize(on.client)).toBe(0);
		expect(await on.nonceOf("pending")).toBe(0);
		await expect(on.client.getTransaction({ hash: recorded?.hash ?? "0x" })).rejects.toThrow();

		// The nonce was not used: the next one is sent with it.
		const entry = await sender.broadcast(on.payment(2n));
		expect(entry.nonce).toBe(0);
		await sender.wait(entry);
		expect(await on.received()).toBe(2n);
	});

	it("has the record on disk, whole, at the moment the node hears of it", async () => {
		const { sender, written } = on.makeSender({
			client: on.clientThat(async (method, ask) => {
				if (method === "eth_sendRawTransaction") atBroadcast.push(written.length);
				return ask();
			}),
		});
		const atBroadcast: number[] = [];
		const entry = await sender.broadcast(on.payment(1n));
		expect(atBroadcast).toEqual([1]);
		expect(written).toEqual([entry]);
		expect(entry).toMatchObject({ chainId: on.stage.chain.chainId, from: on.account.address.toLowerCase() });
	});

	it("gives parallel sends consecutive nonces, and all are mined", async () => {
		const { sender, written } = on.makeSender();
		const values = Array.from({ length: 12 }, (_, index) => BigInt(index + 1));
		const entries = await withoutMining(on.client, () =>
			Promise.all(values.map((value) => sender.broadcast(on.payment(value)))),
		);
		expect(written.map(({ nonce }) => nonce)).toEqual(values.map((_, index) => index));
		const receipts = await Promise.all(entries.map((entry) => sender.wait(entry)));
		expect(receipts.every(({ status }) => status === "success")).toBe(true);
		expect(await on.received()).toBe(78n);
	});

	it("refuses a call that would revert with the escrow's error name, before anything is recorded", async () => {
		const { sender, written } = on.makeSender();
		const unknown: Hex = `0x${"11".repeat(32)}`;
		const call = closeCall(on.stage.escrow, unknown, 1n, `0x${"22".repeat(65)}`);
		const error = await sender.broadcast({ ...call, purpose: PURPOSE }).catch((thrown: unknown) => thrown);
		expect(error).toBeInstanceOf(TransactionRevertedError);
		expect(error).toMatchObject({ reason: "ChannelNotFound", hash: undefined });
		expect(written).toEqual([]);
		expect(await on.nonceOf("pending")).toBe(0);
	});

	it("refuses a call that would revert with the token's error name", async () => {
		const { sender, written } = on.makeSender();
		await expect(sender.broadcast(on.payment(1_001n))).rejects.toMatchObject({
			code: "TRANSACTION_REVERTED",
			reason: "ERC20InsufficientBalance",
		});
		expect(written).toEqual([]);
	});

	it("says what is missing when the account can't pay the gas, and the nonce is free again", async () => {
		const { sender, written } = on.makeSender();
		await setBalance(on.client, on.account.address, 1n);
		const error = await sender.broadcast(on.payment(1n)).catch((thrown: unknown) => thrown);
		expect(error).toBeInstanceOf(TransactionNotSentError);
		expect((error as TransactionNotSentError).message).toMatch(/insufficient funds.*fund the account/);
		expect((error as TransactionNotSentError).entry).toEqual(written[0]);

		await setBalance(on.client, on.account.address, GAS_MONEY);
		const entry = await sender.broadcast(on.payment(2n));
		expect(entry.nonce).toBe(0);
		expect((await sender.wait(entry)).status).toBe("success");
		expect(await on.received()).toBe(2n);
	});

	it("signs and records nothing, where it is asked to, while the account can't pay the gas", async () => {
		const { sender, written } = on.makeSender();
		await setBalance(on.client, on.account.address, 1n);
		const error = await sender.broadcast({ ...on.payment(1n), checkFunds: true }).catch((thrown: unknown) => thrown);
		expect(error).toBeInstanceOf(NoFundsError);
		expect(error).toMatchObject({ code: "NO_FUNDS", balance: 1n });
		expect(written).toEqual([]);
		await setBalance(on.client, on.account.address, GAS_MONEY);
		const entry = await sender.broadcast({ ...on.payment(1n), checkFunds: true });
		expect((await sender.wait(entry)).status).toBe("success");
	});

	it("takes a nonce that another transaction has used for dropped, and sends again with a fresh one", async () => {
		const { sender, written } = on.makeSender();
		let interfered = false;
		const entry = await sender.broadcast({
			...on.payment(5n),
			record: async (one) => {
				written.push(one);
				if (interfered) return;
				interfered = true;
				await on.useUpNonce(one.nonce);
			},
		});
		expect(written.map(({ nonce, state }) => [nonce, state])).toEqual([
			[0, "pending"],
			[1, "pending"],
			[0, "dropped"],
		]);
		expect(entry.nonce).toBe(1);
		expect((await sender.wait(entry)).status).toBe("success");
		expect(await on.received()).toBe(5n);
	});

	it("gives up when its nonce is taken time and again, and says which record has to be dropped", async () => {
		const { sender, written } = on.makeSender();
		const sending = sender.broadcast({
			...on.payment(5n),
			record: async (one) => {
				written.push(one);
				await on.useUpNonce(one.nonce);
			},
		});
		const error = await sending.catch((thrown: unknown) => thrown);
		expect(error).toBeInstanceOf(TransactionNotSentError);
		const dropped = new Set(written.filter(({ state }) => state === "dropped").map(({ hash }) => hash));
		const left = written.filter(({ hash }) => !dropped.has(hash));
		expect(left).toEqual([(error as TransactionNotSentError).entry]);
		expect(await on.received()).toBe(0n);
		// And it is none the worse for it.
		const entry = await sender.broadcast(on.payment(6n));
		expect((await sender.wait(entry)).status).toBe("success");
	});

	it("takes no error from a node that knows the transaction already", async () => {
		const { sender, written } = on.makeSender();
		await withoutMining(on.client, async () => {
			const entry = await sender.broadcast({
				...on.payment(5n),
				record: async (one) => {
					written.push(one);
					await on.client.sendRawTransaction({ serializedTransaction: one.raw });
				},
			});
			expect(written).toEqual([entry]);
			expect(await poolSize(on.client)).toBe(1);
			await mine(on.client);
			expect((await sender.wait(entry)).status).toBe("success");
		});
		expect(await on.received()).toBe(5n);
	});

	it("does not pay twice when the first node's answer is lost and the second one has the transaction mined already (I4)", async () => {
		// The second node says `nonce too low`, about this very transaction.
		let lost = false;
		const losing = on.transportThat(async (method, ask) => {
			const answer = await ask();
			if (method !== "eth_sendRawTransaction" || lost) return answer;
			lost = true;
			await until(async () => (await on.nonceOf("latest")) >= 1);
			throw new Error("the connection was reset");
		});
		const { sender, written } = on.makeSender({
			client: createPublicClient({ transport: fallback([losing, http(on.stage.chain.url)]), cacheTime: 0 }),
		});
		const entry = await sender.broadcast(on.payment(5n));
		expect((await sender.wait(entry)).status).toBe("success");
		expect(await on.received(), "what was paid").toBe(5n);
		expect(await on.nonceOf("latest")).toBe(1);
		expect(written.map(({ state }) => state)).toEqual(["pending"]);
	});

	it("leaves its nonce to a transaction of an earlier run, if it is this account's on this chain", async () => {
		const { sender } = on.makeSender();
		const nonce = await on.nonceOf("latest");
		const earlier = await on.makeSender().sender.broadcast(on.payment(1n));
		await sender.wait(earlier);
		sender.reserveNonce({ ...earlier, from: `0x${"77".repeat(20)}`, nonce: nonce + 50 });
		sender.reserveNonce({ ...earlier, chainId: 1, nonce: nonce + 60 });
		expect((await sender.broadcast(on.payment(2n))).nonce).toBe(nonce + 1);
		sender.reserveNonce({ ...earlier, nonce: nonce + 4 });
		let given = -1;
		const unsent = sender.broadcast({
			...on.payment(3n),
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
		const { sender } = on.makeSender({
			client: on.clientThat(async (method, ask) => {
				if (method === "eth_sendRawTransaction" && deaf) throw new Error("connection reset");
				return ask();
			}),
		});
		const entry = await sender.broadcast(on.payment(5n));
		expect(await poolSize(on.client)).toBe(0);
		deaf = false;
		expect((await sender.wait(entry)).status).toBe("success");
		expect(await on.received()).toBe(5n);
	});
});

describe("TransactionSender.wait", () => {
	it("tells a mined revert apart, with the hash (Transaction Outcome Checks)", async () => {
		const { sender } = on.makeSender();
		const { client: chainClient, chainId } = on.stage.chain;
		const { name, version } = await readTokenDomain(chainClient, on.stage.token, chainId);
		const { timestamp } = await on.client.getBlock();
		const authorization = {
			from: on.account.address,
			to: on.recipient,
			value: 5n,
			validAfter: 0n,
			validBefore: timestamp + 1_000n,
			nonce: `0x${"33".repeat(32)}` as Hex,
		};
		const domain = { name, version, chainId, verifyingContract: on.stage.token };
		const signature = await signAuthorization("transfer", on.account, domain, authorization);
		await withoutMining(on.client, async () => {
			const call = transferWithAuthorizationCall(on.stage.token, { ...authorization, signature });
			const entry = await sender.broadcast({ ...call, purpose: PURPOSE });
			// Good when it was estimated, too late when it is mined.
			await rpc(on.client, "evm_setNextBlockTimestamp", [Number(timestamp) + 2_000]);
			await mine(on.client);
			const error = await sender.wait(entry).catch((thrown: unknown) => thrown);
			expect(error).toBeInstanceOf(TransactionRevertedError);
			expect(error).toMatchObject({
				hash: entry.hash,
				code: "TRANSACTION_REVERTED",
				reason: "ERC3009InvalidAuthorizationTime",
			});
			// Final: no second look tells another story.
			await expect(sender.wait(entry)).rejects.toBeInstanceOf(TransactionRevertedError);
		});
		expect(await on.received()).toBe(0n);
	});

	it("gives up waiting for what is not mined in time; a later wait succeeds", async () => {
		const { sender } = on.makeSender({ timeoutMs: 50 });
		await withoutMining(on.client, async () => {
			const entry = await sender.broadcast(on.payment(5n));
			const error = await sender.wait(entry).catch((thrown: unknown) => thrown);
			expect(error).toBeInstanceOf(TransactionPendingError);
			expect(error).toMatchObject({ hash: entry.hash, code: "TRANSACTION_PENDING" });
			await mine(on.client);
			expect(await sender.wait(entry)).toMatchObject({ status: "success", transactionHash: entry.hash });
		});
		expect(await on.received()).toBe(5n);
	});

	it("broadcasts again what the pool has dropped", async () => {
		const { sender } = on.makeSender();
		await withoutMining(on.client, async () => {
			const entry = await sender.broadcast(on.payment(5n));
			await drop(on.client, entry.hash);
			expect(await isInPool(on.client, entry.hash)).toBe(false);
			const waiting = sender.wait(entry);
			await until(() => isInPool(on.client, entry.hash));
			await mine(on.client);
			expect(await waiting).toMatchObject({ status: "success", transactionHash: entry.hash });
		});
		expect(await on.received()).toBe(5n);
	});

	it("finds a transaction that an earlier process recorded and never broadcast", async () => {
		const first = on.makeSender();
		let recorded: OutboxEntry | undefined;
		const dying = first.sender.broadcast({
			...on.payment(5n),
			record: async (entry) => {
				recorded = entry;
				throw new Error("killed");
			},
		});
		await expect(dying).rejects.toThrow("killed");
		if (recorded === undefined) throw new Error("nothing was recorded");
		const { sender } = on.makeSender();
		expect((await sender.wait(recorded)).transactionHash).toBe(recorded.hash);
		expect(await on.received()).toBe(5n);
	});

	it("says so when another transaction of the account has taken the nonce, and the next send follows it", async () => {
		const { sender } = on.makeSender();
		await withoutMining(on.client, async () => {
			const entry = await sender.broadcast(on.payment(5n));
			await drop(on.client, entry.hash);
			await on.takeNonce(entry.nonce);
			await mine(on.client);
			const error = await sender.wait(entry).catch((thrown: unknown) => thrown);
			expect(error).toBeInstanceOf(TransactionNotSentError);
			expect((error as TransactionNotSentError).entry).toEqual(entry);
			const next = await sender.broadcast(on.payment(6n));
			expect(next.nonce).toBe(1);
			await mine(on.client);
			expect((await sender.wait(next)).status).toBe("success");
		});
		expect(await on.received()).toBe(6n);
	});

	it("follows the account when its nonce was moved by others", async () => {
		const { sender } = on.makeSender();
		await rpc(on.client, "anvil_setNonce", [on.account.address, "0x7"]);
		const entry = await sender.broadcast(on.payment(5n));
		expect(entry.nonce).toBe(7);
		expect((await sender.wait(entry)).status).toBe("success");
	});
});
