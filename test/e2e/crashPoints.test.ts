import { randomUUID } from "node:crypto";
import type { Hex } from "viem";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { CRASH_POINTS, type CrashPoint, type Order } from "../../src/cli/demo/crash.ts";
import { CloseRefusedError } from "../../src/client/index.ts";
import { problemType, type SessionReceipt } from "../../src/protocol/index.ts";
import { moved, type Outcome, told } from "./outcome.ts";
import { type Answer, DEPOSIT, FUNDS, type OpenedChannel, type Payer, PRICE, Stage } from "./stage.ts";

const POINTS = Object.keys(CRASH_POINTS) as CrashPoint[];
const HOUR = 3_600_000;
/** Nothing runs when a channel closes. */
const CLOSE_POINTS = POINTS.filter((point) => point !== "handler");

let stage: Stage;
beforeAll(async () => {
	stage = await Stage.create();
});
afterAll(() => stage?.stop());
beforeEach(() => stage.up());

/** Sends a request that kills the server, starts the server again, and sends the same request, byte for byte. */
async function crashAndRetry(order: Order & { point: CrashPoint }, send: () => Promise<Answer>): Promise<Answer> {
	await stage.arm(order);
	await expect(send(), "an answer from a server that was to die").rejects.toThrow();
	expect(await stage.died()).toBe(`${order.kind} ${order.point}`);
	await stage.up();
	return send();
}

describe("open, killed on its way (I4, I5, I6)", () => {
	async function open(point?: CrashPoint): Promise<Outcome> {
		const payer = await stage.payer();
		const { credential, ...channel } = await payer.opening();
		const key = randomUUID();
		const send = () => stage.send("/session", credential, key);
		const { value, movements } = await moved(stage, payer, () =>
			point === undefined ? send() : crashAndRetry({ kind: "open", point }, send),
		);
		const replayed = await send();
		const ledger = await stage.inspect(channel.channelId);
		// The channel can be used, and the same credential delivers nothing more.
		const again = await stage.send("/session", credential);
		const next = await stage.send("/session", await payer.voucher(channel, 2n * PRICE), randomUUID());
		return {
			answer: told(value),
			movements,
			ledger,
			isReplayed: JSON.stringify(replayed.body) === JSON.stringify(value.body),
			again: again.status,
			next: told(next),
			after: await stage.inspect(channel.channelId),
		};
	}

	const expected: Outcome = {
		answer: { status: 200, served: "number", hasReceipt: true, spent: PRICE, accepted: PRICE },
		movements: { transactions: 1, payer: -DEPOSIT, payee: 0n, escrow: DEPOSIT },
		isReplayed: true,
		again: 402,
		next: { status: 200, served: "number", hasReceipt: true, spent: 2n * PRICE, accepted: 2n * PRICE },
	};

	it("without a crash: one transaction, one deposit, one delivery", async () => {
		expect(await open()).toMatchObject(expected);
	});

	for (const point of POINTS) {
		it(`comes to the same when the server dies ${CRASH_POINTS[point]}`, async () => {
			const outcome = await open(point);
			expect(outcome).toMatchObject(expected);
			expect(outcome.ledger).toEqual({
				channel: {
					acceptedCumulative: String(PRICE),
					spent: String(PRICE),
					reserved: "0",
					deposit: String(DEPOSIT),
					settledOnChain: "0",
				},
				finalized: false,
				closing: false,
				pending: [],
			});
		});
	}

	it("loses the agent no deposit whose answer it never got (I11)", async () => {
		const payer = await stage.payer();
		const agent = payer.agent({ retry: { retries: 0 } });
		await stage.arm({ kind: "open", point: "broadcast" });
		await expect(agent.fetch(`${stage.url}/session`)).rejects.toThrow();
		await stage.died();
		await stage.up();
		const response = await agent.fetch(`${stage.url}/session`);
		expect(response.status).toBe(200);
		await agent.close();
		const paid = FUNDS - (await stage.balance(payer.address));
		expect(paid, "what the payer has paid, or has forgotten in the escrow").toBeLessThanOrEqual(2n * PRICE);
	});

	it("uses the deposit also when a stranger copied the call and was first (D12)", async () => {
		const payer = await stage.payer();
		const { credential, channelId } = await payer.opening();
		const key = randomUUID();
		const send = () => stage.send("/session", credential, key);
		await stage.arm({ kind: "open", point: "recorded" });
		await expect(send()).rejects.toThrow();
		await stage.died();
		await stage.copyPendingTransaction();
		await stage.up();
		const answer = await send();
		expect(await stage.channelOnChain(channelId)).toMatchObject({ deposit: DEPOSIT, finalized: false });
		expect({ ...told(answer), type: answer.body.type }).toMatchObject({ status: 200, type: undefined });
	});
});

describe("close, killed on its way (I4, I5, I8)", () => {
	/** A channel with two deliveries and credit for a third. */
	async function prepare(): Promise<Readonly<{ payer: Payer; channel: OpenedChannel }>> {
		const payer = await stage.payer();
		const channel = await payer.open();
		const { status } = await stage.send("/session", await payer.voucher(channel, 3n * PRICE), randomUUID());
		expect(status).toBe(200);
		return { payer, channel };
	}

	async function close(point?: CrashPoint) {
		const { payer, channel } = await prepare();
		const credential = await payer.closing(channel, 2n * PRICE);
		const key = randomUUID();
		const send = () => stage.send("/session", credential, key);
		const { value, movements } = await moved(stage, payer, () =>
			point === undefined ? send() : crashAndRetry({ kind: "close", point }, send),
		);
		return { value, movements, channelId: channel.channelId };
	}

	const movements: Outcome = {
		transactions: 1,
		payer: DEPOSIT - 2n * PRICE,
		payee: 2n * PRICE,
		escrow: -DEPOSIT,
	};

	async function expectClosed(channelId: Hex): Promise<void> {
		expect(await stage.channelOnChain(channelId)).toMatchObject({ finalized: true, settled: 2n * PRICE });
		expect(await stage.inspect(channelId)).toMatchObject({
			channel: { spent: String(2n * PRICE), reserved: "0", settledOnChain: String(2n * PRICE) },
			finalized: true,
			closing: false,
			pending: [],
		});
	}

	function expectReceipt({ status, receipt, body }: Answer): void {
		expect({ status, type: body.type }).toEqual({ status: 200, type: undefined });
		expect(receipt).toMatchObject({ intent: "session", spent: 2n * PRICE, acceptedCumulative: 3n * PRICE });
		expect((receipt as SessionReceipt).txHash).toMatch(/^0x[0-9a-f]{64}$/);
	}

	it("without a crash: one transaction, the payee paid, the rest refunded, a receipt", async () => {
		const outcome = await close();
		expect(outcome.movements).toEqual(movements);
		await expectClosed(outcome.channelId);
		expectReceipt(outcome.value);
	});

	for (const point of CLOSE_POINTS) {
		it(`moves the money once when the server dies ${CRASH_POINTS[point]}`, async () => {
			const outcome = await close(point);
			expect(outcome.movements).toEqual(movements);
			await expectClosed(outcome.channelId);
		});
	}

	it("gives its receipt to the same close when it is sent again after a crash before the outbox write", async () => {
		expectReceipt((await close("record")).value);
	});

	it("gives its receipt to the same close when it is sent again after a crash on the way (Request Idempotency)", async () => {
		expectReceipt((await close("broadcast")).value);
	});

	it("gives its receipt to the same close when it is sent again because the answer was lost (Request Idempotency)", async () => {
		expectReceipt((await close("answer")).value);
	});

	it("lets the agent close across a crash", async () => {
		const payer = await stage.payer();
		const agent = payer.agent({ retry: { retries: 12, minDelayMs: 50, maxDelayMs: 500 } });
		await agent.fetch(`${stage.url}/session`);
		await stage.arm({ kind: "close", point: "broadcast" });
		const closing = agent.close().catch((error: unknown) => error);
		await stage.died();
		await stage.up();
		const closed = await closing;
		expect(await stage.balance(payer.address)).toBe(FUNDS - PRICE);
		expect(closed).not.toBeInstanceOf(CloseRefusedError);
		expect(closed).toMatchObject([{ receipt: { spent: PRICE } }]);
	});

	it("can be tried again under the same fresh challenge: what was never sent is not published (D7)", async () => {
		// The challenge that the vouchers answered has expired, so the close answers a new one.
		const { payer, channel } = await prepare();
		const { challenge } = await stage.challenge("/session");
		const credential = await payer.closing(channel, 2n * PRICE, challenge);
		const answer = await crashAndRetry({ kind: "close", point: "record" }, () => stage.send("/session", credential));
		expectReceipt(answer);
		await expectClosed(channel.channelId);
	});

	it("leaves the channel usable when the server dies before anything is sent", async () => {
		const { payer, channel } = await prepare();
		await stage.arm({ kind: "close", point: "record" });
		const closing = await payer.closing(channel, 2n * PRICE);
		await expect(stage.send("/session", closing)).rejects.toThrow();
		await stage.died();
		await stage.up();
		const answer = await stage.send("/session", await payer.voucher(channel, 4n * PRICE), randomUUID());
		expect(told(answer)).toMatchObject({ status: 200, spent: 3n * PRICE, accepted: 4n * PRICE });
	});
});

describe("charge, killed on its way (I4, I5, I6)", () => {
	async function charge(point?: CrashPoint): Promise<Outcome> {
		const payer = await stage.payer();
		const credential = await payer.charging();
		const key = randomUUID();
		const send = () => stage.send("/charge", credential, key);
		const { value, movements } = await moved(stage, payer, () =>
			point === undefined ? send() : crashAndRetry({ kind: "charge", point }, send),
		);
		const replayed = await send();
		const otherwise = await stage.send("/charge", credential, randomUUID());
		return {
			answer: told(value),
			movements,
			isReplayed: JSON.stringify(replayed.body) === JSON.stringify(value.body),
			otherwise: { status: otherwise.status, type: otherwise.body.type },
			pending: (await stage.inspect()).pending,
		};
	}

	const expected: Outcome = {
		answer: { status: 200, served: "number", hasReceipt: true },
		movements: { transactions: 1, payer: -PRICE, payee: PRICE, escrow: 0n },
		isReplayed: true,
		otherwise: { status: 402, type: problemType("invalid-challenge") },
		pending: [],
	};

	it("without a crash: one transaction, one delivery", async () => {
		expect(await charge()).toEqual(expected);
	});

	for (const point of POINTS) {
		it(`comes to the same when the server dies ${CRASH_POINTS[point]}`, async () => {
			expect(await charge(point)).toEqual(expected);
		});
	}

	it("delivers a paid request without an Idempotency-Key once, too", async () => {
		const payer = await stage.payer();
		const credential = await payer.charging();
		const send = () => stage.send("/charge", credential);
		const { value, movements } = await moved(stage, payer, () =>
			crashAndRetry({ kind: "charge", point: "handler" }, send),
		);
		expect(told(value)).toEqual(expected.answer);
		expect(movements).toEqual(expected.movements);
		expect((await send()).status).toBe(402);
	});

	it("moves no money twice for one Idempotency-Key when the retry answers a fresh challenge (I6)", async () => {
		const payer = await stage.payer();
		const key = randomUUID();
		const first = await payer.charging();
		const { movements } = await moved(stage, payer, async () => {
			await stage.arm({ kind: "charge", point: "broadcast" });
			await expect(stage.send("/charge", first, key)).rejects.toThrow();
			await stage.died();
			await stage.up();
			const second = await payer.charging();
			await stage.send("/charge", second, key);
		});
		expect(movements).toEqual(expected.movements);
	});

	it("still delivers what was paid in time when the server comes back long after the challenge expired", async () => {
		const payer = await stage.payer();
		const credential = await payer.charging();
		const send = () => stage.send("/charge", credential);
		await stage.arm({ kind: "charge", point: "handler" });
		await expect(send()).rejects.toThrow();
		await stage.died();
		await stage.pruneAt(Date.now() + HOUR);
		await stage.up({ clockAheadMs: HOUR });
		try {
			const answer = await send();
			expect(await stage.balance(payer.address)).toBe(FUNDS - PRICE);
			expect({ status: answer.status, type: answer.body.type }).toEqual({ status: 200, type: undefined });
		} finally {
			await stage.up({});
		}
	});

	it("delivers also when a stranger copied the call and was first: the money has moved all the same", async () => {
		const payer = await stage.payer();
		const credential = await payer.charging();
		const key = randomUUID();
		const send = () => stage.send("/charge", credential, key);
		await stage.arm({ kind: "charge", point: "recorded" });
		await expect(send()).rejects.toThrow();
		await stage.died();
		await stage.copyPendingTransaction();
		await stage.up();
		const answer = await send();
		expect(await stage.balance(payer.address)).toBe(FUNDS - PRICE);
		expect({ ...told(answer), type: answer.body.type }).toEqual({ ...(expected.answer as object), type: undefined });
	});

	it("charges and delivers once when the node that took the transaction fails and the next one knows it as mined", async () => {
		const payer = await stage.payer();
		const credential = await payer.charging();
		await stage.arm({ kind: "charge", point: "lost-answer" });
		const { value, movements } = await moved(stage, payer, () => stage.send("/charge", credential));
		expect(movements).toEqual(expected.movements);
		expect({ ...told(value), type: value.body.type }).toEqual({ ...(expected.answer as object), type: undefined });
	});
});
