/** What settlement needs to know of a channel, and closes by the server's own decision. */
import { describe, expect, test } from "vitest";
import { problemType } from "../../src/protocol/index.ts";
import type { Channel } from "../../src/server/channel.ts";
import { type LedgerEvent, topUpProblem } from "../../src/server/ledger.ts";
import {
	accepted,
	applied,
	apply,
	begin,
	decide,
	effectsOf,
	expectRefused,
	hold,
	identity,
	NOW,
	OPENED_AT,
	OTHER,
	OWNER,
	observe,
	onChain,
	open,
	promise,
	signatureOf,
	take,
	voucher,
} from "./ledgerSteps.ts";

const finalized = applied(open(), observe({ settledOnChain: 100n, finalized: true }));

describe("since when something is owed", () => {
	const at = (channel: Channel | undefined, now: number, ...events: LedgerEvent[]): Channel => {
		let current = channel;
		for (const event of events) current = accepted(apply(current, event, now)).channel;
		if (current === undefined) throw new TypeError("no event was given");
		return current;
	};
	const unused = at(undefined, OPENED_AT, {
		type: "opened",
		identity,
		chain: onChain,
		voucher: voucher(0n, "first"),
		minimum: 1n,
	});

	test("is since the first unit, however much comes on top of it and is spent", () => {
		expect(unused.unsettledSince).toBeNull();
		const owing = at(unused, NOW, take(1n));
		expect(owing.unsettledSince).toBe(NOW);
		const busy = at(owing, NOW + 5, take(500n), hold(20n), { type: "deferred" });
		expect(at(busy, NOW + 6, { type: "capture", reservation: promise(busy, 20n), used: 20n })).toMatchObject({
			acceptedCumulative: 500n,
			unsettledSince: NOW,
		});
		expect(open().unsettledSince).toBe(OPENED_AT);
	});

	test("is null when all was settled, and from the next unit on anew", () => {
		const paid = at(open(), NOW, observe({ settledOnChain: 100n }));
		expect(paid.unsettledSince).toBeNull();
		expect(at(paid, NOW + 5, take(101n)).unsettledSince).toBe(NOW + 5);
	});

	test("is anew what came on top of a settlement that was under way, not at every look", () => {
		const partly = at(open(), NOW, take(150n), observe({ settledOnChain: 100n }));
		expect(partly.unsettledSince).toBe(NOW);
		expect(at(partly, NOW + 5, observe({ settledOnChain: 100n })).unsettledSince).toBe(NOW);
		expect(at(partly, NOW + 7, observe({ settledOnChain: 101n })).unsettledSince).toBe(NOW + 7);
	});

	test("is null when the channel is closed, whatever was left", () => {
		expect(at(open(), NOW, observe({ settledOnChain: 60n, finalized: true })).unsettledSince).toBeNull();
	});

	test("is since a close that brought the first voucher", () => {
		expect(at(unused, NOW, begin(300n), decide(300n)).unsettledSince).toBe(NOW);
	});

	test("is not since a settlement of before it was opened here (D10)", () => {
		const chain = { ...onChain, settledOnChain: 500n };
		const adopted = (amount: bigint): LedgerEvent => {
			return { type: "opened", identity, chain, voucher: voucher(amount, "first"), minimum: 1n };
		};
		expect(at(undefined, NOW, adopted(500n)).unsettledSince).toBeNull();
		expect(at(undefined, NOW, adopted(501n)).unsettledSince).toBe(NOW);
	});
});

describe("a channel that is not worth its gas", () => {
	test("is put off: it says since when, and that is all that changes", () => {
		const busy = applied(open(), hold(50n));
		expect(accepted(apply(busy, { type: "deferred" }, NOW + 9))).toEqual({
			ok: true,
			channel: { ...busy, deferredAt: NOW + 9 },
			effects: [],
		});
	});
});

describe("a close by the server's own decision", () => {
	const retire: LedgerEvent = { type: "retire-begun", owner: OWNER };

	test("stops vouchers, requests and top-ups, and is no activity of the client's (D6)", () => {
		const step = accepted(apply(open(), retire));
		expect(step).toEqual({ ok: true, channel: { ...open(), closingBy: OWNER }, effects: ["drained"] });
		expectRefused(step.channel, take(200n), "session/channel-closing", 409);
		expectRefused(step.channel, hold(1n), "session/channel-closing", 409);
		expect(topUpProblem(step.channel, 10n, 0n)?.type).toBe(problemType("session/channel-closing"));
	});

	test("waits for what runs, which is served and charged (D6, I7)", () => {
		const step = accepted(apply(applied(open(), hold(50n), hold(20n)), retire));
		expect(step.effects).toEqual([]);
		const first = accepted(
			apply(step.channel, { type: "capture", reservation: promise(step.channel, 50n), used: 50n }),
		);
		expect(first.effects).toEqual([]);
		const last = accepted(apply(first.channel, { type: "release", reservation: promise(step.channel, 20n) }));
		expect(last.effects).toEqual(["drained"]);
		expect(last.channel).toMatchObject({ spent: 50n, reservations: {}, closingBy: OWNER });
	});

	test("of a finalized channel is 410", () => {
		expectRefused(finalized, retire, "session/channel-finalized", 410);
	});

	test("goes on while the payer's own close request is pending (D1, I9)", () => {
		const forced = applied(open(), observe({ closeRequestedAt: 7 }));
		expect(applied(forced, retire, decide(100n)).closingBy).toBe(OWNER);
	});

	test("captures the highest voucher and abandons what still runs (I8, I7)", () => {
		const held = applied(open({ spent: 10n }), hold(50n));
		const reservation = promise(held, 50n);
		const { acceptedCumulative, voucherSignature } = held;
		const decision = { cumulativeAmount: acceptedCumulative, signature: voucherSignature };
		const decided = applied(held, retire, { type: "close-decided", ...decision });
		expect(decided).toMatchObject({ acceptedCumulative: 100n, voucherSignature: signatureOf(100n), spent: 10n });
		expectRefused(decided, { type: "capture", reservation, used: 50n }, "session/channel-closing", 409);
	});

	test("that failed leaves a channel that sells again (I2)", () => {
		const closing = applied(open(), retire, decide(100n));
		// Another process's close is not this one's.
		expect(applied(closing, { type: "close-failed", owner: "process-x" })).toEqual(closing);
		expect(applied(closing, { type: "close-failed", owner: closing.closingBy ?? "" }).closingBy).toBe(null);
		const reopened = applied(open(), retire, decide(100n), { type: "close-failed" });
		expect(applied(reopened, take(200n))).toMatchObject({ closingBy: null, acceptedCumulative: 200n });
	});

	test("is given up where the process that had begun it is gone, and only there", () => {
		const retiring = applied(open(), retire);
		expect(applied(retiring, { type: "recovered", gone: [OTHER] })).toEqual(retiring);
		const left = applied(retiring, { type: "recovered", gone: [OWNER] });
		expect(left).toEqual(open());
		expect(applied(left, take(200n)).acceptedCumulative).toBe(200n);
	});

	test("goes on where it waited only for the requests of a process that is gone", () => {
		const waiting = applied(open(), hold(30n, { owner: OTHER }), retire);
		expect(effectsOf(waiting, { type: "recovered", gone: [OTHER] })).toEqual(["drained"]);
	});
});

describe("a voucher that only the signer's contract vouches for", () => {
	const byContract = (amount: bigint): LedgerEvent => {
		return { type: "voucher", voucher: { ...voucher(amount), byContract: true }, minVoucherDelta: 0n };
	};

	test("is known as such as long as it is the highest accepted one", () => {
		expect(open().contractSigner).toBe(false);
		const wallet = applied(open(), byContract(150n));
		expect(wallet.contractSigner).toBe(true);
		expect(applied(wallet, take(150n)).contractSigner).toBe(true);
		expect(applied(wallet, take(140n)).contractSigner).toBe(true);
		expect(applied(wallet, take(151n)).contractSigner).toBe(false);
	});

	test("that is stale or refused says nothing of the one that is kept", () => {
		expect(applied(open(), byContract(100n), byContract(50n)).contractSigner).toBe(false);
		expect(apply(open(), byContract(1_001n)).ok).toBe(false);
	});

	test("may be the first one, or the last one, that a close brings", () => {
		const first: LedgerEvent = {
			type: "opened",
			identity,
			chain: onChain,
			voucher: { ...voucher(100n), byContract: true },
			minimum: 1n,
		};
		expect(applied(undefined, first).contractSigner).toBe(true);
		const last = (amount: bigint): LedgerEvent => {
			return { type: "close-decided", cumulativeAmount: amount, signature: signatureOf(amount), byContract: true };
		};
		expect(applied(open(), begin(200n), last(200n)).contractSigner).toBe(true);
		expect(applied(open(), begin(100n), last(100n)).contractSigner).toBe(false);
		expect(applied(applied(undefined, first), begin(200n), decide(200n)).contractSigner).toBe(false);
		expect(applied(applied(undefined, first), begin(90n), decide(90n)).contractSigner).toBe(true);
	});
});
