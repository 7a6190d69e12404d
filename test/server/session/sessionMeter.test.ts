/** The meter of one request on a channel: what is charged, what has left, and what the ledger has of it. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { applyEvent } from "../../../src/server/ledger.ts";
import { SessionMeter } from "../../../src/server/session/sessionMeter.ts";
import { MemoryStore } from "../../../src/server/store/memoryStore.ts";
import { type AdmittedMetered, MeteredBody } from "../../../src/server/stream/body.ts";
import { fromPieces } from "../../../src/server/stream/source.ts";
import { Wakes } from "../../../src/server/stream/wakes.ts";
import { channel, id } from "../store/records.ts";

const PRICE = 3n;

async function stage({ block = 4, accepted = 1_000, stallMs = 60_000, isFresh = () => Promise.resolve() } = {}) {
	const store = new MemoryStore();
	const channelId = id(1);
	const amount = PRICE * BigInt(Math.min(block, accepted));
	const opened = channel(1, { acceptedCumulative: PRICE * BigInt(accepted), reservations: { [store.owner]: amount } });
	await store.transact({ channel: channelId }, () => ({ value: undefined, writes: { channel: opened } }));
	const wakes = new Wakes();
	const context = {
		store,
		wakes,
		chainState: { ensureFresh: isFresh } as never,
		onEffects: () => undefined,
		now: () => 1_700_000_000_000,
	};
	const control = new SessionMeter({
		context,
		channelId,
		unitPrice: PRICE,
		minVoucherDelta: 0n,
		settings: { estimateUnits: 1n, blockUnits: BigInt(block), stallMs, isShared: false },
		reservation: { owner: store.owner, generation: 0, amount },
	});
	const { meter } = control;
	return {
		control,
		meter,
		wakes,
		/** What the ledger has captured, in units. */
		captured: async () => Number(((await store.channel(channelId))?.spent ?? 0n) / PRICE),
		/** A voucher for `units` in all. */
		async pay(units: number) {
			await store.transact({ channel: channelId }, (view) => {
				const voucher = { cumulativeAmount: PRICE * BigInt(units), signature: "0x5b" as const, challengeId: "c" };
				const step = applyEvent(view.channel, { type: "voucher", voucher, minVoucherDelta: 0n }, 1_700_000_000_000);
				return { value: undefined, ...(step.ok && { writes: { channel: step.channel } }) };
			});
			wakes.wake(channelId);
		},
		/** Ends it, captures the rest as a request's end does; what the ledger has then, in units. */
		async end(isComplete: boolean) {
			const { reservation, used, total } = await control.end(isComplete);
			await store.transact({ channel: channelId }, (view) => {
				const step = applyEvent(view.channel, { type: "capture", reservation, used }, 1_700_000_000_000);
				if (!step.ok) throw new Error(String(step.problem.detail));
				return { value: undefined, writes: { channel: step.channel } };
			});
			const ledger = await store.channel(channelId);
			if (ledger === undefined) throw new Error("the channel is gone");
			const reserved = Object.values(ledger.reservations).reduce((a, b) => a + b, 0n);
			return { spent: Number(ledger.spent / PRICE), total: Number(total / PRICE), reserved };
		},
	};
}

const hops = async (count: number) => {
	for (let i = 0; i < count; i++) await null;
};

describe("a meter", () => {
	it("charges what leaves while its next block is written, exactly once", async () => {
		for (let between = 0; between < 20; between++) {
			const { meter, control, end } = await stage();
			for (let n = 0; n < 4; n++) await meter.charge();
			const fifth = meter.charge();
			await hops(between);
			control.delivered();
			await fifth;
			control.delivered();
			expect(await end(true), `${between} steps between`).toEqual({ spent: 5, total: 5, reserved: 0n });
		}
	});

	it("does not charge what it has refused, whatever comes in between", async () => {
		for (let between = 0; between < 20; between++) {
			const { meter, control, end } = await stage();
			const charged = meter.charge(6).then(
				() => 6,
				() => 0,
			);
			await hops(between);
			control.stop("closed");
			const units = await charged;
			expect(await end(true), `${between} steps between`).toEqual({ spent: units, total: units, reserved: 0n });
		}
	});

	it("gives back what was charged and has not left, unless the answer ends well (I7)", async () => {
		for (const [isComplete, spent] of [
			[false, 2],
			[true, 3],
		] as const) {
			const { meter, control, end } = await stage();
			await meter.charge(2);
			const made = control.mark();
			await meter.charge();
			control.delivered(made);
			expect(await end(isComplete)).toEqual({ spent, total: spent, reserved: 0n });
		}
	});

	it("lets a charge wait no longer than its deadline, though vouchers come that bring too little", async () => {
		const { meter, pay, end, wakes } = await stage({ accepted: 4, stallMs: 150 });
		await meter.charge(4);
		const charged = meter.charge(50).catch((error: unknown) => error);
		for (let units = 5; units < 12; units++) {
			await new Promise((resolve) => setTimeout(resolve, 50));
			await pay(units);
		}
		expect(await charged).toMatchObject({ code: "METER_STOPPED", why: "stalled" });
		expect(wakes.size).toBe(0);
		expect(await end(false)).toEqual({ spent: 0, total: 0, reserved: 0n });
	});

	it("sells no further block while nothing is known of the chain (I10)", async () => {
		const { meter, control, end } = await stage({ isFresh: () => Promise.reject(new Error("the chain is silent")) });
		await meter.charge(4);
		control.delivered();
		await expect(meter.charge()).rejects.toThrow("the chain is silent");
		expect(meter.signal.reason).toMatchObject({ why: "failed", problem: { status: 503 } });
		expect(await end(false)).toEqual({ spent: 4, total: 4, reserved: 0n });
	});

	it.each([-1, 1.5, Number.NaN, 2 ** 60])("refuses %d units", async (units) => {
		const { meter, end } = await stage();
		await expect(meter.charge(units)).rejects.toMatchObject({ code: "UNITS" });
		expect(await end(true)).toEqual({ spent: 0, total: 0, reserved: 0n });
	});

	it("bounds the charges that nobody waits for", async () => {
		const { meter, control } = await stage({ accepted: 4 });
		const charges = Array.from({ length: 5_000 }, () => meter.charge().catch((error: { code: string }) => error.code));
		const waits = new Promise((resolve) => setTimeout(() => resolve("waits"), 100));
		expect(await Promise.race([charges[4_999], waits])).toBe("UNITS");
		control.stop("left");
		expect(await charges[4]).toBe("METER_STOPPED");
	});

	it.each([1, 2, 4, 7])(
		"of blocks of %i has no more than one delivered that is not captured, however fast its handler is",
		async (block) => {
			const { meter, control, captured } = await stage({ block, accepted: 100 });
			const pieces = (async function* () {
				for (let n = 1; n <= 30; n++) {
					await meter.charge(1);
					yield { data: String(n) };
				}
				await new Promise(() => undefined);
			})();
			const released = Promise.withResolvers<void>();
			const admitted = { metered: control, release: async () => released.resolve() } as unknown as AdmittedMetered;
			const body = new MeteredBody({
				source: fromPieces(pieces),
				admitted,
				tariff: () => undefined,
				isEventStream: true,
				stored: () => ({ status: 200, headers: {}, body: null }),
				onFault: () => undefined,
			});
			let delivered = 0;
			while (delivered < 30) {
				const bytes = await body.nextOfTurn(10_000);
				delivered += new TextDecoder().decode(bytes).split("\n\n").length - 1;
				expect(delivered - (await captured())).toBeLessThanOrEqual(block);
			}
			await body.leave();
			await released.promise;
		},
	);

	it("takes a charge of nothing in its turn, and none after its end", async () => {
		const { meter, control, pay } = await stage({ block: 2, accepted: 2 });
		await meter.charge(2);
		const order: string[] = [];
		const waits = meter.charge(1).then(() => order.push("one"));
		const nothing = meter.charge(0).then(() => order.push("nothing"));
		await hops(10);
		await pay(3);
		await Promise.all([waits, nothing]);
		expect(order).toEqual(["one", "nothing"]);
		control.stop("closed");
		await expect(meter.charge(0)).rejects.toMatchObject({ why: "closed" });
	});

	it("ends with the ledger, the meter and the payer's bound agreeing, whatever order things happen in (I1, I7)", async () => {
		const step = fc.oneof(
			fc.record({
				do: fc.constant("charge" as const),
				units: fc.integer({ min: 0, max: 9 }),
				wait: fc.boolean(),
				isBig: fc.boolean(),
			}),
			fc.record({ do: fc.constant("deliver" as const) }),
			fc.record({ do: fc.constant("pay" as const), more: fc.integer({ min: 1, max: 20 }) }),
			fc.record({ do: fc.constant("hops" as const), count: fc.integer({ min: 0, max: 12 }) }),
		);
		await fc.assert(
			fc.asyncProperty(
				fc.array(step, { maxLength: 40, size: "max" }),
				fc.integer({ min: 1, max: 8 }),
				fc.integer({ min: 1, max: 30 }),
				fc.boolean(),
				async (steps, block, accepted, isComplete) => {
					const { meter, control, pay, end } = await stage({ block, accepted });
					let paid = accepted;
					let charged = 0;
					let delivered = 0;
					const charges: Promise<unknown>[] = [];
					for (const one of steps) {
						if (one.do === "charge") {
							const charging = meter.charge(one.isBig ? BigInt(one.units) : one.units).then(
								() => {
									charged += one.units;
								},
								() => undefined,
							);
							charges.push(charging);
							if (one.wait) await Promise.race([charging, new Promise((resolve) => setTimeout(resolve, 0))]);
						}
						if (one.do === "deliver") {
							delivered = Math.max(delivered, Number(meter.units));
							control.delivered();
						}
						if (one.do === "pay") {
							paid += one.more;
							await pay(paid);
						}
						if (one.do === "hops") await hops(one.count);
					}
					const { spent, total, reserved } = await end(isComplete);
					await Promise.all(charges);
					expect(reserved).toBe(0n);
					expect(spent).toBe(total);
					expect(spent).toBe(isComplete ? charged : delivered);
					expect(spent).toBeLessThanOrEqual(paid);
				},
			),
			{ numRuns: 300 },
		);
	});
});
