import { type Hex, type TransactionReceipt, zeroAddress } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { approveCall, openCall } from "../../src/escrow/calls.ts";
import { findChannelOpened, hasTransfer } from "../../src/escrow/events.ts";
import { computeChannelId } from "../../src/voucher/index.ts";
import { createStage, type Stage, sendAs, transferCall } from "./support.ts";

const SALT: Hex = `0x${"ab".repeat(32)}`;
const DEPOSIT = 500n;

let stage: Stage;
let channelId: Hex;
let opened: TransactionReceipt;
let transferred: TransactionReceipt;

beforeAll(async () => {
	stage = await createStage();
	const { chain, token, escrow, payer } = stage;
	const payee = chain.account(3).address;
	const channel = { payee, token, deposit: DEPOSIT, salt: SALT, authorizedSigner: zeroAddress };
	await sendAs(chain, payer, approveCall(token, escrow, DEPOSIT));
	opened = await sendAs(chain, payer, openCall(escrow, channel));
	transferred = await sendAs(chain, payer, transferCall(token, payee, 70n));
	channelId = computeChannelId({ ...channel, payer: payer.address, escrow, chainId: chain.chainId });
});
afterAll(() => stage?.chain.stop());

const somebody = (): Hex => stage.chain.account(8).address;

/** The log at the escrow, as a contract at `address` would have written it. */
function writtenBy(address: Hex): TransactionReceipt["logs"][number] {
	const log = opened.logs.find((one) => one.address.toLowerCase() === stage.escrow);
	if (log === undefined) throw new Error("the escrow wrote no log");
	return { ...log, address };
}

describe("findChannelOpened (D12)", () => {
	it("finds the escrow's event and all that it says", () => {
		const { escrow, payer, token, chain } = stage;
		const event = findChannelOpened(opened, escrow, channelId);
		expect(event).toMatchObject({ channelId, payer: payer.address, payee: chain.account(3).address });
		expect(event).toMatchObject({ authorizedSigner: zeroAddress, salt: SALT, deposit: DEPOSIT });
		expect(event?.token.toLowerCase()).toBe(token);
		expect(event?.transactionHash).toBe(opened.transactionHash);
		const at = opened.logs.findIndex(({ address }) => address.toLowerCase() === escrow);
		expect(event?.logIndex).toBe(opened.logs[at]?.logIndex);
	});

	it("finds it whoever the transaction was sent to: a smart account's goes to an EntryPoint", () => {
		const relayed = { ...opened, to: somebody(), from: somebody() };
		expect(findChannelOpened(relayed, stage.escrow, channelId)).toEqual(
			findChannelOpened(opened, stage.escrow, channelId),
		);
		expect(findChannelOpened({ ...opened, to: null }, stage.escrow, channelId)).toBeDefined();
	});

	it("does not take another escrow's word, also when the transaction was sent to ours", () => {
		expect(findChannelOpened(opened, somebody(), channelId)).toBeUndefined();
		const forged = { ...opened, to: stage.escrow, logs: [writtenBy(somebody())] };
		expect(findChannelOpened(forged, stage.escrow, channelId)).toBeUndefined();
	});

	it("is not misled by a forged event that comes first", () => {
		const forged = { ...opened, logs: [{ ...writtenBy(somebody()), logIndex: 0 }, ...opened.logs] };
		expect(findChannelOpened(forged, stage.escrow, channelId)).toEqual(
			findChannelOpened(opened, stage.escrow, channelId),
		);
	});

	it("finds no other channel's opening", () => {
		expect(findChannelOpened(opened, stage.escrow, `0x${"cd".repeat(32)}`)).toBeUndefined();
	});

	it("finds nothing in a transaction that did something else, or in one that reverted", () => {
		expect(findChannelOpened(transferred, stage.escrow, channelId)).toBeUndefined();
		expect(findChannelOpened({ ...opened, logs: [] }, stage.escrow, channelId)).toBeUndefined();
	});

	it("passes over a log that has the event's topic and not its shape", () => {
		const broken = { ...writtenBy(stage.escrow), data: "0x" as const };
		expect(findChannelOpened({ ...opened, logs: [broken] }, stage.escrow, channelId)).toBeUndefined();
	});
});

describe("hasTransfer", () => {
	const transfer = () => ({
		token: stage.token,
		from: stage.payer.address,
		to: stage.chain.account(3).address,
		value: 70n,
	});

	it("finds a transfer by token, sender, recipient and value", () => {
		expect(hasTransfer(transferred, transfer())).toBe(true);
		const { token, from, to, value } = transfer();
		const lower = (address: Hex) => address.toLowerCase() as Hex;
		expect(hasTransfer(transferred, { token: lower(token), from: lower(from), to: lower(to), value })).toBe(true);
	});

	it("takes nothing that differs in one of them", () => {
		expect(hasTransfer(transferred, { ...transfer(), value: 69n })).toBe(false);
		expect(hasTransfer(transferred, { ...transfer(), value: 71n })).toBe(false);
		expect(hasTransfer(transferred, { ...transfer(), from: somebody() })).toBe(false);
		expect(hasTransfer(transferred, { ...transfer(), to: somebody() })).toBe(false);
		expect(hasTransfer(transferred, { ...transfer(), token: stage.escrow })).toBe(false);
		const { from, to } = transfer();
		expect(hasTransfer(transferred, { ...transfer(), from: to, to: from })).toBe(false);
	});

	it("does not add transfers up", () => {
		const twice = { ...transferred, logs: [...transferred.logs, ...transferred.logs] };
		expect(hasTransfer(twice, { ...transfer(), value: 140n })).toBe(false);
		expect(hasTransfer(twice, transfer())).toBe(true);
	});

	it("does not take the same event of another contract", () => {
		const logs = transferred.logs.map((log) => ({ ...log, address: somebody() }));
		expect(hasTransfer({ ...transferred, logs }, transfer())).toBe(false);
	});

	it("finds the deposit among the logs of an opening", () => {
		const { token, payer, escrow } = stage;
		expect(hasTransfer(opened, { token, from: payer.address, to: escrow, value: DEPOSIT })).toBe(true);
	});
});
