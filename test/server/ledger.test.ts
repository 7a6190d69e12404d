/** What each event does to a channel, and what refuses it. Titles carry the invariants (I) and decisions (D) of DESIGN. */
import { describe, expect, test } from "vitest";
import { problemType } from "../../src/protocol/index.ts";
import { available, type ChainState, type Channel, reserved, unsettled } from "../../src/server/channel.ts";
import {
	closingVoucher,
	ImpossibleChainError,
	type LedgerEvent,
	mergedVoucherProblem,
	requiredCumulative,
	topUpProblem,
} from "../../src/server/ledger.ts";
import {
	accepted,
	applied,
	apply,
	begin,
	channelId,
	decide,
	effectsOf,
	expectRefused,
	hold,
	identity,
	NOW,
	OTHER,
	OWNER,
	observe,
	onChain,
	open,
	promise,
	publish,
	refusalOf,
	signatureOf,
	take,
	voucher,
} from "./ledgerSteps.ts";

const closing = applied(open(), begin(100n));
const forced = applied(open(), observe({ closeRequestedAt: 1_800_000_000 }));
const finalized = applied(open(), observe({ settledOnChain: 100n, finalized: true }));

describe("opening", () => {
	const opened = (change: Partial<ChainState> = {}, amount = 30n, minimum = 10n): LedgerEvent => ({
		type: "opened",
		identity,
		chain: { ...onChain, ...change },
		voucher: voucher(amount, "opening"),
		minimum,
	});

	test("takes the deposit from the chain and the first voucher as accepted, with nothing spent (D12)", () => {
		expect(applied(undefined, opened())).toMatchObject({
			...identity,
			...onChain,
			chainReadAt: NOW,
			acceptedCumulative: 30n,
			voucherSignature: signatureOf(30n),
			spent: 0n,
			reservations: {},
			generation: 0,
			behind: null,
			contractSigner: false,
			unsettledSince: NOW,
			deferredAt: 0,
			challengeIds: ["opening"],
			closingBy: null,
			openedAt: NOW,
			lastActivityAt: NOW,
		});
	});

	test("takes a first voucher for nothing and one for the whole deposit", () => {
		expect(applied(undefined, opened({}, 0n)).acceptedCumulative).toBe(0n);
		expect(applied(undefined, opened({}, 1_000n)).acceptedCumulative).toBe(1_000n);
	});

	test("refuses a first voucher above the deposit (I1)", () => {
		const refusal = expectRefused(undefined, opened({}, 1_001n), "session/amount-exceeds-deposit", 402);
		expect(refusal).toMatchObject({ channelId, cumulativeAmount: "1001", deposit: "1000" });
	});

	test("refuses a deposit that leaves less than the price of one unit unsettled (draft: Open Verification 4)", () => {
		expectRefused(undefined, opened({ settledOnChain: 991n }), "session/insufficient-balance", 402);
		expect(applied(undefined, opened({ settledOnChain: 990n })).spent).toBe(990n);
	});

	test("refuses a channel that is closing or closed on chain", () => {
		expectRefused(undefined, opened({ closeRequestedAt: 5 }), "session/channel-closing", 409);
		expectRefused(undefined, opened({ finalized: true }), "session/channel-finalized", 410);
		expectRefused(undefined, opened({ finalized: true, closeRequestedAt: 5 }), "session/channel-finalized", 410);
	});

	test("counts what was settled before as accepted and spent, never as credit (D10)", () => {
		const adopted = applied(undefined, opened({ settledOnChain: 500n }, 400n));
		expect(adopted).toMatchObject({ acceptedCumulative: 500n, spent: 500n, settledOnChain: 500n });
		expect(available(adopted)).toBe(0n);
		expect(available(applied(undefined, opened({ settledOnChain: 500n }, 540n)))).toBe(40n);
	});

	test("with a voucher that was settled already does not make its challenge one that may close or spend (D7)", () => {
		const adopted = applied(undefined, opened({ settledOnChain: 500n }, 500n));
		expectRefused(adopted, begin(500n, "opening"), "session/insufficient-balance", 402);
	});

	test.each([
		["the price of this request is left to spend", 400n, 0n, 30n, 370n, 400n],
		["nothing is left when the request is about the channel alone", 400n, 0n, 0n, 400n, 400n],
		["less is left where the voucher adds less than the price", 400n, 390n, 30n, 390n, 400n],
		["nothing is left of a voucher that was settled", 400n, 500n, 30n, 500n, 500n],
		["nothing is made up where nothing was signed", 0n, 0n, 30n, 0n, 0n],
	])("of a channel of which nothing is remembered: %s (D10)", (_, amount, settledOnChain, price, spent, accepted) => {
		const event = { ...opened({ settledOnChain }, amount), unaccounted: { price } } as LedgerEvent;
		expect(applied(undefined, event)).toMatchObject({ acceptedCumulative: accepted, spent, settledOnChain });
	});

	test("of a channel of which nothing is remembered refuses what any opening refuses (D10)", () => {
		const adopted = (change: Partial<ChainState>, amount: bigint): LedgerEvent =>
			({ ...opened(change, amount, 0n), unaccounted: { price: 10n } }) as LedgerEvent;
		expectRefused(undefined, adopted({}, 1_001n), "session/amount-exceeds-deposit", 402);
		expectRefused(undefined, adopted({ closeRequestedAt: 5 }, 10n), "session/channel-closing", 409);
		expectRefused(undefined, adopted({ finalized: true }, 10n), "session/channel-finalized", 410);
		expect(() => apply(open(), adopted({}, 10n))).toThrow("open already");
	});

	test("with a settled voucher adopts a channel that its sender can neither spend nor close (D7, D10)", () => {
		const event = { ...opened({ settledOnChain: 500n }, 400n), unaccounted: { price: 100n } } as LedgerEvent;
		const adopted = applied(undefined, event);
		const paidBy = voucher(400n, "opening");
		expectRefused(adopted, hold(0n, { paidBy }), "session/insufficient-balance", 402);
		expectRefused(adopted, begin(400n, "opening"), "session/insufficient-balance", 402);
	});

	test("happens once", () => {
		expect(() => apply(open(), opened())).toThrow("open already");
	});

	test("comes first: every other event on an unknown channel is 410 channel-not-found", () => {
		const reservation = promise(open(), 1n);
		const events: LedgerEvent[] = [
			take(10n),
			hold(1n),
			{ type: "capture", reservation, used: 1n },
			{ type: "release", reservation },
			{ type: "recovered", gone: [OWNER] },
			observe({}),
			begin(10n),
			{ type: "retire-begun", owner: OWNER },
			{ type: "close-resumed", owner: OWNER },
			decide(10n),
			publish(10n),
			{ type: "deferred" },
			{ type: "close-failed" },
		];
		for (const event of events) expectRefused(undefined, event, "session/channel-not-found", 410);
	});
});

describe("a voucher", () => {
	test("above the accepted one raises it and brings its own signature and challenge", () => {
		expect(applied(open(), take(101n))).toEqual({
			...open(),
			acceptedCumulative: 101n,
			voucherSignature: signatureOf(101n),
			challengeIds: ["fresh", "first"],
			lastActivityAt: NOW,
		});
	});

	test.each([
		["equal", 100n],
		["lower", 99n],
		["zero", 0n],
	])("that is %s changes nothing and is no problem (draft: Idempotency; D7)", (_, amount) => {
		const channel = open();
		expect(accepted(apply(channel, take(amount, { minVoucherDelta: 50n })))).toEqual({
			ok: true,
			channel,
			effects: [],
		});
	});

	test("for the whole deposit is taken, one unit more is refused and named (I1)", () => {
		expect(applied(open(), take(1_000n)).acceptedCumulative).toBe(1_000n);
		const refusal = expectRefused(open(), take(1_001n), "session/amount-exceeds-deposit", 402);
		expect(refusal).toMatchObject({ cumulativeAmount: "1001", deposit: "1000" });
		expectRefused(open(), take(2n ** 128n), "session/amount-exceeds-deposit", 402);
	});

	test("that adds less than minVoucherDelta is refused with what it takes (draft: step 7; D3)", () => {
		const refusal = expectRefused(open(), take(149n, { minVoucherDelta: 50n }), "session/delta-too-small", 402);
		expect(refusal).toMatchObject({
			acceptedCumulative: "100",
			requiredCumulative: "150",
			minVoucherDelta: "50",
		});
		expect(applied(open(), take(150n, { minVoucherDelta: 50n })).acceptedCumulative).toBe(150n);
	});

	test("for exactly the deposit is exempt from minVoucherDelta (D4)", () => {
		const nearlyUsedUp = open({ acceptedCumulative: 990n });
		expect(applied(nearlyUsedUp, take(1_000n, { minVoucherDelta: 50n })).acceptedCumulative).toBe(1_000n);
		expectRefused(nearlyUsedUp, take(999n, { minVoucherDelta: 50n }), "session/delta-too-small", 402);
	});

	test("that is the first of its channel is exempt from minVoucherDelta (D4)", () => {
		const untouched = open({ acceptedCumulative: 0n });
		expect(applied(untouched, take(1n, { minVoucherDelta: 50n })).acceptedCumulative).toBe(1n);
	});

	test("is refused while a close is requested on chain, also when it is stale (draft: step 1; D1)", () => {
		for (const amount of [50n, 100n, 200n]) {
			const refusal = expectRefused(forced, take(amount), "session/channel-closing", 409);
			expect(refusal).toMatchObject({ closeRequestedAt: 1_800_000_000 });
		}
	});

	test("is refused while a cooperative close is pending, also when it is stale (D6)", () => {
		for (const amount of [50n, 100n, 200n]) expectRefused(closing, take(amount), "session/channel-closing", 409);
	});

	test("on a finalized channel is 410, also when it is stale", () => {
		for (const amount of [50n, 200n]) expectRefused(finalized, take(amount), "session/channel-finalized", 410);
	});

	test("is taken again once the payer has cancelled the close request by topping up", () => {
		const cancelled = applied(forced, observe({ deposit: 2_000n }));
		expect(applied(cancelled, take(1_500n)).acceptedCumulative).toBe(1_500n);
	});

	test("leaves a bounded number of challenges behind, the newest first, none twice (D7, D9)", () => {
		let channel = open();
		for (let n = 0; n < 40; n++) channel = applied(channel, take(101n + BigInt(n), { challengeId: `c${n % 20}` }));
		expect(channel.challengeIds).toHaveLength(16);
		expect(channel.challengeIds[0]).toBe("c19");
		expect(new Set(channel.challengeIds).size).toBe(16);
		expect(channel.challengeIds).not.toContain("first");
	});

	test("that did not advance the channel does not make its challenge known (D7)", () => {
		expect(applied(open(), take(100n, { challengeId: "late" })).challengeIds).toEqual(["first"]);
	});
});

describe("a top-up before it is sent", () => {
	test("is refused on a channel that is closed or that we are closing, not on one that the payer wants closed (D14)", () => {
		expect(topUpProblem(finalized, 10n, 0n)?.type).toBe(problemType("session/channel-finalized"));
		expect(topUpProblem(closing, 10n, 0n)?.type).toBe(problemType("session/channel-closing"));
		expect(topUpProblem(forced, 10n, 0n)).toBeUndefined();
		expect(topUpProblem(open(), 10n, 0n)).toBeUndefined();
	});

	test("is worth its gas from the minimum on, and never for nothing", () => {
		expect(topUpProblem(open(), 10n, 10n)).toBeUndefined();
		const refusal = topUpProblem(open(), 9n, 10n);
		expect(refusal).toMatchObject({ additionalDeposit: "9", required: "10" });
		expect(refusal?.type).toBe(problemType("session/insufficient-balance"));
		expect(topUpProblem(open(), 0n, 0n)?.type).toBe(problemType("session/insufficient-balance"));
	});

	test("keeps the deposit below 2^128 (I1)", () => {
		expect(topUpProblem(open(), 2n ** 128n - 1_001n, 0n)).toBeUndefined();
		expect(topUpProblem(open(), 2n ** 128n - 1_000n, 0n)).toMatchObject({ status: 400 });
	});

	test("is not sent for a voucher that would be refused after it (D14)", () => {
		const problemOf = (channel: Channel, amount: bigint, minVoucherDelta = 0n) =>
			mergedVoucherProblem(channel, 500n, voucher(amount), minVoucherDelta, NOW)?.type;
		expect(problemOf(open(), 1_500n)).toBeUndefined();
		expect(problemOf(open(), 100n)).toBeUndefined();
		expect(problemOf(open(), 1_501n)).toBe(problemType("session/amount-exceeds-deposit"));
		expect(problemOf(open(), 149n, 50n)).toBe(problemType("session/delta-too-small"));
		// What was the whole deposit is not any more (D4).
		expect(problemOf(open({ acceptedCumulative: 990n }), 1_000n, 50n)).toBe(problemType("session/delta-too-small"));
		for (const channel of [closing, forced])
			expect(problemOf(channel, 1_500n)).toBe(problemType("session/channel-closing"));
		expect(problemOf(finalized, 1_500n)).toBe(problemType("session/channel-finalized"));
	});
});

describe("a reservation", () => {
	test("takes from what is available without spending it (I1)", () => {
		const held = applied(open({ spent: 30n }), hold(50n));
		expect([held.spent, reserved(held), available(held)]).toEqual([30n, 50n, 20n]);
	});

	test("takes the last unit and not one more (draft: Per-Request Processing 2)", () => {
		expect(available(applied(open(), hold(100n)))).toBe(0n);
		const refusal = expectRefused(open(), hold(101n), "session/insufficient-balance", 402);
		expect(refusal).toMatchObject({
			requiredCumulative: "101",
			acceptedCumulative: "100",
			deposit: "1000",
		});
	});

	test("adds up with the others of its process and with those of other processes (D16)", () => {
		const held = applied(open(), hold(20n), hold(30n), hold(40n, { owner: OTHER }));
		expect(held.reservations).toEqual({ [OWNER]: 50n, [OTHER]: 40n });
		const refusal = expectRefused(held, hold(11n), "session/insufficient-balance", 402);
		expect(refusal).toMatchObject({ requiredCumulative: "101" });
		expect(available(applied(held, hold(10n)))).toBe(0n);
	});

	test("is refused on a channel that is closing or closed (D1, D6)", () => {
		expectRefused(forced, hold(1n), "session/channel-closing", 409);
		expectRefused(closing, hold(1n), "session/channel-closing", 409);
		expectRefused(finalized, hold(0n), "session/channel-finalized", 410);
	});

	test("of more than any deposit is refused", () => {
		expectRefused(open(), hold(2n ** 256n), "session/insufficient-balance", 402);
	});
});

describe("the required amount (D3)", () => {
	test("is what is needed when that is more than the least step", () => {
		expect(requiredCumulative(open({ spent: 90n, reservations: { [OWNER]: 5n } }), 80n, 50n)).toBe(175n);
	});

	test("is the least step above the accepted amount when less is needed", () => {
		expect(requiredCumulative(open({ spent: 90n }), 20n, 50n)).toBe(150n);
	});

	test("caps the least step, never the need, at the deposit", () => {
		const nearlyUsedUp = open({ acceptedCumulative: 980n, spent: 980n });
		expect(requiredCumulative(nearlyUsedUp, 10n, 50n)).toBe(1_000n);
		expect(requiredCumulative(nearlyUsedUp, 21n, 50n)).toBe(1_001n);
	});

	test("is said by a refused reservation, and a voucher for it is taken and covers the price", () => {
		const channel = open({ spent: 95n });
		const refusal = refusalOf(channel, hold(10n, { minVoucherDelta: 50n }));
		expect(refusal.requiredCumulative).toBe("150");
		const paid = voucher(150n);
		expect(
			reserved(
				applied(channel, take(150n, { minVoucherDelta: 50n }), hold(10n, { paidBy: paid, minVoucherDelta: 50n })),
			),
		).toBe(10n);
	});
});

describe("a capture", () => {
	test("moves what was used from reserved to spent and frees the rest", () => {
		const held = applied(open(), hold(50n), hold(30n));
		const captured = applied(held, { type: "capture", reservation: promise(held, 50n), used: 20n });
		expect([captured.spent, reserved(captured), available(captured)]).toEqual([20n, 30n, 50n]);
		expect(captured.lastActivityAt).toBe(NOW);
	});

	test("leaves no empty entry behind", () => {
		const held = applied(open(), hold(50n));
		expect(applied(held, { type: "capture", reservation: promise(held, 50n), used: 50n }).reservations).toEqual({});
	});

	test("of more than its reservation, or of less than nothing, is a programming error", () => {
		const held = applied(open(), hold(50n));
		const reservation = promise(held, 50n);
		for (const used of [51n, -1n])
			expect(() => apply(held, { type: "capture", reservation, used })).toThrow(RangeError);
	});

	test("a second time is refused and charges nothing (I6)", () => {
		const held = applied(open(), hold(50n));
		const capture: LedgerEvent = { type: "capture", reservation: promise(held, 50n), used: 50n };
		const captured = applied(held, capture);
		expectRefused(captured, capture, "session/channel-closing", 409);
	});

	test("after its release is refused (I7)", () => {
		const held = applied(open(), hold(50n));
		const reservation = promise(held, 50n);
		const released = applied(held, { type: "release", reservation });
		expectRefused(released, { type: "capture", reservation, used: 1n }, "session/channel-closing", 409);
	});

	test("goes on while a forced close is pending: what was promised before is served and paid", () => {
		const held = applied(open(), hold(50n), observe({ closeRequestedAt: 7 }));
		expect(applied(held, { type: "capture", reservation: promise(held, 50n), used: 50n }).spent).toBe(50n);
	});

	test("of a reservation that a close abandoned is refused, also when a new one is as large (D6, I7)", () => {
		const held = applied(open(), hold(50n));
		const reservation = promise(held, 50n);
		const reopened = applied(held, begin(100n), decide(100n), { type: "close-failed" }, hold(50n));
		expectRefused(reopened, { type: "capture", reservation, used: 50n }, "session/channel-closing", 409);
		expect(reopened.spent).toBe(0n);
		expect(applied(reopened, { type: "release", reservation })).toEqual(reopened);
	});

	test("of another process's reservation is refused", () => {
		const held = applied(open(), hold(50n));
		const reservation = promise(held, 50n, OTHER);
		expectRefused(held, { type: "capture", reservation, used: 50n }, "session/channel-closing", 409);
	});

	test("on a channel that was finalized meanwhile is refused", () => {
		const held = applied(open(), hold(50n));
		const reservation = promise(held, 50n);
		const closed = applied(held, observe({ finalized: true }));
		expectRefused(closed, { type: "capture", reservation, used: 50n }, "session/channel-closing", 409);
	});
});

describe("a release", () => {
	test("gives all of it back: the request cost nothing (I7)", () => {
		const held = applied(open({ spent: 10n }), hold(50n));
		const released = applied(held, { type: "release", reservation: promise(held, 50n) });
		expect([released.spent, reserved(released), available(released)]).toEqual([10n, 0n, 90n]);
	});

	test("a second time, or after a capture, changes nothing", () => {
		const held = applied(open(), hold(50n));
		const reservation = promise(held, 50n);
		const captured = applied(held, { type: "capture", reservation, used: 50n });
		expect(applied(captured, { type: "release", reservation })).toEqual(captured);
		const released = applied(held, { type: "release", reservation });
		expect(applied(released, { type: "release", reservation })).toEqual(released);
	});
});

describe("a recovery", () => {
	test("drops what processes that are gone had promised, and nothing else", () => {
		const held = applied(open(), hold(20n), hold(30n, { owner: OTHER }));
		const recovered = applied(held, { type: "recovered", gone: [OTHER, "never-seen"] });
		expect(recovered).toEqual({ ...held, reservations: { [OWNER]: 20n } });
	});

	test("charges nothing for it, and a process that was only thought gone can't capture (I7)", () => {
		const held = applied(open(), hold(30n, { owner: OTHER }));
		const recovered = applied(held, { type: "recovered", gone: [OTHER] });
		expect(recovered.spent).toBe(0n);
		const reservation = promise(held, 30n, OTHER);
		expectRefused(recovered, { type: "capture", reservation, used: 30n }, "session/channel-closing", 409);
	});

	test("takes up the selling where the process that was closing is gone", () => {
		const recovered = applied(closing, { type: "recovered", gone: [OWNER] });
		expect(recovered.closingBy).toBeNull();
		expect(applied(recovered, take(200n)).acceptedCumulative).toBe(200n);
	});

	test("leaves a close of a living process alone", () => {
		expect(applied(closing, { type: "recovered", gone: [OTHER] })).toEqual(closing);
	});

	test("lets a close go on that waited for nobody else", () => {
		const waiting = applied(open(), hold(30n, { owner: OTHER }), begin(100n));
		expect(effectsOf(waiting, { type: "recovered", gone: [OTHER] })).toEqual(["drained"]);
	});
});

describe("the chain", () => {
	test("sets the deposit to the escrow's value and notes when it was asked (D12, D2)", () => {
		const later = accepted(apply(open(), observe({ deposit: 5_000n }), NOW + 9)).channel;
		expect(later).toEqual({ ...open(), deposit: 5_000n, chainReadAt: NOW + 9 });
	});

	test("seen twice the same changes nothing more (D12)", () => {
		const once = applied(open(), observe({ deposit: 5_000n, settledOnChain: 40n }));
		expect(applied(once, observe({ deposit: 5_000n, settledOnChain: 40n }))).toEqual(once);
	});

	test("that has settled less than was accepted raises neither accepted nor spent (D10)", () => {
		const seen = applied(open({ spent: 20n }), observe({ settledOnChain: 100n }));
		expect(seen).toMatchObject({ acceptedCumulative: 100n, spent: 20n, settledOnChain: 100n });
		expect(unsettled(seen)).toBe(0n);
	});

	test("ahead of the store raises accepted and spent to what was settled and abandons what is running (D10, I1)", () => {
		const held = applied(open(), hold(50n));
		const seen = applied(held, observe({ settledOnChain: 400n }));
		expect(seen).toMatchObject({ acceptedCumulative: 400n, spent: 400n, settledOnChain: 400n, reservations: {} });
		const reservation = promise(held, 50n);
		expectRefused(seen, { type: "capture", reservation, used: 50n }, "session/channel-closing", 409);
	});

	test("ahead of the store lets a close go on whose requests it abandoned", () => {
		const waiting = applied(open(), hold(50n), begin(100n));
		expect(effectsOf(waiting, observe({ settledOnChain: 400n }))).toContain("drained");
	});

	test("may take back a deposit that no voucher relied on", () => {
		expect(applied(open(), observe({ deposit: 100n })).deposit).toBe(100n);
	});

	test("that says more was settled than deposited is not believed (I1, I10)", () => {
		const impossible = { deposit: 1_000n, settledOnChain: 1_001n };
		expect(() => apply(open(), observe(impossible))).toThrow(ImpossibleChainError);
		expect(() => apply(open(), observe(impossible))).toThrow(
			expect.objectContaining({ code: "IMPOSSIBLE_CHAIN", channelId, message: expect.stringContaining("1001") }),
		);
		// Not in a reorganization either, nor where it is old news.
		expect(() => apply(open(), observe(impossible, { reorganized: true }))).toThrow(ImpossibleChainError);
		expect(() => apply(open(), observe({ ...impossible, blockNumber: 1 }))).toThrow(ImpossibleChainError);
	});

	test("tells of a close request once, not at every look", () => {
		expect(effectsOf(open(), observe({ closeRequestedAt: 7 }))).toEqual(["close-requested"]);
		expect(effectsOf(forced, observe({ closeRequestedAt: 1_800_000_000 }))).toEqual([]);
	});

	test("tells of a finalized channel once and abandons what is running on it", () => {
		const held = applied(open(), hold(50n), begin(100n));
		const step = accepted(apply(held, observe({ settledOnChain: 100n, finalized: true })));
		expect(step.effects).toContain("closed");
		expect(step.channel).toMatchObject({ finalized: true, closingBy: null, reservations: {} });
		expect(effectsOf(step.channel, observe({ settledOnChain: 100n, finalized: true }))).toEqual([]);
		expect(unsettled(step.channel)).toBe(0n);
	});

	test("shows what is owed: the highest accepted voucher less what was captured (I8)", () => {
		expect(unsettled(applied(open({ spent: 5n }), observe({ settledOnChain: 60n })))).toBe(40n);
	});
});

describe("a published voucher (D7)", () => {
	const settled = applied(open(), observe({ settledOnChain: 100n }));
	const advanced = applied(settled, take(150n, { challengeId: "second" }));

	test("under a challenge the channel does not know buys nothing, however much credit there is", () => {
		const refusal = expectRefused(advanced, hold(10n, { paidBy: voucher(100n) }), "session/insufficient-balance", 402);
		expect(refusal).toMatchObject({ requiredCumulative: "150", acceptedCumulative: "150" });
	});

	test("under a challenge the channel does not know closes nothing", () => {
		const refusal = expectRefused(settled, begin(100n, "fresh"), "session/insufficient-balance", 402);
		expect(refusal).toMatchObject({ requiredCumulative: "101" });
	});

	test("buys and closes under a challenge with which the channel advanced", () => {
		expect(reserved(applied(settled, hold(100n)))).toBe(100n);
		expect(applied(settled, begin(100n)).closingBy).toBe(OWNER);
	});

	test("closes again under the challenge that it was published with", () => {
		const failed = applied(open(), begin(80n, "fresh"), decide(80n), publish(80n), { type: "close-failed" });
		expect(applied(failed, begin(80n, "fresh")).closingBy).toBe(OWNER);
	});

	test("buys and closes again for the owner who signs one unit more under a fresh challenge", () => {
		const paid = voucher(101n);
		expect(reserved(applied(settled, take(101n), hold(50n, { paidBy: paid })))).toBe(50n);
		expect(applied(settled, begin(101n, "fresh")).closingBy).toBe(OWNER);
	});

	test("is told from a stale one that no transaction carried: that one buys and closes under any challenge", () => {
		expect(reserved(applied(open(), hold(10n, { paidBy: voucher(99n) })))).toBe(10n);
		expect(applied(open(), begin(99n, "fresh")).closingBy).toBe(OWNER);
	});

	test("is not what a close was decided on, as long as its transaction was never written down", () => {
		const failed = applied(open(), begin(80n), decide(80n), { type: "close-failed" });
		expect(applied(failed, begin(80n, "fresh")).closingBy).toBe(OWNER);
	});

	test("counts as published from its transaction on, also when that close fails", () => {
		const failed = applied(open(), begin(80n), decide(80n), publish(80n), { type: "close-failed" });
		expectRefused(failed, hold(10n, { paidBy: voucher(80n) }), "session/insufficient-balance", 402);
		expectRefused(failed, begin(80n, "fresh"), "session/insufficient-balance", 402);
		expect(reserved(applied(failed, hold(10n, { paidBy: voucher(81n) })))).toBe(10n);
	});

	test("whose challenge was pushed out by sixteen newer ones buys nothing any more", () => {
		let channel = settled;
		for (let n = 1; n <= 16; n++) channel = applied(channel, take(100n + BigInt(n), { challengeId: `c${n}` }));
		expectRefused(channel, hold(1n), "session/insufficient-balance", 402);
	});

	test("is not what a voucher for nothing is while nothing was published: its owner closes under a fresh challenge (D9)", () => {
		const unused = open({ acceptedCumulative: 0n });
		expect(applied(unused, begin(0n, "fresh")).closingBy).toBe(OWNER);
		expect(applied(open(), begin(0n, "fresh")).closingBy).toBe(OWNER);
	});

	test("is what a voucher for nothing becomes once a close with it failed", () => {
		const failed = applied(open({ acceptedCumulative: 0n }), begin(0n), decide(0n), publish(0n), {
			type: "close-failed",
		});
		expectRefused(failed, begin(0n, "fresh"), "session/insufficient-balance", 402);
		const credited = applied(failed, take(100n, { challengeId: "second" }));
		expectRefused(credited, hold(1n, { paidBy: voucher(0n) }), "session/insufficient-balance", 402);
	});
});

describe("a cooperative close", () => {
	test("stops vouchers and reservations and waits for what is running (D6)", () => {
		const held = applied(open(), hold(50n));
		const step = accepted(apply(held, begin(100n)));
		expect(step.effects).toEqual([]);
		expect(step.channel).toEqual({ ...held, closingBy: OWNER, lastActivityAt: NOW });
	});

	test("goes on at once where nothing is running", () => {
		expect(effectsOf(open(), begin(100n))).toEqual(["drained"]);
	});

	test("goes on after the last running request was captured or released, not before (D6)", () => {
		const held = applied(open(), hold(50n), hold(20n), begin(100n));
		const capture: LedgerEvent = { type: "capture", reservation: promise(held, 50n), used: 10n };
		expect(effectsOf(held, capture)).toEqual([]);
		const rest = applied(held, capture);
		expect(effectsOf(rest, { type: "release", reservation: promise(held, 20n) })).toEqual(["drained"]);
		expect(effectsOf(rest, { type: "capture", reservation: promise(held, 20n), used: 20n })).toEqual(["drained"]);
	});

	test("of a channel that keeps selling never says drained", () => {
		const held = applied(open(), hold(50n));
		expect(effectsOf(held, { type: "release", reservation: promise(held, 50n) })).toEqual([]);
	});

	test("is allowed while a forced close is pending (D1)", () => {
		expect(applied(forced, begin(100n)).closingBy).toBe(OWNER);
	});

	test("is exempt from minVoucherDelta and may go up to the deposit, not above (D4, D6)", () => {
		expect(applied(open(), begin(101n)).closingBy).toBe(OWNER);
		expect(applied(open(), begin(1_000n)).closingBy).toBe(OWNER);
		expectRefused(open(), begin(1_001n), "session/amount-exceeds-deposit", 402);
	});

	test("of a finalized channel is 410", () => {
		expectRefused(finalized, begin(100n), "session/channel-finalized", 410);
	});

	test("below what was spent captures the highest accepted voucher instead (I8; draft: Cooperative Close 1)", () => {
		const channel = open({ spent: 60n });
		expect(closingVoucher(channel, voucher(59n))).toEqual({
			cumulativeAmount: 100n,
			signature: signatureOf(100n),
		});
	});

	test("between what was spent and the highest voucher captures the client's amount (D6)", () => {
		const channel = open({ spent: 60n });
		for (const amount of [60n, 99n, 100n, 101n]) {
			expect(closingVoucher(channel, voucher(amount))).toMatchObject({
				cumulativeAmount: amount,
				signature: signatureOf(amount),
			});
		}
	});

	test("decided above the highest voucher takes it as accepted with its signature (D6)", () => {
		const decided = applied(open(), begin(300n), decide(300n));
		expect(decided).toMatchObject({ acceptedCumulative: 300n, voucherSignature: signatureOf(300n) });
	});

	test("decided at or below the highest voucher leaves it as it is (I2)", () => {
		const decided = applied(open({ spent: 60n }), begin(60n), decide(60n));
		expect(decided).toMatchObject({ acceptedCumulative: 100n, voucherSignature: signatureOf(100n), spent: 60n });
	});

	test("decided abandons what still runs: it can't be captured any more and costs nothing (D6, I7)", () => {
		const held = applied(open(), hold(50n));
		const reservation = promise(held, 50n);
		const decided = applied(held, begin(100n), decide(100n));
		expect([decided.spent, reserved(decided)]).toEqual([0n, 0n]);
		expectRefused(decided, { type: "capture", reservation, used: 50n }, "session/channel-closing", 409);
	});

	test("is never decided below what was spent (I8)", () => {
		const channel = applied(open({ spent: 60n }), begin(60n));
		expect(() => apply(channel, decide(59n))).toThrow("never captures less than spent");
	});

	test("is never decided above the deposit (I1)", () => {
		expectRefused(applied(open(), begin(100n)), decide(1_001n), "session/amount-exceeds-deposit", 402);
	});

	test("is begun before it is decided", () => {
		expect(() => apply(open(), decide(100n))).toThrow("close-begun comes first");
	});

	test("that failed leaves a channel that sells again and has lost nothing (I2)", () => {
		const channel = open({ spent: 60n });
		const reopened = applied(channel, begin(60n), decide(60n), { type: "close-failed" });
		expect(reopened).toMatchObject({ closingBy: null, acceptedCumulative: 100n, spent: 60n });
		expect(applied(reopened, take(200n)).acceptedCumulative).toBe(200n);
	});

	test("that a restart found on its way stops the selling until its outcome is known (I9)", () => {
		const resumed = applied(open(), { type: "close-resumed", owner: OTHER });
		expectRefused(resumed, take(200n), "session/channel-closing", 409);
		expectRefused(resumed, hold(1n), "session/channel-closing", 409);
		expect(applied(resumed, { type: "close-failed" }, take(200n)).acceptedCumulative).toBe(200n);
	});
});
