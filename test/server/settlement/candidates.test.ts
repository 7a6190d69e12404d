import { describe, expect, it } from "vitest";
import { type Channel, unsettled } from "../../../src/server/channel.ts";
import type { EngineContext } from "../../../src/server/context.ts";
import { Backoff } from "../../../src/server/settlement/backoff.ts";
import { findClosing, findDue } from "../../../src/server/settlement/candidates.ts";
import { rowOf } from "../../../src/server/settlement/outcome.ts";
import { settlementSchema } from "../../../src/server/settlement/policy.ts";
import { Settler } from "../../../src/server/settlement/settler.ts";
import { claiming, targetOf } from "../../../src/server/settlement/targets.ts";
import { MemoryStore } from "../../../src/server/store/memoryStore.ts";
import { channel as record } from "../store/records.ts";

const { chainId, escrow, token: currency, payee: recipient } = record(0);
const NOW = 1_800_000_000_000;
const OTHER_TOKEN = `0x${"dd".repeat(20)}` as const;
/** More than one run takes. */
const MANY = 2_100;

/** A store of these channels, and what of a context the choice of channels looks at. */
async function contextOf(channels: readonly Channel[], more: Partial<EngineContext> = {}): Promise<EngineContext> {
	const store = new MemoryStore();
	for (const channel of channels)
		await store.transact({ channel: channel.channelId }, () => ({ value: 0, writes: { channel } }));
	const parts = {
		store,
		terms: { chainId, escrow, currency, recipient },
		recloses: new Set(),
		settling: new Map(),
		closes: new Map(),
		transactions: { pendingEntries: () => [], resending: () => [] },
		limits: { settleEveryMs: 1_000_000 },
		closeGraceSeconds: 900,
		now: () => NOW,
		log: { info: () => undefined, warn: () => undefined, error: () => undefined },
		...more,
	};
	return parts as unknown as EngineContext;
}

const owing = (n: number, amount: bigint, change: Partial<Channel> = {}) =>
	record(n, { acceptedCumulative: amount, ...change });

describe("channels whose payers have asked the chain to close", () => {
	it("are found however many ask before them for nothing: those that owe most (I9)", async () => {
		const dust = Array.from({ length: 2 * MANY }, (_, n) => owing(n, 1n, { closeRequestedAt: 1_000 + n }));
		const last = owing(90_000, 9_000n, { closeRequestedAt: 1_000_000 });
		const found = await findClosing(await contextOf([...dust, last]));
		expect(found.length).toBeLessThan(dust.length);
		expect(found[0]?.channelId).toBe(last.channelId);
	});

	it("are found behind as many that have just failed", async () => {
		const failed = Array.from({ length: 2 * MANY }, (_, n) => owing(n, 9_000n, { closeRequestedAt: 1_000 }));
		const last = owing(90_000, 5n, { closeRequestedAt: 1_000_000 });
		const held = new Set(failed.map(({ channelId }) => channelId));
		const found = await findClosing(await contextOf([...failed, last]), ({ channelId }) => !held.has(channelId));
		expect(found.map(({ channelId }) => channelId)).toEqual([last.channelId]);
	});
});

describe("what is due", () => {
	const settings = settlementSchema.parse({ maxUnsettled: 1_000n });
	const due = async (channels: readonly Channel[], backoff = new Backoff(15_000)) => {
		const { candidates } = await findDue(await contextOf(channels), settings, backoff, NOW);
		return candidates.map(({ channel }) => channel.channelId);
	};

	it("is found behind any number of channels that are held back", async () => {
		const failing = Array.from({ length: MANY }, (_, n) => owing(n, 5_000n, { openedAt: 1_000 }));
		const sound = owing(90_000, 2_000n, { openedAt: 1_700_000_000_000 });
		const backoff = new Backoff(15_000);
		for (const channel of failing) {
			const target = targetOf(channel, { whenIdle: false, single: false });
			backoff.note({ target, row: rowOf(target, "failed"), fault: "row" }, NOW);
		}
		expect(await due([...failing, sound], backoff)).toEqual([sound.channelId]);
	});

	it("is found behind any number of another token's channels with longer numbers", async () => {
		const others = Array.from({ length: 21_000 }, (_, n) => owing(n, 10n ** 18n, { token: OTHER_TOKEN }));
		const own = owing(90_000, 2_000n);
		expect(await due([...others, own])).toEqual([own.channelId]);
	});
});

describe("a pause after a failure", () => {
	it("is short where the payer has asked to close, whatever it was before, and a clock set back ends it", () => {
		const backoff = new Backoff(15_000);
		const target = targetOf(owing(1, 5n), { whenIdle: false, single: false });
		const { channelId } = target.channel;
		for (let n = 0; n < 9; n++) backoff.note({ target, row: rowOf(target, "failed"), fault: "row", burntWei: 7n }, NOW);
		expect(backoff.isHeldBack(channelId, NOW + 3_000_000)).toBe(true);
		expect(backoff.isHeldBack(channelId, NOW + 50_000, 56_000)).toBe(true);
		expect(backoff.isHeldBack(channelId, NOW + 56_000, 56_000)).toBe(false);
		expect(backoff.isHeldBack(channelId, NOW - 1)).toBe(false);
		expect(backoff.failuresOf(channelId)).toMatchObject({ failures: 9, at: NOW, burntWei: 63n });
	});

	it("is never for what the account or the node is to blame for", () => {
		const backoff = new Backoff(15_000);
		const target = targetOf(owing(1, 5n), { whenIdle: false, single: false });
		for (const fault of ["node", "account"] as const)
			backoff.note({ target, row: rowOf(target, "failed"), fault }, NOW);
		expect(backoff.isHeldBack(target.channel.channelId, NOW)).toBe(false);
	});
});

describe("a settler that is told of close requests", () => {
	it("loses none that comes while it looks at others (I9)", async () => {
		const channels = [owing(1, 5n), owing(2, 6n)];
		const context = await contextOf(channels);
		const asked: string[] = [];
		const settler = new Settler(context, settlementSchema.parse({}));
		const read = context.store.channel.bind(context.store);
		context.store.channel = async (channelId) => {
			asked.push(channelId);
			// The second request comes while the first is being looked at.
			if (asked.length === 1) settler.urgent(channels[1] as Channel);
			await read(channelId);
			return undefined;
		};
		settler.start();
		settler.urgent(channels[0] as Channel);
		await expect.poll(() => asked).toEqual(channels.map(({ channelId }) => channelId));
		await settler.stop(1_000);
	});
});

describe("channels that are taken for a transaction", () => {
	it("are taken, and what is to be known of them is, before anybody else can look", async () => {
		const channel = owing(1, 5n);
		const context = await contextOf([channel]);
		const target = targetOf(channel, { whenIdle: false, single: false });
		let isBegun = false;
		const working = claiming(context, [target], async (free) => {
			isBegun = true;
			return free.map((one) => unsettled(one.channel));
		});
		expect(isBegun).toBe(true);
		expect(context.settling.has(channel.channelId)).toBe(true);
		expect(await claiming(context, [target], async (free) => free.length)).toBe(0);
		expect(await working).toEqual([5n]);
		expect(context.settling.size).toBe(0);
	});
});
