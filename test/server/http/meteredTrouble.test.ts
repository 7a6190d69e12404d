/** Streams that go wrong: in each, what was delivered is what was paid, on both sides. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { Meter, Piece } from "../../../src/server/index.ts";
import { expectRefusal } from "../../support/expect.ts";
import { FACES, type MeteredPage, type MeteredStage, meteredStage } from "../../support/meteredStage.ts";
import { readEvents } from "../../support/streamReader.ts";
import { useWorld } from "../../support/useWorld.ts";

const STALL_MS = 100;

/** What the handlers have done, by the test. */
let made = 0;
let ended = 0;
let reasons: unknown[] = [];

/** `count` tokens from `from` on, each charged before it is yielded. */
async function* tokens(
	meter: Meter,
	{ from = 1, count = 1_000_000, failAt = 0, size = 0, everyMs = 0 } = {},
): AsyncGenerator<Piece> {
	try {
		for (let n = from; n < from + count; n++) {
			if (n === failAt) throw new Error("the model broke");
			await meter.charge();
			made++;
			yield { id: String(n), data: `${n}${"x".repeat(size)}` };
			if (everyMs > 0) await sleep(everyMs);
		}
	} catch (error) {
		reasons.push(error);
		throw error;
	} finally {
		ended++;
	}
}

const BLOCK = 4;
const metered = { blockUnits: BLOCK, stallMs: 20_000 };

const pages: Record<string, MeteredPage> = {
	"/tokens": {
		metered,
		serve: (meter, { query, header }) => {
			const number = (name: string, otherwise: number) => Number(query.get(name) ?? otherwise);
			if (header("x-fail") !== undefined) throw new Error("the model is out");
			return tokens(meter, {
				from: 1 + Number(header("last-event-id") ?? 0),
				count: number("count", 1_000_000),
				failAt: number("fail", 0),
				size: number("size", 0),
				everyMs: Number(header("x-every") ?? number("every", 0)),
			});
		},
	},
	"/impatient": { metered: { blockUnits: BLOCK, stallMs: STALL_MS }, serve: (meter) => tokens(meter) },
	"/slow-usage": {
		metered: { estimateUnits: 10, stallMs: 20_000 },
		serve: async (meter) => {
			await meter.charge(3);
			made++;
			await usage.promise;
			return Response.json({ used: 3 });
		},
	},
};
let usage = Promise.withResolvers<void>();

const world = useWorld();
let stage: MeteredStage;

beforeAll(async () => {
	// Hono's adapter prints what breaks off.
	vi.spyOn(console, "error").mockImplementation(() => undefined);
	stage = await meteredStage(world, pages);
});
afterAll(() => stage.stop());
beforeEach(() => {
	made = 0;
	ended = 0;
	reasons = [];
	usage = Promise.withResolvers();
});

describe.each(FACES)("a metered stream of the %s face", (face) => {
	it("is dropped when its payer withholds vouchers: what was paid for was delivered, nothing else is charged", async () => {
		const payer = await stage.payer(face);
		const { pieces, needs, receipt, isBroken } = await readEvents(await payer.read("/impatient", 10n));
		expect(pieces).toHaveLength(10);
		expect(needs).toMatchObject([{ requiredCumulative: 11n, acceptedCumulative: 10n, deposit: 10_000n }]);
		expect([receipt, isBroken]).toEqual([undefined, true]);
		await payer.expectLedger(10n, 10n);
		expect(reasons).toMatchObject([{ code: "METER_STOPPED", why: "stalled" }]);
		expect(ended).toBe(1);
	});

	it("goes on at once when its payer pays late", async () => {
		const payer = await stage.payer(face);
		const reader = await payer.read("/tokens?count=25", 5n);
		const { pieces, needs, receipt } = await readEvents(reader, async ({ requiredCumulative }) => {
			await sleep(50);
			await payer.expectI1();
			await payer.pay("/tokens", requiredCumulative + 9n);
		});
		expect(pieces).toHaveLength(25);
		expect(needs.map(({ requiredCumulative }) => requiredCumulative)).toEqual([6n, 16n]);
		expect(receipt).toMatchObject({ spent: 25n, units: 25, acceptedCumulative: 25n });
		await payer.expectLedger(25n, 25n);
	});

	it("is paid by vouchers ahead of it, and by those of other requests", async () => {
		const payer = await stage.payer(face);
		const reader = await payer.read("/tokens?count=20", 5n);
		await payer.pay("/tokens", 12n);
		const other = await payer.get("/session", 120n).catch(() => undefined);
		// The fetch face has no such page; there the voucher comes alone.
		if (other?.status !== 200) await payer.pay("/tokens", 120n);
		const { pieces, receipt } = await readEvents(reader);
		expect(pieces).toHaveLength(20);
		const spent = other?.status === 200 ? 120n : 20n;
		expect(receipt).toMatchObject({ units: 20, spent });
		await payer.expectLedger(spent, 120n);
	});

	it("ends its handler when its reader vanishes, and is charged what had left", async () => {
		const payer = await stage.payer(face);
		const reader = await payer.read("/tokens?every=2", 1_000n);
		const { pieces } = await readEvents(reader, undefined, ({ length }) => length === 10);
		expect(pieces).toHaveLength(10);
		reader.leave();
		await expect.poll(() => ended, { timeout: 10_000 }).toBe(1);
		const { spent = 0n } = (await settled(payer)) ?? {};
		expect(spent).toBeGreaterThanOrEqual(10n);
		expect(spent).toBeLessThanOrEqual(BigInt(made));
		await payer.expectLedger(spent, 1_000n);
	});

	it("ends while its meter waits for a voucher when its reader vanishes", async () => {
		const payer = await stage.payer(face);
		const reader = await payer.read("/tokens", 10n);
		await readEvents(reader, async () => reader.leave());
		await expect.poll(() => ended, { timeout: 10_000 }).toBe(1);
		expect(reasons).toMatchObject([{ code: "METER_STOPPED", why: "left" }]);
		await payer.expectLedger(10n, 10n);
	});

	it("is charged what had left when its handler throws midway (I7)", async () => {
		const payer = await stage.payer(face);
		const { pieces, receipt, isBroken } = await readEvents(await payer.read("/tokens?fail=8", 100n));
		expect([pieces.length, receipt, isBroken]).toEqual([7, undefined, true]);
		await payer.expectLedger(7n, 100n);
	});

	it("waits for a reader who stops: its handler stops after bounded buffers, and goes on with him", async () => {
		const payer = await stage.payer(face, 100_000n);
		const size = 65_536;
		const reader = await payer.read(`/tokens?size=${size}&count=400`, 400n);
		expect(await reader.event()).toBeDefined();
		const seen = await standstill(() => made);
		// The kernel's two buffers, and some of Node's own: megabytes, not the 26 of the whole answer.
		expect(seen).toBeLessThan(250);
		const { pieces, receipt } = await readEvents(reader);
		expect(pieces).toHaveLength(399);
		expect(receipt).toMatchObject({ spent: 400n, units: 400 });
		await payer.expectLedger(400n);
	});

	it("is the only one of its channel: another one without a higher voucher is refused (D16)", async () => {
		const payer = await stage.payer(face);
		const reader = await payer.read("/tokens", 10n);
		expect(await reader.event()).toBeDefined();
		expectRefusal(await payer.get("/tokens?count=1", 10n), "conflict");
		const rest = await readEvents(reader, async () => reader.leave());
		expect(rest.pieces).toHaveLength(9);
		await payer.expectLedger(10n);
		await expect.poll(() => ended).toBe(1);
	});

	it("gives its place to a new one with a higher voucher, also while nobody reads it (D16)", async () => {
		const payer = await stage.payer(face, 100_000n);
		const old = await payer.read("/tokens?size=65536&count=400", 1_000n);
		await standstill(() => made);
		const left = made;
		const { pieces, receipt } = await readEvents(await payer.read("/tokens?count=3", 1_001n));
		expect(pieces).toEqual(["1", "2", "3"]);
		expect(ended).toBe(2);
		const { pieces: delivered, isBroken } = await readEvents(old);
		expect(isBroken).toBe(true);
		const spent = receipt?.intent === "session" ? receipt.spent : 0n;
		// All that had left was charged; what is lost on the way is what the sockets held.
		expect(spent - 3n).toBeLessThanOrEqual(BigInt(left));
		expect(BigInt(delivered.length)).toBeLessThanOrEqual(spent - 3n);
		await payer.expectLedger(spent, 1_001n);
	});

	it("goes on where it broke off with the same Idempotency-Key, and is not paid twice (I6, D16)", async () => {
		const payer = await stage.payer(face);
		const options = { key: `again-${face}` };
		const first = await payer.read("/tokens?count=30&every=2", 100n, options);
		const { pieces } = await readEvents(first, undefined, ({ length }) => length === 10);
		const headers = { "Last-Event-ID": String(pieces.length) };
		const { spent: before = 0n } = (await stage.server.amounts(payer.channel)) ?? {};
		const again = await readEvents(await payer.read("/tokens?count=30&every=2", 100n, { ...options, headers }));
		expect(again.pieces[0]).toBe("11");
		expect(again.pieces).toHaveLength(30);
		expect(again.receipt).toMatchObject({ units: 30 });
		const { spent = 0n } = (await settled(payer)) ?? {};
		expect(spent).toBeGreaterThanOrEqual(before + 30n);
		// What had left of the first one besides what was read is at most what was on its way.
		expect(spent).toBeLessThanOrEqual(BigInt(made));
		await payer.expectLedger(spent, 100n);
		expectRefusal(await payer.get("/tokens?count=30&every=2", 100n, options), "conflict");
	});

	it("goes on also where the server had ended it and the rest was lost; plain retries are refused (I6)", async () => {
		const payer = await stage.payer(face);
		const options = { key: `lost-${face}` };
		const path = "/tokens?count=50";
		const first = await payer.read(path, 200n, options);
		expect(await first.event()).toMatchObject({ id: "1" });
		// The server has sent all of it, and has its receipt.
		await payer.expectLedger(50n);
		first.leave();
		const plain = await payer.get(path, 200n, options);
		expectRefusal(plain, "conflict");
		expect(plain.header("retry-after")).toBeUndefined();
		const headers = { "Last-Event-ID": "1" };
		const again = await readEvents(await payer.read("/tokens?count=50", 200n, { ...options, headers }));
		expect(again.pieces[0]).toBe("2");
		expect(again.receipt).toMatchObject({ units: 50, spent: 100n });
		expectRefusal(await payer.get(path, 200n, options), "conflict");
		// One that fails leaves what was there before.
		const failing = await payer.get(path, 200n, { ...options, headers: { ...headers, "x-fail": "1" } });
		expect(failing.status).toBe(500);
		expectRefusal(await payer.get(path, 200n, options), "conflict");
		// And one that breaks off.
		const broken = await payer.read(path, 200n, { ...options, headers: { ...headers, "x-every": "5" } });
		await readEvents(broken, undefined, ({ length }) => length === 3);
		broken.leave();
		await settled(payer);
		expectRefusal(await payer.get(path, 200n, options), "conflict");
	});

	it("is not made again for another body, nor at a fixed price, because of a Last-Event-ID (I6)", async () => {
		const payer = await stage.payer(face);
		const options = { key: `other-${face}`, method: "POST", headers: { "Last-Event-ID": "1" } };
		expect((await payer.get("/tokens?count=2", 200n, { ...options, body: "{}" })).status).toBe(200);
		expectRefusal(await payer.get("/tokens?count=2", 200n, { ...options, body: "[]" }), "unprocessable-content");
		await payer.expectLedger(2n);
	});

	it("asks for a top-up when its deposit runs out, and goes on with a voucher that brings one (D3, D12)", async () => {
		const payer = await stage.payer(face, 100n);
		const reader = await payer.read("/tokens?count=120", 100n);
		const { pieces, needs, receipt } = await readEvents(reader, async ({ requiredCumulative, deposit }) => {
			// The deposit is credited before the voucher is taken: the stream may ask once more in between.
			if (deposit > 100n) return;
			expect(requiredCumulative).toBeGreaterThan(deposit);
			expect((await payer.payWithTopUp("/tokens", 120n, 300n)).status).toBe(200);
		});
		expect(pieces).toHaveLength(120);
		expect(needs[0]).toMatchObject({ requiredCumulative: 101n, acceptedCumulative: 100n, deposit: 100n });
		expect(receipt).toMatchObject({ spent: 120n, units: 120 });
		await payer.expectLedger(120n, 120n);
		expect(await world.onChain(payer.channel)).toMatchObject({ deposit: 400n });
	});

	it("says anew what it needs after a top-up alone", async () => {
		const payer = await stage.payer(face, 100n);
		const reader = await payer.read("/tokens?count=101", 100n);
		const { pieces, needs, receipt } = await readEvents(reader, async ({ deposit }) => {
			if (deposit === 100n) await payer.topUp("/tokens", 300n);
			else await payer.pay("/tokens", 101n);
		});
		expect(pieces).toHaveLength(101);
		expect(needs).toMatchObject([
			{ requiredCumulative: 101n, deposit: 100n },
			{ requiredCumulative: 101n, deposit: 400n },
		]);
		expect(receipt).toMatchObject({ spent: 101n });
		await payer.expectLedger(101n);
	});

	it.each([
		["while it waits for a voucher", 10n],
		["while it goes on", 1_000n],
	])("ends when its client closes the channel %s: captured first, then closed (D6, I8)", async (_, amount) => {
		const payer = await stage.payer(face);
		const reader = await payer.read("/tokens?every=2", amount);
		const reading = readEvents(reader);
		await expect.poll(() => made, { timeout: 10_000 }).toBeGreaterThanOrEqual(10);
		const closed = await payer.close("/tokens", amount);
		expect(closed.status, closed.text).toBe(200);
		const { pieces, isBroken } = await reading;
		expect(isBroken).toBe(true);
		const channel = await stage.server.ledger(payer.channel);
		expect(channel?.spent).toBe(BigInt(pieces.length));
		expect(await world.onChain(payer.channel)).toMatchObject({ finalized: true, settled: amount });
		expect(ended).toBe(1);
	});

	it("lets a request that has not answered finish before its channel is closed (D6)", async () => {
		const payer = await stage.payer(face);
		const answer = payer.get("/slow-usage", 50n);
		await expect.poll(() => made).toBe(1);
		const closing = payer.close("/slow-usage", 50n);
		await sleep(50);
		usage.resolve();
		expect(await answer).toMatchObject({ status: 200, json: { used: 3 }, receipt: { spent: 3n } });
		expect((await closing).status).toBe(200);
		expect(await stage.server.ledger(payer.channel)).toMatchObject({ spent: 3n, finalized: true });
	});

	it("a request that has not answered gives its place at once to one that replaces it, and costs nothing (D16)", async () => {
		const payer = await stage.payer(face);
		const old = payer.get("/slow-usage", 50n);
		await expect.poll(() => made).toBe(1);
		const { receipt } = await readEvents(await payer.read("/tokens?count=2", 51n));
		expect(receipt).toMatchObject({ spent: 2n });
		usage.resolve();
		expectRefusal(await old, "conflict");
		await payer.expectLedger(2n, 51n);
	});
});

/** The ledger once nothing runs on it any more. */
async function settled(payer: Awaited<ReturnType<MeteredStage["payer"]>>) {
	await expect.poll(() => stage.server.amounts(payer.channel), { timeout: 10_000 }).toMatchObject({ reserved: 0n });
	return stage.server.amounts(payer.channel);
}

/** What a count comes to rest at. */
async function standstill(count: () => number): Promise<number> {
	for (let before = -1; ; ) {
		const now = count();
		if (now === before) return now;
		before = now;
		await sleep(200);
	}
}
