/** What news of the chain do to a channel, and what a reorganization does. Titles carry the invariants (I) of DESIGN. */
import { describe, expect, test } from "vitest";
import { problemType } from "../../src/protocol/index.ts";
import { available, type ChainState, type Channel, chainNow, reserved, unsettled } from "../../src/server/channel.ts";
import { closingVoucher, type LedgerEvent, mergedVoucherProblem, topUpProblem } from "../../src/server/ledger.ts";
import {
	accepted,
	applied,
	apply,
	BLOCK,
	begin,
	decide,
	effectsOf,
	expectRefused,
	hold,
	NOW,
	OWNER,
	observe,
	open,
	promise,
	publish,
	take,
	voucher,
} from "./ledgerSteps.ts";

const REORGANIZED = { reorganized: true };

/** What the chain may take back of a channel that has 100 accepted of a deposit of 1,000, 60 of them settled. */
const settled = applied(open(), observe({ settledOnChain: 60n }));
const finalized = applied(open(), observe({ settledOnChain: 100n, finalized: true }));
const fundingUndone = observe({ deposit: 0n, blockNumber: BLOCK + 1 });
const topUpUndone = observe({ deposit: 99n, blockNumber: BLOCK + 1 });
const settlementUndone = observe({ settledOnChain: 59n, blockNumber: BLOCK + 1 });
const closeUndone = observe({ settledOnChain: 100n, finalized: false, blockNumber: BLOCK + 1 });

const takenBack: readonly [what: string, channel: Channel, news: LedgerEvent][] = [
	["its funding", open(), fundingUndone],
	["a part of its deposit that a voucher relies on", open(), topUpUndone],
	["a settlement", settled, settlementUndone],
	["its close", finalized, closeUndone],
];

/** Channels of which only part was taken back, so that they would sell on. */
const frozenOnes = takenBack.filter(([, { finalized }]) => !finalized);

function chainOf(event: LedgerEvent): ChainState {
	if (event.type !== "chain-observed") throw new TypeError(`${event.type} says nothing of the chain`);
	return event.chain;
}

function accept(channel: Channel, event: LedgerEvent, now: number): Channel {
	return accepted(apply(channel, event, now)).channel;
}

describe("news of the chain", () => {
	test("as of an earlier block than the one known are old: they change nothing and make nothing fresh (D2, I10)", () => {
		const channel = applied(open(), observe({ deposit: 5_000n, settledOnChain: 60n }));
		for (const old of [{}, { deposit: 9_000n }, { closeRequestedAt: 7 }, { settledOnChain: 100n, finalized: true }]) {
			const step = accepted(apply(channel, observe({ ...old, blockNumber: BLOCK - 1 }), NOW + 9));
			expect(step).toEqual({ ok: true, channel, effects: [] });
			expect(step.channel).toBe(channel);
		}
	});

	test.each([
		["the same block as the one known", BLOCK],
		["a later block", BLOCK + 1],
	])("as of %s count (D2)", (_, blockNumber) => {
		const seen = accept(open(), observe({ deposit: 5_000n, closeRequestedAt: 7, blockNumber }), NOW + 9);
		expect(seen).toMatchObject({ deposit: 5_000n, closeRequestedAt: 7, blockNumber, chainReadAt: NOW + 9 });
	});

	test("as of an earlier block count where blocks were reorganized, and from there on later ones do (I10)", () => {
		const earlier = applied(open(), observe({ deposit: 500n, blockNumber: BLOCK - 10 }, REORGANIZED));
		expect(earlier).toMatchObject({ deposit: 500n, blockNumber: BLOCK - 10, behind: null });
		const later = applied(earlier, observe({ deposit: 600n, blockNumber: BLOCK - 9 }));
		expect(later).toMatchObject({ deposit: 600n, blockNumber: BLOCK - 9 });
		expect(applied(later, observe({ deposit: 700n, blockNumber: BLOCK - 10 }))).toEqual(later);
	});

	test("that are old say all the same which transaction closed a channel that is known as closed", () => {
		const closeTxHash = `0x${"c1".repeat(32)}` as const;
		const old = { ...observe({ finalized: true, blockNumber: BLOCK - 1 }), closeTxHash } as LedgerEvent;
		expect(applied(finalized, old)).toEqual({ ...finalized, closeTxHash });
		expect(applied(open(), old)).toEqual(open());
	});

	test("of a second close request are told, of the same one only once (I9)", () => {
		const asked = applied(open(), observe({ closeRequestedAt: 7 }));
		expect(effectsOf(asked, observe({ closeRequestedAt: 7, blockNumber: BLOCK + 1 }))).toEqual([]);
		expect(effectsOf(asked, observe({ closeRequestedAt: 9, blockNumber: BLOCK + 1 }))).toEqual(["close-requested"]);
	});
});

describe("a channel of which the chain has taken back", () => {
	test.each(takenBack)("%s is frozen and keeps what was relied on (I2, I10)", (_, channel, news) => {
		const step = accepted(apply(channel, news, NOW + 9));
		expect(step.effects).toEqual(["frozen"]);
		const { unsettledSince } = step.channel;
		expect(step.channel).toEqual({ ...channel, behind: chainOf(news), chainReadAt: NOW + 9, unsettledSince });
		expect(chainNow(step.channel)).toEqual(chainOf(news));
	});

	test.each(takenBack)("%s is so also by an earlier block that came with a reorganization", (_, channel, news) => {
		const earlier = { ...chainOf(news), blockNumber: BLOCK - 50 };
		const old: LedgerEvent = { type: "chain-observed", chain: earlier };
		expect(applied(channel, old)).toBe(channel);
		const step = accepted(apply(channel, { ...old, reorganized: true }));
		expect(step.effects).toEqual(["frozen"]);
		expect(step.channel.behind).toEqual(earlier);
	});

	test.each(frozenOnes)("%s sells nothing: no voucher, no request, no top-up (I10)", (_, channel, news) => {
		const frozen = applied(channel, news);
		for (const amount of [50n, 100n, 200n, 1_000n]) expectRefused(frozen, take(amount), "service-unavailable", 503);
		for (const price of [0n, 1n, 2_000n]) expectRefused(frozen, hold(price), "service-unavailable", 503);
		const refused = problemType("service-unavailable");
		expect(topUpProblem(frozen, 500n, 0n)).toMatchObject({ type: refused, status: 503 });
		expect(mergedVoucherProblem(frozen, 500n, voucher(200n), 0n, NOW)).toMatchObject({ type: refused, status: 503 });
	});

	test("its close sells nothing either: it was said to be closed for ever, and is closed again", () => {
		const frozen = applied(finalized, closeUndone);
		expectRefused(frozen, take(200n), "session/channel-finalized", 410);
		expectRefused(frozen, hold(0n), "session/channel-finalized", 410);
		expect(topUpProblem(frozen, 10n, 0n)?.type).toBe(problemType("session/channel-finalized"));
	});

	test.each(frozenOnes)(
		"%s serves and charges what was promised before, and what fails costs nothing (I7)",
		(_, ...of) => {
			const [channel, news] = of;
			const held = applied(channel, hold(30n), hold(20n), news);
			expect([reserved(held), available(held)]).toEqual([50n, 50n - held.spent]);
			const charged = applied(held, { type: "capture", reservation: promise(held, 30n), used: 25n });
			expect(charged).toMatchObject({ spent: held.spent + 25n, behind: held.behind });
			const failed = applied(charged, { type: "release", reservation: promise(held, 20n) });
			expect(failed).toMatchObject({ spent: held.spent + 25n, reservations: {}, behind: held.behind });
		},
	);

	test.each(takenBack)("%s is told once, whatever the chain shows next, until it has caught up", (_, channel, news) => {
		const frozen = applied(channel, news);
		const next = { ...chainOf(news), blockNumber: BLOCK + 2 };
		const step = accepted(apply(frozen, { type: "chain-observed", chain: next }));
		expect(step.effects).toEqual([]);
		expect(step.channel.behind).toEqual(next);
	});

	test.each(takenBack)("%s thaws when the chain shows it again (I10)", (_, channel, news) => {
		const { deposit, settledOnChain, closeRequestedAt, finalized } = channel;
		const again = { deposit, settledOnChain, closeRequestedAt, finalized, blockNumber: BLOCK + 3 };
		const frozen = applied(channel, news);
		const step = accepted(apply(frozen, { type: "chain-observed", chain: again }, NOW + 9));
		expect(step.effects).toEqual(["thawed"]);
		const { generation, unsettledSince } = step.channel;
		expect(step.channel).toEqual({
			...channel,
			...again,
			behind: null,
			chainReadAt: NOW + 9,
			generation,
			unsettledSince,
		});
		if (!finalized) expect(applied(step.channel, take(200n)).acceptedCumulative).toBe(200n);
	});

	test.each(frozenOnes)("%s stays frozen by news that are older than what froze it", (_, channel, news) => {
		const frozen = applied(channel, news);
		expect(applied(frozen, observe({ settledOnChain: 60n, blockNumber: BLOCK }))).toBe(frozen);
	});

	test("two things stays frozen until it has both again", () => {
		const frozen = applied(settled, observe({ deposit: 99n, settledOnChain: 0n, blockNumber: BLOCK + 1 }));
		const half = applied(frozen, observe({ deposit: 1_000n, settledOnChain: 0n, blockNumber: BLOCK + 2 }));
		expectRefused(half, take(200n), "service-unavailable", 503);
		expect(effectsOf(half, observe({ settledOnChain: 60n, blockNumber: BLOCK + 3 }))).toEqual(["thawed"]);
	});

	test("anything never shows less in its own fields, whatever comes in whatever order (I2)", () => {
		const seen = [fundingUndone, settlementUndone, topUpUndone, closeUndone, fundingUndone];
		let channel = applied(open({ spent: 40n }), observe({ settledOnChain: 100n, finalized: true }));
		for (const [n, event] of seen.entries()) {
			const before = channel;
			const chain = { ...chainOf(event), blockNumber: BLOCK + 10 - n };
			channel = applied(before, { type: "chain-observed", chain, reorganized: true });
			expect(chainNow(channel)).toEqual(chain);
			expect(channel).toMatchObject({ acceptedCumulative: 100n, spent: 40n, settledOnChain: 100n, finalized: true });
		}
	});
});

describe("what is owed on a frozen channel", () => {
	test("is what the chain shows: a settlement that was undone is owed again (I8)", () => {
		expect(unsettled(settled)).toBe(40n);
		const undone = applied(settled, observe({ settledOnChain: 0n, blockNumber: BLOCK + 1 }));
		expect(unsettled(undone)).toBe(100n);
		expect(unsettled(applied(undone, observe({ settledOnChain: 60n, blockNumber: BLOCK + 2 })))).toBe(40n);
	});

	test("is owed again where a close was undone, and nothing while it stands (I8)", () => {
		const closed = applied(open(), observe({ settledOnChain: 80n, finalized: true }));
		expect(unsettled(closed)).toBe(0n);
		expect(unsettled(applied(closed, observe({ settledOnChain: 0n, blockNumber: BLOCK + 1 })))).toBe(100n);
	});

	test("is nothing where the funding is gone, and nothing where the only voucher exceeds what is left", () => {
		expect(unsettled(applied(open(), fundingUndone))).toBe(0n);
		// The escrow takes no voucher above the deposit, not even for the part that is there.
		expect(unsettled(applied(open(), topUpUndone))).toBe(0n);
		expect(unsettled(applied(open(), observe({ deposit: 100n, blockNumber: BLOCK + 1 })))).toBe(100n);
	});

	test("grows old again from when it is owed again", () => {
		const paid = accept(open(), observe({ settledOnChain: 100n }), NOW);
		expect(paid.unsettledSince).toBeNull();
		const undone = accept(paid, observe({ settledOnChain: 0n, blockNumber: BLOCK + 1 }), NOW + 5);
		expect(undone.unsettledSince).toBe(NOW + 5);
		const again = accept(undone, observe({ settledOnChain: 100n, blockNumber: BLOCK + 2 }), NOW + 9);
		expect(again.unsettledSince).toBeNull();
	});

	test("is as old as it was before where only a part had been settled", () => {
		const undone = accept(settled, observe({ settledOnChain: 0n, blockNumber: BLOCK + 1 }), NOW + 5);
		expect(undone.unsettledSince).toBe(settled.unsettledSince);
		const again = accept(undone, observe({ settledOnChain: 60n, blockNumber: BLOCK + 2 }), NOW + 9);
		expect(again.unsettledSince).toBe(settled.unsettledSince);
	});

	test("is owed since no time while nothing can be captured", () => {
		const gone = accept(open(), fundingUndone, NOW + 5);
		expect(gone.unsettledSince).toBeNull();
		expect(accept(gone, observe({ blockNumber: BLOCK + 2 }), NOW + 9).unsettledSince).toBe(NOW + 9);
	});
});

describe("a frozen channel", () => {
	test("is closed by its client where the chain would pay the voucher (D6, I8)", () => {
		const frozen = applied(settled, settlementUndone);
		const decided = applied(frozen, begin(80n), decide(80n), publish(80n));
		expect(decided).toMatchObject({ closingBy: OWNER, publishedCumulative: 80n, acceptedCumulative: 100n });
		const step = accepted(apply(decided, observe({ settledOnChain: 80n, finalized: true, blockNumber: BLOCK + 2 })));
		expect(step.effects).toEqual(["thawed", "closed"]);
		expect(step.channel).toMatchObject({ settledOnChain: 80n, finalized: true, closingBy: null, behind: null });
	});

	test("is closed by the server where the chain would pay the voucher (I8)", () => {
		const retired = applied(settled, settlementUndone, { type: "retire-begun", owner: OWNER }, decide(100n));
		expect(retired).toMatchObject({ closingBy: OWNER, acceptedCumulative: 100n });
	});

	test("whose close was undone is closed again, and not told of as closed a second time", () => {
		const undone = applied(finalized, closeUndone);
		for (const event of [begin(100n), { type: "retire-begun", owner: OWNER } as const]) {
			const again = applied(undone, event, decide(100n));
			const step = accepted(apply(again, observe({ settledOnChain: 100n, finalized: true, blockNumber: BLOCK + 2 })));
			expect(step.effects).toEqual(["thawed"]);
			expect(step.channel).toMatchObject({ finalized: true, closingBy: null, behind: null });
		}
	});

	test("is not closed with more than the chain would pay now: that has to wait, it is nobody's fault (I10)", () => {
		const short = applied(open({ spent: 90n }), topUpUndone);
		expectRefused(short, begin(100n), "service-unavailable", 503);
		expectRefused(short, { type: "retire-begun", owner: OWNER }, "service-unavailable", 503);
		// What the client says is too little, and what was accepted is too much.
		const begun = applied(short, begin(50n));
		const { cumulativeAmount } = closingVoucher(begun, voucher(50n));
		expect(cumulativeAmount).toBe(100n);
		expectRefused(begun, decide(cumulativeAmount), "service-unavailable", 503);
		expect(applied(short, begin(95n), decide(95n)).closingBy).toBe(OWNER);
		// More than there ever was is the client's fault.
		expectRefused(short, begin(1_001n), "session/amount-exceeds-deposit", 402);
	});

	test("lets a close go on that had begun, and that fails", () => {
		const waiting = applied(settled, hold(30n), begin(100n), settlementUndone);
		const reservation = promise(waiting, 30n);
		expect(effectsOf(waiting, { type: "capture", reservation, used: 30n })).toEqual(["drained"]);
		const failed = applied(waiting, { type: "close-failed" });
		expect(failed).toMatchObject({ closingBy: null, behind: waiting.behind });
	});

	test("tells of a close request that the chain shows meanwhile, once: the grace period runs (I9)", () => {
		const asked = { closeRequestedAt: 7, settledOnChain: 0n };
		const step = accepted(apply(settled, observe({ ...asked, blockNumber: BLOCK + 1 })));
		expect(step.effects).toEqual(["frozen", "close-requested"]);
		expect(effectsOf(step.channel, observe({ ...asked, blockNumber: BLOCK + 2 }))).toEqual([]);
		const thawed = accepted(apply(step.channel, observe({ ...asked, settledOnChain: 60n, blockNumber: BLOCK + 3 })));
		expect(thawed.effects).toEqual(["thawed"]);
		expectRefused(thawed.channel, take(200n), "session/channel-closing", 409);
		const later = applied(settled, settlementUndone);
		expect(effectsOf(later, observe({ ...asked, blockNumber: BLOCK + 2 }))).toEqual(["close-requested"]);
	});

	test("that the chain shows closed is closed: its client is not told to wait, what runs is abandoned, it is told once (I10)", () => {
		const held = applied(open(), hold(50n), begin(100n));
		const reservation = promise(held, 50n);
		const withdrawn = observe({ deposit: 40n, finalized: true, blockNumber: BLOCK + 1 });
		const step = accepted(apply(held, withdrawn));
		expect(step.effects).toEqual(["frozen", "closed"]);
		expect(step.channel).toMatchObject({ deposit: 1_000n, finalized: true, closingBy: null, reservations: {} });
		expect(unsettled(step.channel)).toBe(0n);
		expectRefused(step.channel, { type: "capture", reservation, used: 50n }, "session/channel-closing", 409);
		const closed: readonly LedgerEvent[] = [take(200n), hold(0n), begin(100n), { type: "retire-begun", owner: OWNER }];
		for (const event of closed) expectRefused(step.channel, event, "session/channel-finalized", 410);
		expect(effectsOf(step.channel, observe({ deposit: 40n, finalized: true, blockNumber: BLOCK + 2 }))).toEqual([]);
	});

	test("knows as published what stood in a transaction that the chain shows meanwhile (D7)", () => {
		const channel = open({ acceptedCumulative: 900n });
		const frozen = applied(channel, observe({ deposit: 500n, settledOnChain: 60n, blockNumber: BLOCK + 1 }));
		expectRefused(frozen, begin(60n, "fresh"), "session/insufficient-balance", 402);
		const thawed = applied(frozen, observe({ blockNumber: BLOCK + 2 }));
		expectRefused(thawed, hold(1n, { paidBy: voucher(60n) }), "session/insufficient-balance", 402);
		expect(reserved(applied(thawed, hold(1n, { paidBy: voucher(61n) })))).toBe(1n);
	});

	test("catches up with a chain that is ahead of the store when it thaws, and not before (D10)", () => {
		const closed = applied(open(), observe({ settledOnChain: 100n, finalized: true }));
		const frozen = applied(closed, observe({ settledOnChain: 400n, blockNumber: BLOCK + 1 }));
		expect(frozen).toMatchObject({ acceptedCumulative: 100n, settledOnChain: 100n });
		const thawed = applied(frozen, observe({ settledOnChain: 400n, finalized: true, blockNumber: BLOCK + 2 }));
		expect(thawed).toMatchObject({ acceptedCumulative: 400n, spent: 400n, settledOnChain: 400n });
	});
});
