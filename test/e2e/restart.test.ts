import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { CRASH_POINTS, type CrashPoint, type Order } from "../../src/cli/demo/crash.ts";
import { problemType } from "../../src/protocol/index.ts";
import { moved, told } from "./outcome.ts";
import { type Answer, DEPOSIT, FUNDS, PRICE, Stage } from "./stage.ts";

const HOUR = 3_600_000;

let stage: Stage;
beforeAll(async () => {
	stage = await Stage.create();
});
afterAll(() => stage?.stop());
beforeEach(() => stage.up());

describe("a transaction that is not mined before the server comes back", () => {
	const IMPATIENT = { transactionTimeoutMs: 300 };

	/** Kills the server right after the broadcast or before it, starts it, and checks that the chain has the transaction. */
	async function leaveUnmined(order: Order & { point: CrashPoint }, send: () => Promise<Answer>): Promise<void> {
		await stage.arm(order);
		await expect(send()).rejects.toThrow();
		await stage.died();
		await stage.up(IMPATIENT);
		expect(await stage.pooled()).toBe(1);
	}

	for (const point of ["recorded", "broadcast"] as const) {
		it(`of an open is found again and concluded: died ${CRASH_POINTS[point]}`, async () => {
			const payer = await stage.payer();
			const { credential, channelId } = await payer.opening();
			const key = randomUUID();
			const send = () => stage.send("/session", credential, key);
			const { value, movements } = await moved(stage, payer, () =>
				stage.withoutMining(async (mine) => {
					await leaveUnmined({ kind: "open", point }, send);
					const waiting = await send();
					expect(waiting).toMatchObject({ status: 503, receipt: undefined });
					expect(Number(waiting.retryAfter)).toBeGreaterThan(0);
					expect(await stage.inspect(channelId)).toMatchObject({ channel: null, pending: ["open"] });
					await mine();
					return send();
				}),
			);
			expect(told(value)).toMatchObject({ status: 200, spent: PRICE });
			expect(movements).toEqual({ transactions: 1, payer: -DEPOSIT, payee: 0n, escrow: DEPOSIT });
			expect((await stage.inspect(channelId)).pending).toEqual([]);
		});

		it(`of a charge is found again and concluded: died ${CRASH_POINTS[point]}`, async () => {
			const payer = await stage.payer();
			const credential = await payer.charging();
			const key = randomUUID();
			const send = () => stage.send("/charge", credential, key);
			const { value, movements } = await moved(stage, payer, () =>
				stage.withoutMining(async (mine) => {
					await leaveUnmined({ kind: "charge", point }, send);
					const waiting = await send();
					expect(waiting).toMatchObject({ status: 503, receipt: undefined });
					expect(Number(waiting.retryAfter)).toBeGreaterThan(0);
					await mine();
					return send();
				}),
			);
			expect(told(value)).toMatchObject({ status: 200, served: "number" });
			expect(movements).toEqual({ transactions: 1, payer: -PRICE, payee: PRICE, escrow: 0n });
			expect((await stage.inspect()).pending).toEqual([]);
		});

		it(`of a close keeps the channel shut until it is concluded: died ${CRASH_POINTS[point]}`, async () => {
			const payer = await stage.payer();
			const channel = await payer.open();
			const credential = await payer.closing(channel, PRICE);
			const send = () => stage.send("/session", credential);
			const voucher = async (amount: bigint) =>
				stage.send("/session", await payer.voucher(channel, amount), randomUUID());
			const { value, movements } = await moved(stage, payer, () =>
				stage.withoutMining(async (mine) => {
					await leaveUnmined({ kind: "close", point }, send);
					const refused = await voucher(5n * PRICE);
					expect(refused).toMatchObject({ status: 409, receipt: undefined });
					expect(refused.body.type).toBe(problemType("session/channel-closing"));
					expect(await send()).toMatchObject({ status: 503 });
					expect(await stage.inspect(channel.channelId)).toMatchObject({ closing: true, pending: ["close"] });
					await mine();
					return send();
				}),
			);
			expect(value).toMatchObject({ status: 200, receipt: { spent: PRICE } });
			expect(movements).toEqual({ transactions: 1, payer: DEPOSIT - PRICE, payee: PRICE, escrow: -DEPOSIT });
			const late = await voucher(5n * PRICE);
			expect(late).toMatchObject({ status: 410, body: { type: problemType("session/channel-finalized") } });
			expect(await stage.inspect(channel.channelId)).toMatchObject({ finalized: true, closing: false, pending: [] });
		});
	}

	it("of a charge is delivered also when it is mined long after the challenge expired", async () => {
		const payer = await stage.payer();
		const credential = await payer.charging();
		const send = () => stage.send("/charge", credential);
		await stage.withoutMining(async (mine) => {
			await leaveUnmined({ kind: "charge", point: "broadcast" }, send);
			await stage.down();
			await stage.pruneAt(Date.now() + HOUR);
			await stage.up({ ...IMPATIENT, clockAheadMs: HOUR });
			await mine();
		});
		try {
			const answer = await send();
			expect(await stage.balance(payer.address)).toBe(FUNDS - PRICE);
			expect({ status: answer.status, type: answer.body.type }).toEqual({ status: 200, type: undefined });
		} finally {
			await stage.up({});
		}
	});
});

describe("requests that were running when the server died (I7)", () => {
	const RUNNING = 5;

	it("give back what was held for them: all of it can be spent, and not a unit more", async () => {
		const payer = await stage.payer();
		const channel = await payer.open();
		const vouchers = await Promise.all(
			Array.from({ length: RUNNING }, (_, index) => payer.voucher(channel, BigInt(index + 2) * PRICE)),
		);
		const cut = vouchers.map((voucher) => stage.send("/slow", voucher, randomUUID()).catch(() => "cut off"));
		const all = String(BigInt(RUNNING) * PRICE);
		await expect.poll(async () => (await stage.inspect(channel.channelId)).channel?.reserved).toBe(all);
		await stage.down();
		expect(await Promise.all(cut)).toEqual(Array(RUNNING).fill("cut off"));

		await stage.up();
		const last = vouchers.at(-1);
		const answers: Answer[] = [];
		for (let sent = 0; sent <= RUNNING; sent++) answers.push(await stage.send("/session", last, randomUUID()));
		expect(answers.map(({ status }) => status)).toEqual([...Array(RUNNING).fill(200), 402]);
		expect(await stage.inspect(channel.channelId)).toMatchObject({
			channel: {
				acceptedCumulative: String(BigInt(RUNNING + 1) * PRICE),
				spent: String(BigInt(RUNNING + 1) * PRICE),
				reserved: "0",
			},
		});
	});

	it("can be sent again under the same key and are served then", async () => {
		const payer = await stage.payer();
		const channel = await payer.open();
		const voucher = await payer.voucher(channel, 2n * PRICE);
		const key = randomUUID();
		await stage.arm({ kind: "open", point: "handler" });
		const send = () => stage.send("/session", voucher, key);
		await expect(send()).rejects.toThrow();
		await stage.died();
		await stage.up();
		const served = await send();
		expect(told(served)).toMatchObject({ status: 200, spent: 2n * PRICE });
		expect((await send()).body).toEqual(served.body);
		expect((await stage.inspect(channel.channelId)).channel).toMatchObject({
			spent: String(2n * PRICE),
			reserved: "0",
		});
	});
});
