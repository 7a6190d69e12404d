import { createPublicClient, custom, type Hex, type Log, type TransactionReceipt, zeroAddress } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requestCloseCall, topUpCall, withdrawCall } from "../../src/escrow/calls.ts";
import {
	decodeEscrowLogs,
	EscrowLogsError,
	findEscrowEvents,
	readEscrowEvents,
} from "../../src/escrow/escrowEvents.ts";
import { closeCall, settleCall, settleManyCall } from "../../src/escrow/payeeCalls.ts";
import { type Account, createPayeeStage, DEPOSIT, type PayeeStage } from "./payeeStage.ts";
import { rpc } from "./support.ts";

let stage: PayeeStage;
let payee: Account;
/** One channel's life, and a second one's. */
let first: Hex;
let second: Hex;
let batch: TransactionReceipt;
let fromBlock: bigint;
let toBlock: bigint;

beforeAll(async () => {
	stage = await createPayeeStage();
	const { escrow, payer, chain } = stage;
	payee = await stage.payee({ gas: true });
	fromBlock = (await chain.client.getBlockNumber()) + 1n;
	first = await stage.open(payee);
	const settle = await stage.voucher(first, 100n);
	await stage.send(settleCall(escrow, first, 100n, settle.signature), payee);
	await stage.send(requestCloseCall(escrow, first), payer);
	await stage.send(topUpCall(escrow, first, 40n), payer);
	const close = await stage.voucher(first, 150n);
	await stage.send(closeCall(escrow, first, 150n, close.signature), payee);
	second = await stage.open(payee);
	const rows = [await stage.voucher(second, 30n), await stage.voucher(first, 151n)];
	batch = await stage.send(settleManyCall(escrow, rows), payee);
	await stage.send(requestCloseCall(escrow, second), payer);
	await rpc(chain.client, "evm_increaseTime", [901]);
	await stage.send(withdrawCall(escrow, second), payer);
	toBlock = await chain.client.getBlockNumber();
});
afterAll(() => stage?.chain.stop());

const lower = (hex: Hex) => hex.toLowerCase() as Hex;
const read = (client = stage.chain.client) => readEscrowEvents(client, stage.escrow, { fromBlock, toBlock });

/** A client of a node that refuses `eth_getLogs` over more than `most` blocks, as real ones do; counts what it is asked. */
function narrow(most: bigint, message = "query exceeds max block range") {
	let asked = 0;
	const request = async ({ method, params }: { method: string; params?: unknown }) => {
		if (method === "eth_getLogs") {
			asked++;
			const [{ fromBlock: from, toBlock: to }] = params as [{ fromBlock: Hex; toBlock: Hex }];
			if (BigInt(to) - BigInt(from) + 1n > most) throw Object.assign(new Error(message), { code: -32602 });
		}
		return stage.chain.client.request({ method, params } as never);
	};
	const client = createPublicClient({ transport: custom({ request }, { retryCount: 0 }), cacheTime: 0 });
	return { client, asked: () => asked };
}

describe("readEscrowEvents", () => {
	it("tells the life of a channel, in order and with all that each event says", async () => {
		const parties = { payer: lower(stage.payer.address), payee: lower(payee.address) };
		const events = await read();
		expect(events.filter(({ channelId }) => channelId === first)).toMatchObject([
			{ name: "ChannelOpened", ...parties, token: stage.token, authorizedSigner: zeroAddress, deposit: DEPOSIT },
			{ name: "Settled", ...parties, settled: 100n, delta: 100n },
			{ name: "CloseRequested", payer: parties.payer },
			{ name: "ToppedUp", funder: parties.payer, amount: 40n, deposit: DEPOSIT + 40n },
			{ name: "CloseRequestCancelled", payer: parties.payer },
			{ name: "ChannelClosed", ...parties, settled: 150n, delta: 50n, refund: DEPOSIT + 40n - 150n },
			{ name: "SettlementSkipped", ...parties, reason: "ChannelFinalized" },
		]);
		expect(events.filter(({ channelId }) => channelId === second)).toMatchObject([
			{ name: "ChannelOpened" },
			{ name: "Settled", settled: 30n, delta: 30n },
			{ name: "CloseRequested" },
			{ name: "Withdrawn", payer: parties.payer, settled: 30n, refund: DEPOSIT - 30n },
		]);
		const requested = events.find(({ name }) => name === "CloseRequested");
		if (requested?.name !== "CloseRequested") throw new Error("no close was requested");
		expect(requested.withdrawableAt - requested.closeRequestedAt).toBe(900);
		const places = events.map(({ blockNumber, logIndex }) => Number(blockNumber) * 1_000 + logIndex);
		expect(places).toEqual([...places].sort((a, b) => a - b));
	});

	it.each([1n, 2n, 3n, 5n])("finds the same where a node takes no more than %d blocks at a time", async (most) => {
		expect(await read(narrow(most).client)).toEqual(await read());
	});

	it("gives up where even one block is refused, after a bounded number of questions", async () => {
		const { client, asked } = narrow(0n);
		await expect(read(client)).rejects.toThrow("query exceeds max block range");
		expect(asked()).toBeLessThan(10);
	});

	it("does not halve the range over a fault of another kind", async () => {
		const { client, asked } = narrow(0n, "the database is gone");
		await expect(read(client)).rejects.toThrow("the database is gone");
		expect(asked()).toBe(1);
	});
});

describe("findEscrowEvents", () => {
	it("finds one transaction's events as the chain's logs have them", async () => {
		const events = findEscrowEvents(batch, stage.escrow);
		expect(events.map(({ name }) => name).sort()).toEqual(["Settled", "SettlementSkipped"]);
		expect(await read()).toEqual(expect.arrayContaining([...events]));
	});

	it("does not take another contract's word (D12)", () => {
		const logs = batch.logs.map((log) => ({ ...log, address: stage.chain.account(8).address }));
		expect(findEscrowEvents({ logs }, stage.escrow)).toEqual([]);
	});
});

describe("decodeEscrowLogs", () => {
	const ours = () => batch.logs.filter(({ address }) => lower(address) === stage.escrow) as Log[];

	it("refuses a log that a reorganization removed", () => {
		const logs = ours().map((log) => ({ ...log, removed: true }));
		expect(() => decodeEscrowLogs(logs, stage.escrow)).toThrow(EscrowLogsError);
	});

	it("refuses a log that is in no block yet", () => {
		const logs = ours().map((log) => ({ ...log, blockNumber: null, blockHash: null }));
		expect(() => decodeEscrowLogs(logs, stage.escrow)).toThrow(EscrowLogsError);
	});

	it("puts logs that come in another order into the chain's", async () => {
		const all = await stage.chain.client.getLogs({ address: stage.escrow, fromBlock, toBlock });
		expect(decodeEscrowLogs([...all].reverse(), stage.escrow)).toEqual(await read());
	});
});
