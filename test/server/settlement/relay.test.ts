import { decodeFunctionData, type Hex, type PublicClient } from "viem";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Call } from "../../../src/escrow/calls.ts";
import { paymentChannelEscrowAbi } from "../../../src/escrow/generated/escrow.ts";
import { settleWithAuthorizationCall } from "../../../src/escrow/payeeCalls.ts";
import { PayeeNoncesUsedError, RELAY_LIFETIME_SECONDS, relayedCall } from "../../../src/server/settlement/relay.ts";
import { signPayeeAuthorization } from "../../../src/voucher/index.ts";
import { type Account, createPayeeStage, DEPOSIT, type PayeeStage } from "../../escrow/payeeStage.ts";
import { rpc } from "../../escrow/support.ts";

let stage: PayeeStage;
let client: PublicClient;
let relayer: Account;
/** New for each test; has neither gas nor tokens. */
let payee: Account;
let channelId: Hex;

beforeAll(async () => {
	stage = await createPayeeStage();
	client = stage.chain.client;
	relayer = stage.relayer;
});
afterAll(() => stage?.chain.stop());

beforeEach(async () => {
	payee = await stage.payee();
	channelId = await stage.open(payee);
});

const parts = (now: () => number = Date.now) => {
	return { client, escrow: stage.escrow, voucherDomain: stage.domain, payee, now };
};

/** What the payee signed leave for. */
function termsOf({ data }: Call) {
	const { functionName, args } = decodeFunctionData({ abi: paymentChannelEscrowAbi, data });
	if (functionName !== "settleWithAuthorization" && functionName !== "closeWithAuthorization") {
		throw new Error(`${functionName} is not relayed`);
	}
	const [, , nonce, deadline] = args;
	return { functionName, nonce, deadline };
}

/** Uses up one nonce by a settlement to `amount`. */
async function settleWith(nonce: bigint, amount: bigint): Promise<void> {
	const { cumulativeAmount, signature } = await stage.voucher(channelId, amount);
	const authorization = { channelId, cumulativeAmount, nonce, deadline: 2n ** 40n };
	const payeeSignature = await signPayeeAuthorization("settle", payee, stage.domain, authorization);
	const signed = { ...authorization, payeeSignature, voucherSignature: signature };
	await stage.send(settleWithAuthorizationCall(stage.escrow, signed), relayer);
}

describe("a relayed call", () => {
	it("settles again and again and closes at last for a payee without gas, each with the next nonce", async () => {
		const payerBefore = await stage.balance(stage.payer);
		const nonces: bigint[] = [];
		for (let amount = 10n; amount <= 90n; amount += 10n) {
			const call = await relayedCall(parts(), "settle", await stage.voucher(channelId, amount));
			nonces.push(termsOf(call).nonce);
			await stage.send(call, relayer);
			expect(await stage.balance(payee)).toBe(amount);
		}
		const close = await relayedCall(parts(), "close", await stage.voucher(channelId, 100n));
		nonces.push(termsOf(close).nonce);
		await stage.send(close, relayer);
		expect(nonces).toEqual([0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n, 9n]);
		expect(await stage.channel(channelId)).toMatchObject({ settled: 100n, finalized: true });
		expect(await stage.balance(payee)).toBe(100n);
		expect(await stage.balance(stage.payer)).toBe(payerBefore + DEPOSIT - 100n);
		expect(await stage.balance(relayer)).toBe(0n);
		expect(await client.getTransactionCount({ address: payee.address })).toBe(0);
	});

	it("takes a nonce that is unused also where others left gaps", async () => {
		for (const [index, nonce] of [0n, 1n, 3n, 4n, 7n].entries()) await settleWith(nonce, BigInt(index + 1));
		const call = await relayedCall(parts(), "settle", await stage.voucher(channelId, 50n));
		expect([0n, 1n, 3n, 4n, 7n]).not.toContain(termsOf(call).nonce);
		await stage.send(call, relayer);
		expect(await stage.balance(payee)).toBe(50n);
	});

	it("has the same nonce as one that was not mined, so that only one of the two is (I4)", async () => {
		const first = await relayedCall(parts(), "settle", await stage.voucher(channelId, 30n));
		const second = await relayedCall(parts(), "settle", await stage.voucher(channelId, 40n));
		await stage.send(first, relayer);
		expect(await stage.refusal(second, relayer)).toBe("NonceAlreadyUsed");
		expect(await stage.balance(payee)).toBe(30n);
	});

	it("closes without a voucher's signature where nothing more is asked for", async () => {
		await settleWith(0n, 20n);
		const close = await relayedCall(parts(), "close", { channelId, cumulativeAmount: 20n, signature: "0x" });
		await stage.send(close, relayer);
		expect(await stage.channel(channelId)).toMatchObject({ settled: 20n, finalized: true });
	});

	it("is refused for a finalized channel, which has no nonce left", async () => {
		await stage.send(await relayedCall(parts(), "close", await stage.voucher(channelId, 5n)), relayer);
		const again = relayedCall(parts(), "close", await stage.voucher(channelId, 6n));
		await expect(again).rejects.toThrow(PayeeNoncesUsedError);
		await expect(again).rejects.toMatchObject({ code: "PAYEE_NONCES_USED", channelId });
	});
});

describe("the deadline of a relayed call", () => {
	const lifetime = BigInt(RELAY_LIFETIME_SECONDS);

	it("is ten minutes from now by our clock, where that is the later one", async () => {
		const { timestamp } = await client.getBlock();
		const ahead = Number(timestamp + 1_000n) * 1_000 + 999;
		const call = await relayedCall(
			parts(() => ahead),
			"settle",
			await stage.voucher(channelId, 1n),
		);
		expect(termsOf(call).deadline).toBe(timestamp + 1_000n + lifetime);
	});

	it("is ten minutes from the latest block, where our clock is behind, and is kept by the escrow", async () => {
		const { timestamp } = await client.getBlock();
		const call = await relayedCall(
			parts(() => 0),
			"settle",
			await stage.voucher(channelId, 1n),
		);
		expect(termsOf(call).deadline).toBe(timestamp + lifetime);
		await rpc(client, "evm_setNextBlockTimestamp", [Number(timestamp + lifetime) + 1]);
		await rpc(client, "evm_mine");
		expect(await stage.refusal(call, relayer)).toBe("AuthorizationExpired");
		const anew = await relayedCall(
			parts(() => 0),
			"settle",
			await stage.voucher(channelId, 1n),
		);
		await stage.send(anew, relayer);
		expect(await stage.balance(payee)).toBe(1n);
	});
});
