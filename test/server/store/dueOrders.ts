/** The part of the conformance suite about what is due for settlement or close, in which order. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Channel } from "../../../src/server/channel.ts";
import type { ChannelStore, DueOrder } from "../../../src/server/store/store.ts";
import { channel, collect, id, MINUTE_MS } from "./records.ts";
import type { StoreUnderTest } from "./scans.ts";
import { putChannels } from "./turns.ts";

const NOW = 1_700_000_000_000;

/** A rank for each channel that is due, lower ones first: what the orders mean, said once more. */
const RANK: Readonly<Record<DueOrder, (channel: Channel) => number | undefined>> = {
	unsettled: (one) => (owed(one) > 0n ? -Number(owed(one)) : undefined),
	idle: (one) => (chain(one).finalized ? undefined : Math.max(one.lastActivityAt, one.deferredAt)),
	age: (one) =>
		chain(one).finalized || one.unsettledSince === null ? undefined : Math.max(one.unsettledSince, one.deferredAt),
	contract: (one) => (one.contractSigner ? RANK.age(one) : undefined),
	closing: (one) =>
		RANK.age(one) === undefined || chain(one).closeRequestedAt === 0 ? undefined : chain(one).closeRequestedAt,
};
const ORDERS = Object.keys(RANK) as DueOrder[];

function chain(one: Channel) {
	return one.behind ?? one;
}

function owed({ acceptedCumulative, ...one }: Channel): bigint {
	const { deposit, settledOnChain, finalized } = one.behind ?? one;
	// The escrow refuses a voucher above the deposit whole.
	if (finalized || acceptedCumulative > deposit || acceptedCumulative < settledOnChain) return 0n;
	return acceptedCumulative - settledOnChain;
}

function expected(order: DueOrder, all: Iterable<Channel>): string[] {
	const ranked = [...all].flatMap((one) => {
		const rank = RANK[order](one);
		return rank === undefined ? [] : [{ rank, id: one.channelId }];
	});
	return ranked.sort((a, b) => a.rank - b.rank || (a.id < b.id ? -1 : 1)).map((one) => one.id);
}

const time = fc.nat(10 * MINUTE_MS);
const seldom = fc.nat(9).map((n) => n === 0);
const chainState = fc.record({
	deposit: fc.bigInt(0n, 1_500n),
	settledOnChain: fc.bigInt(0n, 500n),
	closeRequestedAt: fc.oneof(fc.constant(0), fc.nat(600)),
	finalized: seldom,
	blockNumber: fc.nat(100),
});
/** One of few channels, as some turn leaves it. */
const version: fc.Arbitrary<Channel> = fc
	.record({
		n: fc.nat(5),
		chain: chainState,
		rest: fc.record({
			behind: fc.option(chainState, { freq: 4 }),
			acceptedCumulative: fc.bigInt(0n, 1_000n),
			lastActivityAt: time,
			unsettledSince: fc.option(time, { freq: 3 }),
			deferredAt: fc.oneof(fc.constant(0), time),
			contractSigner: fc.boolean(),
		}),
	})
	.map((made) => channel(made.n, { ...made.chain, ...made.rest }));

async function ids(store: ChannelStore, order: DueOrder): Promise<string[]> {
	return (await collect(store.due(order))).map(({ channelId }) => channelId);
}

export function describeDueOrders({ open, reopen = async (store) => store }: StoreUnderTest): void {
	describe("what is due", () => {
		it("comes in every order as it is after any changes, also when the store was reopened in between", async () => {
			await fc.assert(
				fc.asyncProperty(fc.array(version, { maxLength: 24, size: "max" }), fc.nat(24), async (versions, restartAt) => {
					let store = await open();
					const last = new Map<string, Channel>();
					for (const [i, one] of versions.entries()) {
						last.set(one.channelId, one);
						await putChannels(store, [one]);
						if (i === restartAt) store = await reopen(store);
					}
					for (const order of ORDERS) expect(await ids(store, order), order).toEqual(expected(order, last.values()));
					await store.close();
				}),
				{ numRuns: 30 },
			);
		});

		it("is owed for longest first, and for a contract's signature apart", async () => {
			const store = await open();
			const since = (minutes: number) => ({ acceptedCumulative: 5n, unsettledSince: NOW - minutes * MINUTE_MS });
			await putChannels(store, [
				channel(1, since(3)),
				channel(2, { ...since(900), contractSigner: true }),
				channel(3, since(3.2)),
				channel(4, { ...since(1), contractSigner: true }),
				channel(5, { contractSigner: true }),
				channel(6, { ...since(5_000), finalized: true }),
			]);
			expect(await ids(store, "age")).toEqual([2, 3, 1, 4].map(id));
			expect(await ids(store, "contract")).toEqual([2, 4].map(id));
			await store.close();
		});

		it("is, where the payer asked for the close, the earliest request first, whatever it was deferred for (I9)", async () => {
			const store = await open();
			const asked = (closeRequestedAt: number) => ({ acceptedCumulative: 5n, closeRequestedAt });
			await putChannels(store, [
				channel(1, asked(1_700_000_300)),
				channel(2, { ...asked(1_700_000_000), deferredAt: NOW + 900 * MINUTE_MS }),
				channel(3, asked(1_700_000_010)),
				channel(4, { closeRequestedAt: 1_600_000_000 }),
				channel(5, { acceptedCumulative: 5n }),
			]);
			expect(await ids(store, "closing")).toEqual([2, 3, 1].map(id));
			// The request was withdrawn, and the money captured.
			await putChannels(store, [channel(2, asked(0)), channel(3, { ...asked(1_700_000_010), settledOnChain: 5n })]);
			expect(await ids(store, "closing")).toEqual([1].map(id));
			await store.close();
		});

		it("goes to the end when it was deferred, where it is looked at by time, and keeps its place by value", async () => {
			const store = await open();
			const all = [1, 2, 3].map((n) => {
				const at = NOW + n * MINUTE_MS;
				const acceptedCumulative = BigInt(100 - n);
				return channel(n, { acceptedCumulative, unsettledSince: at, lastActivityAt: at, contractSigner: true });
			});
			await putChannels(store, all);
			await putChannels(
				store,
				all.slice(0, 1).map((one) => ({ ...one, deferredAt: NOW + 60 * MINUTE_MS })),
			);
			for (const order of ["idle", "age", "contract"] as const) {
				expect(await ids(store, order), order).toEqual([2, 3, 1].map(id));
			}
			expect(await ids(store, "unsettled")).toEqual([1, 2, 3].map(id));
			await store.close();
		});

		it("is what the chain shows now, where a reorganization took back what was relied on (I1)", async () => {
			const store = await open();
			const { deposit, settledOnChain, closeRequestedAt, finalized, blockNumber } = channel(0);
			const now = { deposit, settledOnChain, closeRequestedAt, finalized, blockNumber };
			const owing = { acceptedCumulative: 50n, unsettledSince: NOW };
			await putChannels(store, [
				// A close that was taken back: the money is owed again.
				channel(1, { ...owing, settledOnChain: 50n, finalized: true, behind: now }),
				// A deposit that was taken back, all but 20: the voucher can't be settled.
				channel(2, { ...owing, behind: { ...now, deposit: 20n } }),
				// A close request that was taken back, and one that came instead.
				channel(3, { ...owing, closeRequestedAt: 5, behind: now }),
				channel(4, { ...owing, behind: { ...now, closeRequestedAt: 6, settledOnChain: 1n } }),
				channel(5, { ...owing, unsettledSince: null, behind: { ...now, deposit: 0n } }),
			]);
			expect(await ids(store, "unsettled")).toEqual([1, 3, 4].map(id));
			expect(await ids(store, "idle")).toEqual([1, 2, 3, 4, 5].map(id));
			expect(await ids(store, "closing")).toEqual([4].map(id));
			await store.close();
		});
	});
}
