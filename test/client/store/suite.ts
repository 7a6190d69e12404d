/** What every payer's store has to do, however it keeps things. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { HeldChannel, PayerStore } from "../../../src/client/store/store.ts";
import { channel, id, KEY, payment, receipt, signed } from "./records.ts";

/** One agent's stores over the same data. */
export type StoreStage = Readonly<{
	/** Another holder, as another process of the agent would have it. */
	open(): Promise<PayerStore>;
	/** Lets the holder go without a word, as if its process were killed. */
	kill(store: PayerStore): Promise<void>;
	/** Ends all of them. Where the data are kept, the next `open` finds them again. */
	closeAll(): Promise<void>;
	/** Ends, and removes, all. */
	end(): Promise<void>;
}>;

const WAIT_MS = 20_000;

/** Runs all of it over the stores of new stages. `isKept` where data outlive `closeAll`. */
export function payerStoreSuite(name: string, newStage: () => Promise<StoreStage>, isKept: boolean): void {
	describe(name, () => {
		let stage: StoreStage;
		let a: PayerStore;
		let b: PayerStore;

		beforeEach(async () => {
			stage = await newStage();
			[a, b] = [await stage.open(), await stage.open()];
		});
		afterEach(() => stage.end());

		describe("channels", () => {
			it("is empty at first", async () => {
				expect(await a.take(KEY)).toBeUndefined();
				expect(await a.take(KEY, WAIT_MS)).toBeUndefined();
				expect(await a.takeById(id(1), WAIT_MS)).toBeUndefined();
				expect(await a.list()).toEqual([]);
				expect(await a.list({ isClosed: true })).toEqual([]);
				expect(await a.list({ isClosed: false })).toEqual([]);
				expect(await a.damaged()).toEqual([]);
				expect(await a.counts(["x", "y"])).toEqual([0n, 0n]);
				expect(await a.receipts()).toEqual([]);
				expect(await a.paused()).toBeUndefined();
			});

			it("gives a channel to one holder at a time (I11)", async () => {
				const held = await added(a, 1);
				expect(held.record).toEqual(channel(1));
				expect(await b.take(KEY)).toBeUndefined();
				expect(await b.takeById(id(1))).toBeUndefined();
				expect(await a.takeById(id(1), WAIT_MS)).toBeUndefined();
				expect(await b.list()).toEqual([{ record: channel(1), isHeld: true }]);
				await a.release(id(1), held.fence);
				expect(await b.list()).toEqual([{ record: channel(1), isHeld: false }]);
				const next = await taken(b);
				expect(next.record).toEqual(held.record);
				expect(next.fence).toBeGreaterThan(held.fence);
			});

			it("takes the open channel of the key with the most left in it", async () => {
				const given = [
					channel(1, { consumed: "300" }),
					channel(2, { consumed: "200", signed: "900" }),
					channel(3, { uncertain: "250" }),
					channel(4, { status: "forgotten" }),
					channel(5, { status: "closed" }),
					channel(6, { key: `${KEY}:${KEY}` }),
				];
				for (const record of given) {
					const held = await a.add(record, 100);
					await a.release(record.state.channelId, held?.fence ?? 0);
				}
				const order = [await b.take(KEY), await b.take(KEY), await b.take(KEY), await b.take(KEY)];
				expect(order.map((held) => held?.record.state.channelId)).toEqual([id(2), id(3), id(1), undefined]);
				expect((await b.takeById(id(4)))?.record.status).toBe("forgotten");
				expect((await b.takeById(id(5)))?.record.status).toBe("closed");
				expect((await b.take(`${KEY}:${KEY}`))?.record.state.channelId).toBe(id(6));
			});

			it("refuses what is written under an older fence, and keeps what the newer holder wrote (I11)", async () => {
				const old = await added(a, 1);
				await a.release(id(1), old.fence);
				const held = await taken(b);
				await b.write({ channel: signed(held, 50) });
				const late = a.write({ channel: signed(old, 60), counters: [{ key: "x", add: 60n }] });
				await expect(late).rejects.toMatchObject({ code: "HOLDER_LOST", channelId: id(1) });
				await a.release(id(1), old.fence);
				await b.write({ channel: signed(held, 51) });
				expect(await signedOf(b, 1)).toBe("51");
				expect(await b.counts(["x"])).toEqual([0n]);
				await b.release(id(1), held.fence);
				await expect(b.write({ channel: signed(held, 52) })).rejects.toMatchObject({ code: "HOLDER_LOST" });
				await expect(b.write({ channel: { record: channel(9), fence: 1 } })).rejects.toMatchObject({
					code: "HOLDER_LOST",
				});
			});

			it("refuses a holder's own older fence too: it may have been another's in between (I11)", async () => {
				const old = await added(a, 1);
				await a.release(id(1), old.fence);
				const held = await taken(a);
				await expect(a.write({ channel: signed(old, 5) })).rejects.toMatchObject({ code: "HOLDER_LOST" });
				await a.release(id(1), old.fence);
				await a.write({ channel: signed(held, 5) });
			});

			it("never lets the signed amount fall, and counts nothing with it (I11)", async () => {
				const held = await added(a, 1);
				await a.write({ channel: signed(held, 10n ** 30n) });
				const lower = a.write({ channel: signed(held, 10n ** 30n - 1n), counters: [{ key: "x", add: 1n }] });
				await expect(lower).rejects.toMatchObject({ code: "SIGNED_LOWERED", channelId: id(1) });
				expect(await signedOf(a, 1)).toBe(String(10n ** 30n));
				expect(await a.counts(["x"])).toEqual([0n]);
				await a.write({ channel: signed(held, 10n ** 30n) });
			});

			it("refuses a record that could not be read back, and goes on", async () => {
				const held = await added(a, 1);
				const { state } = held.record;
				const wrong = { ...held, record: { ...held.record, state: { ...state, deposit: "-1" } } };
				await expect(a.write({ channel: wrong, counters: [{ key: "x", add: 1n }] })).rejects.toThrow();
				expect(await a.counts(["x"])).toEqual([0n]);
				await a.write({ channel: signed(held, 1) });
			});

			it("adds no more channels than may be open or forgotten", async () => {
				for (const [number, status] of (["open", "forgotten", "closed"] as const).entries()) {
					expect(await a.add(channel(number, { status }), 2)).toBeDefined();
				}
				expect(await b.add(channel(7), 2)).toBeUndefined();
				expect(await b.list()).toHaveLength(3);
				const held = await b.add(channel(7), 3);
				expect(await b.add(channel(8), 3)).toBeUndefined();
				if (held === undefined) throw new Error("not added");
				await b.write({ channel: { ...held, record: { ...held.record, status: "closed" } } });
				expect(await b.add(channel(8), 3)).toBeDefined();
				expect(await a.add(channel(9), 0)).toBeUndefined();
			});

			it("adds no more of them where many add at once", async () => {
				const adding = Array.from({ length: 20 }, (_, number) => (number % 2 ? a : b).add(channel(number), 5));
				expect((await Promise.all(adding)).filter((held) => held !== undefined)).toHaveLength(5);
				expect(await a.list()).toHaveLength(5);
			});

			it("takes a channel that is added again, with the higher of the signed amounts (I11)", async () => {
				const held = await added(a, 1);
				await a.write({ channel: signed(held, 70) });
				expect(await b.add(channel(1), 1)).toBeUndefined();
				await a.release(id(1), held.fence);
				const lower = await b.add(channel(1, { signed: "20", deposit: "5" }), 1);
				expect(lower?.record).toEqual(channel(1, { signed: "70" }));
				await b.release(id(1), lower?.fence ?? 0);
				const higher = await a.add(channel(1, { signed: "90", deposit: "5" }), 0);
				expect(higher?.record).toEqual(channel(1, { signed: "90" }));
				expect(higher?.fence).toBeGreaterThan(lower?.fence ?? 0);
				expect(await signedOf(b, 1)).toBe("90");
			});

			it("gives a channel away no more once it is forgotten or closed, and again when it is open", async () => {
				const held = await added(a, 1);
				await a.write({ channel: { ...held, record: channel(1, { status: "forgotten" }) } });
				await a.release(id(1), held.fence);
				expect(await b.take(KEY)).toBeUndefined();
				const again = await b.takeById(id(1));
				if (again === undefined) throw new Error("not taken");
				await b.write({ channel: { ...again, record: channel(1) } });
				await b.release(id(1), again.fence);
				expect((await a.take(KEY))?.record.state.channelId).toBe(id(1));
			});
		});

		describe("a closed channel", () => {
			/** Adds a channel, writes it as closed with so much signed, and gives it back. */
			const close = async (number: number, given: Parameters<typeof channel>[1]): Promise<void> => {
				const held = await a.add(channel(number, given), 100);
				if (held === undefined) throw new Error("not added");
				await a.write({ channel: { ...held, record: channel(number, { ...given, status: "closed" }) } });
				expect(await b.list()).toContainEqual(expect.objectContaining({ isHeld: true }));
				await a.release(id(number), held.fence);
			};

			it("is forgotten when neither a voucher nor a deposit was ever signed for it", async () => {
				await close(1, { fundableUntilMs: 0 });
				expect(await b.list()).toEqual([]);
				expect(await b.takeById(id(1))).toBeUndefined();
				await expect(a.confirm(id(1), 1)).rejects.toMatchObject({ code: "HOLDER_LOST" });
				expect(await b.add(channel(1), 1)).toBeDefined();
			});

			it("is kept otherwise", async () => {
				await close(1, { fundableUntilMs: 0, signed: "1" });
				await close(2, { fundableUntilMs: 1 });
				await close(3, {});
				expect((await b.list()).map(({ record }) => record.state.channelId)).toEqual([id(1), id(2), id(3)]);
				const open = await a.add(channel(4, { fundableUntilMs: 0 }), 100);
				await a.release(id(4), open?.fence ?? 0);
				expect((await b.takeById(id(4)))?.record).toEqual(channel(4, { fundableUntilMs: 0 }));
			});

			it("is listed by itself, or left out", async () => {
				await close(2, {});
				await close(4, { signed: "7" });
				for (const [number, status] of [
					[3, "forgotten"],
					[1, "open"],
				] as const) {
					const held = await a.add(channel(number, { status, key: `${KEY}${status}` }), 100);
					await a.release(id(number), held?.fence ?? 0);
				}
				const numbers = async (isClosed?: boolean) =>
					(await b.list(isClosed === undefined ? {} : { isClosed })).map(({ record }) =>
						Number(record.state.channelId),
					);
				expect(await numbers()).toEqual([1, 2, 3, 4]);
				expect(await numbers(false)).toEqual([1, 3]);
				expect(await numbers(true)).toEqual([2, 4]);
			});
		});

		describe("a wanted channel", () => {
			it("is asked for, and goes to who asked when it is given back", async () => {
				const held = await added(a, 1);
				const asked: string[] = [];
				a.onWanted((channelId) => {
					asked.push(channelId);
					void a.release(channelId, held.fence);
				});
				const next = await b.take(KEY, WAIT_MS);
				expect(next?.record.state.channelId).toBe(id(1));
				expect(asked).toEqual([id(1)]);
			});

			it("is asked for by its id too, and not once nobody listens", async () => {
				const held = await added(a, 1);
				const asked: string[] = [];
				const stop = a.onWanted(() => asked.push("stopped"));
				a.onWanted(() => {
					asked.push("listening");
					void a.release(id(1), held.fence);
				});
				stop();
				expect((await b.takeById(id(1), WAIT_MS))?.record.state.channelId).toBe(id(1));
				expect(asked).toEqual(["listening"]);
			});

			it("goes to those who wait in the order in which they came", async () => {
				const held = await added(a, 1);
				const wanted = new Promise<void>((resolve) => a.onWanted(() => resolve()));
				const order: number[] = [];
				const turn = async (store: PayerStore, number: number): Promise<void> => {
					const own = await store.take(KEY, WAIT_MS);
					order.push(number);
					await store.release(id(1), own?.fence ?? 0);
				};
				const c = await stage.open();
				const first = turn(b, 1);
				await wanted;
				const second = turn(c, 2);
				// Whatever is answered after it was asked later.
				await c.list();
				await a.release(id(1), held.fence);
				await Promise.all([first, second]);
				expect(order).toEqual([1, 2]);
			});

			it("is waited for only as long as was said", async () => {
				await added(a, 1);
				expect(await b.take(KEY, 30)).toBeUndefined();
				expect(await b.takeById(id(1), 30)).toBeUndefined();
			});

			it("is not taken for one who has stopped waiting", async () => {
				const held = await added(a, 1);
				const stopped = new AbortController();
				const wanted = new Promise<void>((resolve) => a.onWanted(() => resolve()));
				const waiting = b.take(KEY, WAIT_MS, stopped.signal);
				await wanted;
				stopped.abort(new Error("enough"));
				await expect(waiting).rejects.toThrow("enough");
				await expect(b.take(KEY, WAIT_MS, stopped.signal)).rejects.toThrow("enough");
				await a.release(id(1), held.fence);
				const c = await stage.open();
				expect(await c.take(KEY, WAIT_MS)).toBeDefined();
			});

			it("is free when its holder has closed", async () => {
				await added(a, 1);
				const waiting = b.take(KEY, WAIT_MS);
				await a.close();
				expect((await waiting)?.record.state.channelId).toBe(id(1));
			});

			it("is free when its holder was killed", async () => {
				const held = await added(a, 1);
				const waiting = b.take(KEY, WAIT_MS);
				await stage.kill(a);
				expect((await waiting)?.fence).toBeGreaterThan(held.fence);
			});
		});

		describe("counters", () => {
			it("counts with the channel, or neither", async () => {
				const held = await added(a, 1);
				const both = { channel: signed(held, 5), counters: [{ key: "day", add: 5n, max: 9n }] };
				expect(await a.write(both)).toBeUndefined();
				const refused = await a.write({
					channel: signed(held, 10),
					counters: [
						{ key: "ever", add: 5n },
						{ key: "day", add: 5n, max: 9n },
					],
				});
				expect(refused).toEqual({ key: "day", current: 5n, max: 9n });
				expect(await b.counts(["ever", "day", "other"])).toEqual([0n, 5n, 0n]);
				expect(await signedOf(b, 1)).toBe("5");
				expect(await b.write({ counters: [{ key: "day", add: 4n, max: 9n }] })).toBeUndefined();
				expect(await a.counts(["day"])).toEqual([9n]);
			});

			it("counts amounts of any size, up to the limit and not a unit further", async () => {
				const max = 2n ** 128n + 1n;
				expect(await a.write({ counters: [{ key: "x", add: 2n ** 128n, max }] })).toBeUndefined();
				expect(await a.write({ counters: [{ key: "x", add: 2n, max }] })).toMatchObject({ current: 2n ** 128n, max });
				expect(await a.write({ counters: [{ key: "x", add: 1n, max }] })).toBeUndefined();
				expect(await a.write({ counters: [{ key: "x", add: 0n, max: 0n }] })).toMatchObject({ current: max });
			});

			it("counts one key twice in a write as both together", async () => {
				const twice = (add: bigint) => [
					{ key: "x", add, max: 9n },
					{ key: "x", add, max: 9n },
				];
				expect(await a.write({ counters: twice(5n) })).toEqual({ key: "x", current: 5n, max: 9n });
				expect(await a.counts(["x"])).toEqual([0n]);
				expect(await a.write({ counters: twice(4n) })).toBeUndefined();
				expect(await a.counts(["x"])).toEqual([8n]);
			});

			it("lets nothing be taken off", async () => {
				await a.write({ counters: [{ key: "x", add: 5n }] });
				await expect(a.write({ counters: [{ key: "x", add: -1n }] })).rejects.toThrow();
				expect(await a.counts(["x"])).toEqual([5n]);
			});

			it("never counts above the limit where many write at once", async () => {
				const writes = Array.from({ length: 60 }, (_, number) =>
					(number % 2 ? a : b).write({ counters: [{ key: "x", add: 3n, max: 100n }] }),
				);
				const refusals = (await Promise.all(writes)).filter((refusal) => refusal !== undefined);
				expect(refusals).toHaveLength(60 - 33);
				expect(refusals[0]).toEqual({ key: "x", current: 99n, max: 100n });
				expect(await a.counts(["x"])).toEqual([99n]);
			});

			it("keeps the counts of windows that are over for a clock that is set back", async () => {
				await a.write({ counters: [{ key: "1970", add: 5n, max: 5n, untilMs: 1_000 }] });
				expect(await a.write({ counters: [{ key: "1970", add: 1n, max: 5n, untilMs: 1_000 }] })).toBeDefined();
				expect(await b.counts(["1970"])).toEqual([5n]);
			});
		});

		describe("pausing", () => {
			it("stops what counts for everybody, and nothing else", async () => {
				const held = await added(a, 1);
				await b.setPaused("by the operator");
				expect(await a.paused()).toBe("by the operator");
				const counting = a.write({ channel: signed(held, 5), counters: [{ key: "x", add: 5n }] });
				await expect(counting).rejects.toMatchObject({ code: "PAUSED", message: expect.stringContaining("operator") });
				expect(await signedOf(a, 1)).toBe("0");
				await a.write({ channel: signed(held, 4) });
				await a.setPaused(undefined);
				expect(await b.paused()).toBeUndefined();
				expect(await a.write({ channel: signed(held, 5), counters: [{ key: "x", add: 5n }] })).toBeUndefined();
			});

			it("stops what spends without counting", async () => {
				const held = await added(a, 1);
				expect(await a.write({ channel: signed(held, 1), isSpending: true })).toBeUndefined();
				await b.setPaused("by the operator");
				const paused = { code: "PAUSED", reason: "by the operator" };
				await expect(a.write({ channel: signed(held, 5), isSpending: true })).rejects.toMatchObject(paused);
				await expect(a.write({ isSpending: true })).rejects.toMatchObject(paused);
				expect(await signedOf(a, 1)).toBe("1");
				await a.write({ channel: signed(held, 2), isSpending: false });
				await b.setPaused(undefined);
				expect(await a.write({ channel: signed(held, 5), isSpending: true })).toBeUndefined();
				expect(await signedOf(b, 1)).toBe("5");
			});
		});

		describe("confirming", () => {
			it("lets the holder pay out of what was signed, as long as it is the holder (I11)", async () => {
				const held = await added(a, 1);
				await a.confirm(id(1), held.fence);
				await a.write({ channel: signed(held, 5), counters: [{ key: "x", add: 5n }] });
				await a.confirm(id(1), held.fence);
				const lost = { code: "HOLDER_LOST", channelId: id(1) };
				await expect(b.confirm(id(1), held.fence)).rejects.toMatchObject(lost);
				await expect(a.confirm(id(1), held.fence + 1)).rejects.toMatchObject(lost);
				await expect(a.confirm(id(2), 1)).rejects.toMatchObject({ code: "HOLDER_LOST", channelId: id(2) });
				await a.release(id(1), held.fence);
				await expect(a.confirm(id(1), held.fence)).rejects.toMatchObject(lost);
				const next = await taken(b);
				await expect(a.confirm(id(1), held.fence)).rejects.toMatchObject(lost);
				await b.confirm(id(1), next.fence);
				await b.release(id(1), next.fence);
				const again = await taken(a);
				await expect(a.confirm(id(1), held.fence)).rejects.toMatchObject(lost);
				await a.confirm(id(1), again.fence);
				expect(await a.list()).toEqual([{ record: channel(1, { signed: "5" }), isHeld: true }]);
			});

			it("lets nothing be paid while the store is paused, and again afterwards", async () => {
				const held = await added(a, 1);
				await b.setPaused("by the operator");
				const paused = { code: "PAUSED", reason: "by the operator" };
				await expect(a.confirm(id(1), held.fence)).rejects.toMatchObject(paused);
				await a.write({ channel: signed(held, 4) });
				await expect(a.confirm(id(1), held.fence)).rejects.toMatchObject(paused);
				await b.setPaused(undefined);
				await a.confirm(id(1), held.fence);
			});

			it("is refused to one that is closed", async () => {
				const held = await added(a, 1);
				await a.close();
				await expect(a.confirm(id(1), held.fence)).rejects.toMatchObject({ code: "PAYER_STORE" });
				await taken(b);
			});
		});

		describe("receipts", () => {
			it("are kept in the order in which they came, whatever the clock said", async () => {
				for (const number of [3, 1, 2]) await a.note(receipt(number));
				expect((await b.receipts()).map(({ amount }) => amount)).toEqual(["2", "1", "3"]);
				expect((await b.receipts(2)).map(({ amount }) => amount)).toEqual(["2", "1"]);
				expect((await b.receipts(1))[0]).toEqual(receipt(2));
			});

			it("are kept of each channel's last voucher only", async () => {
				const voucher = (number: number, of: number) => receipt(number, { kind: "voucher", channelId: id(of) });
				await a.note(voucher(1, 1));
				await a.note(receipt(2, { kind: "open", channelId: id(1) }));
				await a.note(voucher(3, 2));
				await b.note(voucher(4, 1));
				expect((await a.receipts()).map(({ amount }) => amount)).toEqual(["4", "3", "2"]);
				expect((await a.receipts(2)).map(({ amount }) => amount)).toEqual(["4", "3"]);
			});
		});

		describe("payments", () => {
			it("are used by one holder at a time, the oldest first, and only for what they pay (I11)", async () => {
				for (const number of [2, 1]) await a.keepPayment("x", payment(number));
				await a.keepPayment("x:1", payment(3));
				expect([await a.takePayment("x"), await b.takePayment("x"), await b.takePayment("y")]).toEqual([
					undefined,
					undefined,
					undefined,
				]);
				for (const number of [1, 2]) await a.freePayment("x", id(number));
				expect(await b.takePayment("x")).toEqual(payment(2));
				expect(await a.takePayment("x")).toEqual(payment(1));
				expect(await a.takePayment("x")).toBeUndefined();
				await b.freePayment("x:1", id(3));
				expect(await b.takePayment("x:1")).toBeUndefined();
				await a.freePayment("x:1", id(3));
				expect(await b.takePayment("x:1")).toEqual(payment(3));
			});

			it("are taken once where many take at once", async () => {
				for (let number = 0; number < 5; number++) {
					await a.keepPayment("x", payment(number));
					await a.freePayment("x", id(number));
				}
				const taken = await Promise.all(Array.from({ length: 12 }, (_, n) => (n % 2 ? a : b).takePayment("x")));
				const ids = taken.flatMap((one) => (one === undefined ? [] : [one.id]));
				expect(ids.toSorted()).toEqual(Array.from({ length: 5 }, (_, number) => id(number)));
			});

			it("are forgotten when they were used, and replaced where more is known of them", async () => {
				await a.keepPayment("x", { id: id(1), atMs: 1, type: "untold", fromBlock: 7 });
				await a.keepPayment("x", payment(1));
				await a.keepPayment("x", payment(2));
				await a.dropPayment("x", id(2));
				await a.dropPayment("x", id(2));
				for (const number of [1, 2]) await a.freePayment("x", id(number));
				expect([await b.takePayment("x"), await b.takePayment("x")]).toEqual([payment(1), undefined]);
			});

			it("of a holder that is gone, in whatever way, are found by the next", async () => {
				await a.keepPayment("x", payment(1));
				await stage.kill(a);
				await expect.poll(() => b.takePayment("x"), { timeout: WAIT_MS }).toEqual(payment(1));
				await b.close();
				const c = await stage.open();
				await expect.poll(() => c.takePayment("x"), { timeout: WAIT_MS }).toEqual(payment(1));
			});

			it("are the same for a call that is repeated", async () => {
				for (const number of [1, 2]) {
					await a.keepPayment("x", payment(number));
					await a.freePayment("x", id(number));
				}
				expect(await a.takePayment("x", "one call")).toEqual(payment(1));
				expect(await a.takePayment("x", "one call")).toEqual(payment(1));
				expect(await b.takePayment("x", "one call")).toEqual(payment(2));
			});

			it("are not to be used while spending is paused", async () => {
				await a.keepPayment("x", payment(1));
				await a.freePayment("x", id(1));
				await a.setPaused("by the operator");
				await expect(b.takePayment("x")).rejects.toMatchObject({ code: "PAUSED" });
				await a.setPaused(undefined);
				expect(await b.takePayment("x")).toEqual(payment(1));
			});

			it("that are none are refused, and nothing of them is said", async () => {
				const wrong = { ...payment(1), raw: "0x5ec7e7zz" as const };
				const refused = a.keepPayment("x", wrong);
				await expect(refused).rejects.toThrow();
				await expect(refused).rejects.not.toThrow(/5ec7e7/);
				expect(await a.takePayment("x")).toBeUndefined();
			});
		});

		describe("closing", () => {
			it("gives everything back, and is the end", async () => {
				await added(a, 1);
				await a.close();
				await a.close();
				expect(await b.take(KEY)).toBeDefined();
				const refused = { code: "PAYER_STORE" };
				await expect(a.take(KEY)).rejects.toMatchObject(refused);
				await expect(a.write({ counters: [{ key: "x", add: 1n }] })).rejects.toMatchObject(refused);
				await expect(a.list()).rejects.toMatchObject(refused);
				await expect(a.note(receipt(1))).rejects.toMatchObject(refused);
			});

			it("lets go of whoever waits for a channel", async () => {
				await added(a, 1);
				const wanted = new Promise<void>((resolve) => a.onWanted(() => resolve()));
				const outcome = b.take(KEY, WAIT_MS).then(
					() => "taken",
					({ code }) => code,
				);
				await wanted;
				await b.close();
				expect(await outcome).toBe("PAYER_STORE");
			});
		});

		it.runIf(isKept)("finds everything again when it is opened again", async () => {
			const held = await added(a, 1);
			await a.write({ channel: signed(held, 42), counters: [{ key: "x", add: 42n, max: 50n, untilMs: 1 }] });
			await added(b, 2);
			await b.note(receipt(1));
			await b.keepPayment("x", payment(1));
			await a.setPaused("for the night");
			await stage.closeAll();
			const c = await stage.open();
			expect(await c.list()).toEqual([
				{ record: channel(1, { signed: "42" }), isHeld: false },
				{ record: channel(2), isHeld: false },
			]);
			expect(await c.paused()).toBe("for the night");
			const early = await c.takeById(id(2));
			await expect(c.confirm(id(2), early?.fence ?? 0)).rejects.toMatchObject({ code: "PAUSED" });
			expect(await c.receipts()).toEqual([receipt(1)]);
			expect(await c.counts(["x"])).toEqual([42n]);
			await c.setPaused(undefined);
			expect(await c.takePayment("x")).toEqual(payment(1));
			expect(await c.write({ counters: [{ key: "x", add: 9n, max: 50n }] })).toMatchObject({ current: 42n });
			expect((await c.takeById(id(1)))?.fence).toBeGreaterThan(held.fence);
		});
	});
}

export async function added(store: PayerStore, number: number): Promise<HeldChannel> {
	const held = await store.add(channel(number), 100);
	if (held === undefined) throw new Error(`channel ${number} was not added`);
	return held;
}

export async function taken(store: PayerStore): Promise<HeldChannel> {
	const held = await store.take(KEY);
	if (held === undefined) throw new Error("no channel was taken");
	return held;
}

export async function signedOf(store: PayerStore, number: number): Promise<string | undefined> {
	const found = (await store.list()).find(({ record }) => record.state.channelId === id(number));
	return found?.record.state.signed;
}
