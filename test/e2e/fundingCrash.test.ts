import { randomUUID } from "node:crypto";
import { encodeFunctionData, type Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { CRASH_POINTS, type CrashPoint, type Order } from "../../src/cli/demo/crash.ts";
import { testUsdcAbi } from "../../src/cli/demo/generated/testUsdc.ts";
import { approveCall } from "../../src/escrow/calls.ts";
import { readTokenDomain } from "../../src/escrow/reads.ts";
import type { Challenge } from "../../src/protocol/index.ts";
import { CANONICAL_PERMIT2 } from "../../src/voucher/index.ts";
import { type Draft, encode, Payer, type TestChannel } from "../support/payer.ts";
import { merged, openByPermit2, rpc, topUpByAuthorization, topUpByPermit2 } from "../support/sessionDrafts.ts";
import { moved, type Outcome, told } from "./outcome.ts";
import { type Answer, DEPOSIT, FUNDS, PRICE, Stage } from "./stage.ts";

const POINTS = Object.keys(CRASH_POINTS) as CrashPoint[];
/** Nothing runs for a top-up that comes alone. */
const TOP_UP_POINTS = POINTS.filter((point) => point !== "handler");
const MORE = 5n * PRICE;

let stage: Stage;
beforeAll(async () => {
	stage = await Stage.create();
});
afterAll(() => stage?.stop());
beforeEach(() => stage.up());

/** A payer with tokens, who has approved Permit2. */
async function newPayer(): Promise<Payer> {
	const { chain, token, escrow } = stage;
	const { client, chainId } = chain;
	const account = privateKeyToAccount(generatePrivateKey());
	const data = encodeFunctionData({ abi: testUsdcAbi, functionName: "mint", args: [account.address, FUNDS] });
	await stage.sendAs(chain.account(0), { to: token, data });
	await rpc(client, "anvil_setBalance", [account.address, "0x8ac7230489e80000"]);
	const tokenDomain = await readTokenDomain(client, token, chainId);
	const payer = new Payer({ account, client, chainId, escrow, token, tokenDomain });
	await payer.sendBlind(approveCall(token, CANONICAL_PERMIT2, 2n ** 256n - 1n));
	return payer;
}

async function challenge(): Promise<Challenge> {
	return (await stage.challenge("/session")).challenge;
}

/** Sends a request that kills the server, starts the server again, and sends the same request, byte for byte. */
async function crashAndRetry(order: Order, send: () => Promise<Answer>): Promise<Answer> {
	await stage.arm(order);
	await expect(send(), "an answer from a server that was to die").rejects.toThrow();
	expect(await stage.died()).toBe(`${order.kind} ${order.point}`);
	await stage.up();
	return send();
}

async function openChannel(payer: Payer): Promise<TestChannel> {
	const channel = payer.channel(stage.payee.address);
	const draft = await payer.open(await challenge(), channel, { deposit: DEPOSIT });
	expect((await stage.send("/session", encode(draft))).status).toBe(200);
	return channel;
}

type Kind = "authorization" | "permit2";
const TOP_UPS: Record<Kind, typeof topUpByAuthorization> = {
	authorization: topUpByAuthorization,
	permit2: (payer, one, channel, amount) => topUpByPermit2(payer, one, channel, amount),
};

describe.each(["authorization", "permit2"] as const)("a top-up by %s, killed on its way (I4, I5)", (kind) => {
	async function topUp(point?: CrashPoint): Promise<Outcome> {
		const payer = await newPayer();
		const channel = await openChannel(payer);
		const draft = await TOP_UPS[kind](payer, await challenge(), channel, MORE);
		const send = () => stage.send("/session", encode(draft));
		const { value, movements } = await moved(stage, payer, () =>
			point === undefined ? send() : crashAndRetry({ kind: "topUp", point }, send),
		);
		const again = await moved(stage, payer, send);
		const hashOf = ({ receipt }: Answer) => (receipt?.intent === "session" ? receipt.txHash : undefined);
		// All of it can be spent.
		const voucher = await payer.voucher(await challenge(), channel, DEPOSIT + MORE);
		return {
			answer: told(value),
			movements,
			again: { ...again.movements, status: again.value.status },
			isSameTransaction: hashOf(value) !== undefined && hashOf(value) === hashOf(again.value),
			next: (await stage.send("/session", encode(voucher))).status,
			ledger: await ledgerOf(channel),
		};
	}

	const expected: Outcome = {
		answer: { status: 200, served: "undefined", hasReceipt: true, spent: 0n, accepted: 0n },
		movements: { transactions: 1, payer: -MORE, payee: 0n, escrow: MORE },
		again: { transactions: 0, payer: 0n, payee: 0n, escrow: 0n, status: 200 },
		isSameTransaction: true,
		next: 200,
		ledger: { deposit: String(DEPOSIT + MORE), pending: [] },
	};

	it("without a crash: one transaction, one deposit", async () => {
		expect(await topUp()).toEqual(expected);
	});

	for (const point of TOP_UP_POINTS) {
		it(`comes to the same when the server dies ${CRASH_POINTS[point]}`, async () => {
			expect(await topUp(point)).toEqual(expected);
		});
	}

	it("is credited also when a stranger copied the call and was first (D12)", async () => {
		const payer = await newPayer();
		const channel = await openChannel(payer);
		const draft = await TOP_UPS[kind](payer, await challenge(), channel, MORE);
		const send = () => stage.send("/session", encode(draft));
		await stage.arm({ kind: "topUp", point: "recorded" });
		await expect(send()).rejects.toThrow();
		await stage.died();
		await stage.copyPendingTransaction();
		await stage.up();
		expect((await send()).status).toBe(200);
		expect(await ledgerOf(channel)).toEqual({ deposit: String(DEPOSIT + MORE), pending: [] });
	});
});

describe.each([
	{ title: "a merged top-up", kind: "topUp" as const, accepted: DEPOSIT + MORE, paid: MORE, make: mergedTopUp },
	{ title: "a merged open by Permit2", kind: "open" as const, accepted: 2n * PRICE, paid: DEPOSIT, make: mergedOpen },
])("a voucher with $title, killed on its way (I4, I5, I6)", ({ kind, accepted, paid, make }) => {
	async function pay(point?: CrashPoint): Promise<Outcome> {
		const payer = await newPayer();
		const { draft, channel } = await make(payer);
		const key = randomUUID();
		const send = () => stage.send("/session", encode(draft), key);
		const { value, movements } = await moved(stage, payer, () =>
			point === undefined ? send() : crashAndRetry({ kind, point }, send),
		);
		const replayed = await send();
		const again = await stage.send("/session", encode(draft));
		return {
			answer: told(value),
			movements,
			isReplayed: JSON.stringify(replayed.body) === JSON.stringify(value.body),
			again: again.status,
			pending: (await ledgerOf(channel)).pending,
		};
	}

	const expected: Outcome = {
		answer: { status: 200, served: "number", hasReceipt: true, spent: PRICE, accepted },
		movements: { transactions: 1, payer: -paid, payee: 0n, escrow: paid },
		isReplayed: true,
		again: 402,
		pending: [],
	};

	it("without a crash: one deposit, one delivery", async () => {
		expect(await pay()).toEqual(expected);
	});

	for (const point of POINTS) {
		it(`comes to the same when the server dies ${CRASH_POINTS[point]}`, async () => {
			expect(await pay(point)).toEqual(expected);
		});
	}
});

type Made = Readonly<{ draft: Draft; channel: TestChannel }>;

async function mergedTopUp(payer: Payer): Promise<Made> {
	const channel = await openChannel(payer);
	const one = await challenge();
	const topUp = await topUpByAuthorization(payer, one, channel, MORE);
	return { channel, draft: merged(await payer.voucher(one, channel, DEPOSIT + MORE), topUp) };
}

async function mergedOpen(payer: Payer): Promise<Made> {
	const channel = payer.channel(stage.payee.address);
	const one = await challenge();
	const open = await openByPermit2(payer, one, channel, { deposit: DEPOSIT });
	return { channel, draft: merged(await payer.voucher(one, channel, 2n * PRICE), open) };
}

async function ledgerOf({ channelId }: Readonly<{ channelId: Hex }>) {
	const { channel, pending } = await stage.inspect(channelId);
	return { deposit: channel?.deposit, pending };
}
