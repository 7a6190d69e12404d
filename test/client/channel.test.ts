import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DepositExhaustedError, OverchargeError } from "../../src/client/bookErrors.ts";
import { PayerChannel } from "../../src/client/channel.ts";
import { channelKey } from "../../src/client/channelKey.ts";
import { parseState } from "../../src/client/state.ts";
import { parseSessionRequest } from "../../src/protocol/index.ts";
import { computeChannelId, ZERO_ADDRESS } from "../../src/voucher/index.ts";

const channelId = `0x${"c1".repeat(32)}` as const;

function open(deposit = 1_000n): PayerChannel {
	return new PayerChannel({
		channelId,
		parameters: {
			payer: `0x${"aa".repeat(20)}`,
			payee: `0x${"bb".repeat(20)}`,
			token: `0x${"cc".repeat(20)}`,
			salt: `0x${"5a".repeat(32)}`,
			authorizedSigner: ZERO_ADDRESS,
			escrow: `0x${"dd".repeat(20)}`,
			chainId: 8_453,
		},
		deposit,
		resource: { url: "https://api.example.com/quote", method: "GET" },
		challenge: { id: "x", realm: "api.example.com", method: "evm", intent: "session", request: "e30" },
	});
}

describe("the amount of the next voucher", () => {
	test("grows by the price of each delivered request", () => {
		const channel = open();
		const amounts = [10n, 20n, 5n].map((price) => {
			const amount = channel.begin(price);
			channel.delivered(price);
			return amount;
		});
		expect(amounts).toEqual([10n, 30n, 35n]);
		expect([channel.signed, channel.consumed]).toEqual([35n, 35n]);
	});

	test("is distinct for requests that run at the same time, and covers all of them", () => {
		const channel = open();
		expect([channel.begin(10n), channel.begin(10n), channel.begin(5n)]).toEqual([10n, 20n, 25n]);
	});

	test("uses credit first that was signed and not consumed: a server that fails can't capture more for it", () => {
		const channel = open();
		expect(channel.begin(30n)).toBe(30n);
		channel.failed(30n);
		expect(channel.begin(30n)).toBe(30n);
		channel.failed(30n);
		expect(channel.begin(10n)).toBe(30n);
		channel.delivered(10n);
		expect(channel.begin(10n)).toBe(30n);
		channel.delivered(10n);
		expect(channel.begin(15n)).toBe(35n);
	});

	test("rises by minVoucherDelta where the server wants that, and what it pays ahead is used up first (D4)", () => {
		const channel = open();
		const asked: bigint[] = [];
		for (let request = 0; request < 6; request++) {
			asked.push(channel.begin(100n, 250n));
			channel.delivered(100n);
		}
		expect(asked).toEqual([100n, 350n, 350n, 600n, 600n, 600n]);
		for (let request = 0; request < 3; request++) {
			channel.begin(100n, 250n);
			channel.delivered(100n);
		}
		expect(channel.begin(100n, 250n)).toBe(1_000n);
	});

	test("goes up to the deposit; beyond it nothing is signed and nothing counts as running", () => {
		const channel = open(100n);
		expect(channel.begin(100n)).toBe(100n);
		channel.failed(100n);
		expect(() => channel.begin(101n)).toThrow(DepositExhaustedError);
		expect(() => channel.begin(101n)).toThrow(expect.objectContaining({ code: "DEPOSIT_EXHAUSTED", channelId }));
		expect(channel.signed).toBe(100n);
		expect(channel.begin(100n)).toBe(100n);
		expect(() => channel.begin(1n)).toThrow(DepositExhaustedError);
	});
});

describe("a server that asks for more", () => {
	test("gets what running and lost requests cost, and not one unit more", () => {
		const channel = open();
		channel.begin(10n);
		channel.lost(10n);
		channel.begin(7n);
		expect(channel.catchUp(17n, 7n)).toBe(17n);
		expect(() => channel.catchUp(18n, 7n)).toThrow(OverchargeError);
		expect(() => channel.catchUp(2n ** 128n - 1n, 7n)).toThrow(expect.objectContaining({ code: "OVERCHARGE" }));
		expect(channel.signed).toBe(17n);
	});

	test("gets nothing for requests that failed", () => {
		const channel = open();
		channel.begin(10n);
		channel.failed(10n);
		channel.begin(10n);
		expect(() => channel.catchUp(11n, 10n)).toThrow(OverchargeError);
	});

	test("gets nothing above the deposit, though it is owed, before there is a deposit for it (D3)", () => {
		const channel = open(15n);
		channel.begin(10n);
		channel.lost(10n);
		channel.begin(10n);
		expect(channel.catchUp(16n, 10n)).toBe(10n);
		channel.failed(10n);
		expect(channel.needs(10n)).toBe(20n);
		expect(() => channel.begin(10n)).toThrow(DepositExhaustedError);
		expect(channel.begin(10n, 0n, 35n)).toBe(20n);
	});

	test("gets no more for lost requests than was signed for them: it can't have charged more", () => {
		const channel = open();
		for (let request = 0; request < 5; request++) {
			expect(channel.begin(10n)).toBe(10n);
			channel.lost(10n);
		}
		channel.begin(10n);
		expect(() => channel.catchUp(21n, 10n)).toThrow(OverchargeError);
		expect(channel.catchUp(20n, 10n)).toBe(20n);
		expect(channel.consumed).toBe(10n);
	});

	test("and names the next step of minVoucherDelta gets that with the next voucher, where answers were lost (D3)", () => {
		const channel = open();
		channel.begin(10n, 50n);
		channel.lost(10n);
		const amount = channel.begin(10n, 50n);
		expect(channel.catchUp(60n, 10n, 50n)).toBe(amount);
		channel.failed(10n);
		expect(channel.begin(10n, 50n)).toBe(60n);
		expect(() => channel.catchUp(111n, 10n, 50n)).toThrow(OverchargeError);
	});

	test("can't lower what was signed", () => {
		const channel = open();
		channel.begin(10n);
		expect(channel.catchUp(3n, 10n)).toBe(10n);
	});
});

describe("requests whose answer was lost", () => {
	test("count as delivered as far as the server charged for them", () => {
		const channel = open();
		channel.begin(10n);
		channel.lost(10n);
		channel.settleLost(10n);
		expect(channel.consumed).toBe(10n);
		expect(channel.begin(5n)).toBe(15n);
	});

	test("cost nothing where the server did not charge for them", () => {
		const channel = open();
		channel.begin(10n);
		channel.lost(10n);
		channel.settleLost(0n);
		expect(channel.consumed).toBe(0n);
		expect(channel.begin(10n)).toBe(10n);
	});

	test("cost at most their prices, whatever the server says", () => {
		const channel = open();
		channel.begin(10n);
		channel.lost(10n);
		channel.settleLost(999n);
		expect(channel.consumed).toBe(10n);
		channel.settleLost(999n);
		expect(channel.consumed).toBe(10n);
	});

	test("are not settled while others are running: the server's count may be ahead", () => {
		const channel = open();
		channel.begin(10n);
		channel.begin(10n);
		channel.lost(10n);
		channel.settleLost(20n);
		expect(channel.consumed).toBe(0n);
		expect(channel.catchUp(20n, 10n)).toBe(20n);
	});
});

describe("a metered answer that no receipt says the cost of", () => {
	const answer = (channel: PayerChannel, delivered: bigint, isComplete: boolean) => {
		const stop = () => undefined;
		channel.begin(100n);
		channel.begun(100n, true);
		expect(channel.beginStream(stop, 100n)).toBe(100n);
		channel.delivered(delivered);
		channel.endStream(stop, 100n - delivered, { isComplete });
		expect(channel.isOpenEnded).toBe(true);
	};

	test.each([
		[62n, 62n],
		[30n, 30n],
		[90n, 90n],
		[999n, 100n],
	])("costs what the server says when it is asked, up to what was signed: %i", (spent, owed) => {
		const channel = open();
		answer(channel, 62n, true);
		expect([channel.consumed, channel.uncertain]).toEqual([62n, 38n]);
		expect(channel.told(spent)).toBe(true);
		expect([channel.consumed, channel.uncertain, channel.isOpenEnded]).toEqual([owed, 0n, false]);
	});

	test("leaves requests uncertain whose answers were lost", () => {
		const channel = open();
		channel.begin(10n);
		channel.lost(10n);
		answer(channel, 62n, true);
		channel.told(62n);
		expect([channel.consumed, channel.uncertain]).toEqual([62n, 10n]);
	});

	test("costs no less than was delivered where it has broken off: the server may not be at its end", () => {
		const channel = open();
		answer(channel, 62n, false);
		expect(channel.told(30n)).toBe(false);
		expect([channel.consumed, channel.uncertain]).toEqual([62n, 38n]);
		expect(channel.told(80n)).toBe(true);
		expect([channel.consumed, channel.uncertain]).toEqual([80n, 20n]);
	});

	test("is not settled while anything is on its way", () => {
		const channel = open();
		answer(channel, 62n, true);
		channel.begin(10n);
		channel.told(62n);
		expect([channel.consumed, channel.uncertain]).toEqual([62n, 38n]);
	});
});

describe("another try of a request (I6)", () => {
	test("stands for the one before: lost twice it is owed for once", () => {
		const channel = open();
		channel.begin(10n);
		const tried = channel.lost(10n);
		channel.begin(10n, 0n, channel.deposit, tried);
		expect(channel.lost(10n, tried)).toBe(10n);
		channel.begin(5n);
		expect(() => channel.catchUp(16n, 5n)).toThrow(OverchargeError);
		expect(channel.catchUp(15n, 5n)).toBe(15n);
	});

	test("that fails leaves open what became of the one before", () => {
		const channel = open();
		channel.begin(10n);
		const tried = channel.lost(10n);
		channel.begin(30n, 0n, channel.deposit, tried);
		expect(channel.failed(30n, tried)).toBe(10n);
		channel.begin(5n);
		expect(channel.catchUp(15n, 5n)).toBe(30n);
		expect(() => channel.catchUp(16n, 5n)).toThrow(OverchargeError);
	});

	test("is not counted twice where a receipt of another request has settled the one before", () => {
		const channel = open();
		channel.begin(10n);
		const tried = channel.lost(10n);
		channel.settleLost(10n);
		expect(channel.consumed).toBe(10n);
		expect(channel.begin(10n, 0n, channel.deposit, tried)).toBe(10n);
		channel.delivered(10n);
		expect(channel.consumed).toBe(10n);
		expect(channel.begin(5n)).toBe(15n);
	});

	test("that the deposit does not reach for changes nothing", () => {
		const channel = open(15n);
		channel.begin(10n);
		const tried = channel.lost(10n);
		expect(() => channel.begin(20n, 0n, channel.deposit, tried)).toThrow(DepositExhaustedError);
		channel.begin(5n);
		expect(channel.catchUp(15n, 5n)).toBe(15n);
	});
});

describe("under any course of requests (I11)", () => {
	type Step =
		| Readonly<{ do: "begin"; price: bigint }>
		| Readonly<{ do: "delivered" | "failed" | "lost"; which: number }>
		| Readonly<{ do: "catchUp"; amount: bigint; price: bigint }>
		| Readonly<{ do: "settleLost"; amount: bigint }>;
	const small = fc.bigInt({ min: 0n, max: 60n });
	const amounts = fc.oneof(small, fc.bigInt({ min: 0n, max: 2n ** 128n }));
	const prices = fc.bigInt({ min: 1n, max: 60n });
	const steps: fc.Arbitrary<Step> = fc.oneof(
		{ weight: 3, arbitrary: fc.record({ do: fc.constant("begin"), price: prices }) },
		{
			weight: 3,
			arbitrary: fc.record({ do: fc.constantFrom("delivered", "failed", "lost"), which: fc.nat(10) }),
		},
		{ weight: 1, arbitrary: fc.record({ do: fc.constant("catchUp"), amount: amounts, price: prices }) },
		{ weight: 1, arbitrary: fc.record({ do: fc.constant("settleLost"), amount: amounts }) },
	);

	test("what is signed never falls, never passes the deposit, and never passes the prices of all that was asked for", () => {
		const courses = fc.array(steps, { maxLength: 60, size: "max" });
		fc.assert(
			fc.property(fc.bigInt({ min: 1n, max: 300n }), courses, (deposit, course) => {
				const channel = open(deposit);
				const running: bigint[] = [];
				/** Prices of all requests that were begun, and of those that failed and so are not owed. */
				let asked = 0n;
				let waived = 0n;
				for (const step of course) {
					const before = channel.signed;
					const all = asked - waived;
					if (step.do === "begin") {
						const needed = channel.consumed + running.reduce((sum, price) => sum + price, 0n) + step.price;
						if (needed > deposit) {
							expect(() => channel.begin(step.price)).toThrow(DepositExhaustedError);
						} else {
							expect(channel.begin(step.price)).toBe(needed > before ? needed : before);
							running.push(step.price);
							asked += step.price;
						}
					} else if (step.do === "catchUp") {
						const { amount, price } = step;
						const owed = all < before + price ? all : before + price;
						if (amount > owed) expect(() => channel.catchUp(amount, price)).toThrow(OverchargeError);
						else if (amount > deposit) expect(channel.catchUp(amount, price)).toBe(before);
						else expect(channel.catchUp(amount, price)).toBe(amount > before ? amount : before);
					} else if (step.do === "settleLost") {
						channel.settleLost(step.amount);
					} else {
						const [price] = running.splice(step.which % Math.max(running.length, 1), 1);
						if (price === undefined) continue;
						channel[step.do](price);
						if (step.do === "failed") waived += price;
					}
					expect(channel.signed).toBeGreaterThanOrEqual(before);
					expect(channel.signed).toBeLessThanOrEqual(deposit);
					expect(channel.signed).toBeLessThanOrEqual(asked);
					expect(channel.consumed).toBeGreaterThanOrEqual(0n);
					expect(channel.consumed).toBeLessThanOrEqual(asked - waived);
				}
			}),
			{ numRuns: 1_000 },
		);
	});
});

describe("a channel is shared", () => {
	const request = (change: object = {}, details: object = {}) =>
		parseSessionRequest({
			amount: "1",
			currency: `0x${"CC".repeat(20)}`,
			recipient: `0x${"bb".repeat(20)}`,
			...change,
			methodDetails: { chainId: 1, escrowContract: `0x${"dd".repeat(20)}`, ...details },
		});

	test("by offers of different prices and the same chain, escrow, token and payee", () => {
		const lowercase = `0x${"cc".repeat(20)}`;
		expect(channelKey(request({ amount: "9", currency: lowercase }))).toBe(channelKey(request()));
	});

	test("not by offers that differ in chain, escrow, token or payee", () => {
		const other = `0x${"99".repeat(20)}`;
		const keys = [
			request(),
			request({ currency: other }),
			request({ recipient: other }),
			request({}, { chainId: 2 }),
			request({}, { escrowContract: other }),
		].map(channelKey);
		expect(new Set(keys).size).toBe(keys.length);
	});
});

test("what is accounted for is in both counts, and never falls: so much may be deposited anew", () => {
	const channel = open();
	channel.begin(10n);
	channel.delivered(10n);
	expect(channel.accounted).toBe(0n);
	channel.settleLost(7n);
	expect([channel.consumed, channel.accounted]).toEqual([7n, 7n]);
	channel.begin(10n);
	channel.delivered(10n);
	channel.settleLost(3n);
	expect([channel.consumed, channel.accounted]).toEqual([7n, 7n]);
	channel.settleLost(2n ** 100n);
	expect(channel.accounted).toBe(channel.consumed);
});

describe("a deposit that grows", () => {
	test("is what the next vouchers may go up to, and it never shrinks (I2)", () => {
		const channel = open(10n);
		channel.begin(10n);
		channel.delivered(10n);
		expect(() => channel.begin(1n)).toThrow(DepositExhaustedError);
		channel.deposited(30n);
		channel.deposited(5n);
		expect(channel.deposit).toBe(30n);
		expect(channel.begin(20n)).toBe(30n);
	});

	test("that never came leaves a state that another client can go on with", () => {
		const channel = open(10n);
		channel.begin(10n, 0n, 40n);
		channel.delivered(10n);
		channel.begin(10n, 0n, 40n);
		channel.failed(10n);
		expect(channel.state()).toMatchObject({ deposit: "10", signed: "20" });
		const { parameters, channelId: id } = {
			parameters: channel.parameters,
			channelId: computeChannelId({ ...channel.parameters, salt: `0x${"5a".repeat(32)}` }),
		};
		expect(parseState({ ...channel.state(), channelId: id }, parameters.payer, [ZERO_ADDRESS])).toMatchObject({
			signed: "20",
		});
	});

	test("lets a voucher that goes with the top-up rise above what is there now, by minVoucherDelta too", () => {
		const channel = open(10n);
		channel.begin(10n);
		channel.delivered(10n);
		expect(channel.begin(5n, 100n, 40n)).toBe(40n);
	});

	test("that never came leaves vouchers within the one that is there", () => {
		const channel = open(10n);
		channel.begin(5n);
		channel.delivered(5n);
		channel.begin(10n, 0n, 40n);
		channel.failed(10n);
		expect(channel.signed).toBe(15n);
		expect(channel.begin(5n)).toBe(10n);
	});

	test("is topped up by one at a time", async () => {
		const channel = open();
		const { promise, resolve } = Promise.withResolvers<void>();
		const turn = channel.topUpAlone(() => promise);
		expect(channel.toppingUp).toBe(turn);
		resolve();
		await turn;
		expect(channel.toppingUp).toBeUndefined();
	});
});
