import { type Address, createPublicClient, custom, type Hex, type LocalAccount, type PublicClient } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { OutboxEntry } from "../../src/escrow/outbox.ts";
import { readBalance } from "../../src/escrow/reads.ts";
import { TransactionNotSentError, TransactionRevertedError, TransactionSender } from "../../src/escrow/sender.ts";
import { createStage, poolSize, recordingOutbox, type Stage, sendAs, setBalance, transferCall } from "./support.ts";

const PURPOSE = { kind: "test" };

let stage: Stage;
let client: PublicClient;
/** The sender's own. */
let account: LocalAccount;
/** Whoever signs what is broadcast; has tokens and gas. */
let payer: LocalAccount;
let recipient: Address;

beforeAll(async () => {
	stage = await createStage();
	client = stage.chain.client;
});
afterAll(() => stage?.chain.stop());

beforeEach(async () => {
	[account, payer] = [generatePrivateKey(), generatePrivateKey()].map((key) => privateKeyToAccount(key)) as [
		LocalAccount,
		LocalAccount,
	];
	recipient = privateKeyToAccount(generatePrivateKey()).address;
	for (const { address } of [account, payer]) {
		await setBalance(client, address, 10n ** 18n);
		await sendAs(stage.chain, stage.payer, transferCall(stage.token, address, 1_000n));
	}
});

function makeSender(around: (method: string, ask: () => Promise<unknown>) => Promise<unknown> = (_, ask) => ask()) {
	const outbox = recordingOutbox();
	const request = ({ method, params }: { method: string; params?: unknown }) =>
		around(method, () => client.request({ method, params } as never));
	const transport = custom({ request }, { retryCount: 0 });
	const { chainId } = stage.chain;
	const options = { client: createPublicClient({ transport, cacheTime: 0 }), account, chainId, outbox };
	const sender = new TransactionSender({ ...options, pollMs: 10, timeoutMs: 10_000 });
	return { sender, written: outbox.written };
}

async function signed(value: bigint, nonce = 0, gas = 100_000n) {
	const { maxFeePerGas, maxPriorityFeePerGas } = await client.estimateFeesPerGas();
	const raw: Hex = await payer.signTransaction({
		type: "eip1559",
		chainId: stage.chain.chainId,
		nonce,
		...transferCall(stage.token, recipient, value),
		gas,
		maxFeePerGas: 2n * maxFeePerGas,
		maxPriorityFeePerGas,
	});
	return { signed: { raw, from: payer.address, nonce }, purpose: PURPOSE };
}

const received = () => readBalance(client, stage.token, recipient);

describe("TransactionSender.broadcastSigned", () => {
	it("records another account's transaction before any node hears of it, follows it, and takes no nonce of its own", async () => {
		const atBroadcast: number[] = [];
		const { sender, written } = makeSender(async (method, ask) => {
			if (method === "eth_sendRawTransaction") atBroadcast.push(written.length);
			return ask();
		});
		const request = await signed(5n);
		const entry = await sender.broadcastSigned(request);
		expect(atBroadcast).toEqual([1]);
		expect(written).toEqual([entry]);
		expect(entry).toMatchObject({
			raw: request.signed.raw,
			from: payer.address.toLowerCase(),
			nonce: 0,
			state: "pending",
		});
		expect((await sender.wait(entry)).status).toBe("success");
		expect(await received()).toBe(5n);
		sender.reserveNonce(entry);
		const own = await sender.broadcast({ ...transferCall(stage.token, recipient, 1n), purpose: PURPOSE });
		expect(own.nonce).toBe(0);
	});

	it("sends nothing when the record fails", async () => {
		const { sender } = makeSender();
		const record = async () => {
			throw new Error("the disk is full");
		};
		await expect(sender.broadcastSigned({ ...(await signed(5n)), record })).rejects.toThrow("the disk is full");
		expect(await poolSize(client)).toBe(0);
		expect(await received()).toBe(0n);
	});

	it("goes on with a transaction that is mined already", async () => {
		const { sender } = makeSender();
		const request = await signed(5n);
		const first = await sender.broadcastSigned(request);
		await sender.wait(first);
		const second = await sender.broadcastSigned(request);
		expect(second.hash).toBe(first.hash);
		expect((await sender.wait(second)).status).toBe("success");
		expect(await received()).toBe(5n);
	});

	it("says which record has to be dropped when its nonce was used", async () => {
		const { sender } = makeSender();
		await sender.wait(await sender.broadcastSigned(await signed(5n)));
		const late = await sender.broadcastSigned(await signed(6n)).catch((error: unknown) => error);
		expect(late).toBeInstanceOf(TransactionNotSentError);
		expect((late as TransactionNotSentError).entry).toMatchObject({
			nonce: 0,
			state: "pending",
		} satisfies Partial<OutboxEntry>);
		expect(await received()).toBe(5n);
	});

	it("broadcasts again what a node lost, and tells a revert", async () => {
		let lost = 0;
		const { sender } = makeSender(async (method, ask) => {
			if (method === "eth_sendRawTransaction" && lost++ === 0) throw new Error("the connection was lost");
			return ask();
		});
		const entry = await sender.broadcastSigned(await signed(1_001n));
		await expect(sender.wait(entry)).rejects.toBeInstanceOf(TransactionRevertedError);
		expect(lost).toBe(2);
	});
});
