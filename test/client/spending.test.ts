/** What is counted of what is signed away, and that no limit is ever gone over, whatever is spent when. */
import fc from "fast-check";
import type { Address, Hex } from "viem";
import { describe, expect, it, test } from "vitest";
import { limitsStatus, type PaymentPolicy, parsePolicy } from "../../src/client/policy.ts";
import {
	channelCounts,
	counterKey,
	countersFor,
	parseCounterKey,
	raisedBy,
	refusalOf,
	type Spend,
} from "../../src/client/spending.ts";
import { MemoryPayerStore } from "../../src/client/store/memoryStore.ts";
import type { CounterRefusal, PayerStore } from "../../src/client/store/store.ts";

const usdc: Address = `0x${"c0".repeat(20)}`;
const usdcElsewhere: Address = `0x${"c2".repeat(20)}`;
const euro: Address = `0x${"e5".repeat(20)}`;
const unlisted: Address = `0x${"d0".repeat(20)}`;
const payees: readonly Address[] = [`0x${"b0".repeat(20)}`, `0x${"b1".repeat(20)}`];
const channels: readonly Hex[] = [`0x${"5a".repeat(32)}`, `0x${"5b".repeat(32)}`];
const hosts = ["api.x.com", "api.x.com:8443", "cdn.x.com", "other.org"] as const;
const AT = Date.parse("2026-11-26T14:30:00Z");

const policy: PaymentPolicy = {
	hosts: [...hosts, "*.x.com"],
	chainIds: [8_453, 1],
	tokens: [unlisted],
	maxPrice: 10n ** 9n,
	maxDeposit: 10n ** 9n,
	limits: { total: { day: 50n } },
	categories: { x: { hosts: ["*.x.com"] }, rest: { hosts: ["other.org"] } },
	currencies: [
		{
			symbol: "USDC",
			decimals: 6,
			tokens: [
				{ chainId: 8_453, address: usdc },
				{ chainId: 1, address: usdcElsewhere },
			],
			limits: {
				host: { hour: 2_000_000n, day: 5_000_000n },
				payee: { day: 6_000_000n },
				channel: { ever: 7_000_000n },
				category: { x: { day: 8_000_000n, month: 16_000_000n } },
				total: { month: 22_000_000n, ever: 28_000_000n },
			},
		},
		{ symbol: "EURC", decimals: 0, tokens: [{ chainId: 1, address: euro }], limits: { host: { day: 9n } } },
	],
};
const rules = parsePolicy(policy);

const spend = (its: Partial<Spend> = {}): Spend => ({
	amount: 1_000_000n,
	chainId: 8_453,
	token: usdc,
	payee: payees[0] as Address,
	host: "api.x.com",
	...its,
});

async function pay(store: PayerStore, its: Spend, nowMs: number): Promise<CounterRefusal | undefined> {
	return store.write({ counters: countersFor(rules, its, nowMs) });
}

describe("what a spend counts into", () => {
	it("is every scope and window, limited or not: a limit that is set later knows what was spent before", () => {
		const keys = countersFor(rules, spend({ channelId: channels[0] as Hex }), AT).map(({ key }) => key);
		expect(keys).toEqual([
			"USDC host api.x.com hour 2026-11-26T14",
			"USDC host api.x.com day 2026-11-26",
			"USDC host api.x.com month 2026-11",
			"USDC host api.x.com ever",
			"USDC category x hour 2026-11-26T14",
			"USDC category x day 2026-11-26",
			"USDC category x month 2026-11",
			"USDC category x ever",
			`USDC payee ${payees[0]} hour 2026-11-26T14`,
			`USDC payee ${payees[0]} day 2026-11-26`,
			`USDC payee ${payees[0]} month 2026-11`,
			`USDC payee ${payees[0]} ever`,
			`USDC channel ${channels[0]} ever`,
			"USDC total hour 2026-11-26T14",
			"USDC total day 2026-11-26",
			"USDC total month 2026-11",
			"USDC total ever",
		]);
	});

	it("is the same where the limits are others", () => {
		const keysOf = (its: PaymentPolicy) => countersFor(parsePolicy(its), spend(), AT).map(({ key }) => key);
		const [usd] = policy.currencies ?? [];
		if (usd === undefined) throw new Error("there is no currency");
		expect(keysOf({ ...policy, currencies: [{ ...usd, limits: { total: { ever: 1n } } }] })).toEqual(keysOf(policy));
	});

	it("is one count for a currency's tokens on all chains, and one for each token of no currency", () => {
		const totalOf = (its: Partial<Spend>) => countersFor(rules, spend(its), AT).at(-1)?.key;
		expect(totalOf({ chainId: 1, token: usdcElsewhere })).toBe(totalOf({}));
		expect(totalOf({ token: unlisted })).toBe(`8453:${unlisted} total ever`);
		expect(totalOf({ token: unlisted, chainId: 1 })).toBe(`1:${unlisted} total ever`);
		// The same address on a chain where the currency does not have it is another token.
		expect(totalOf({ chainId: 1 })).toBe(`1:${usdc} total ever`);
	});

	it("has limits by currency, by the policy itself for tokens of none, and none of the other's", () => {
		const limitsOf = (its: Partial<Spend>) =>
			Object.fromEntries(
				countersFor(rules, spend(its), AT).flatMap(({ key, max }) => (max === undefined ? [] : [[key, max]])),
			);
		expect(limitsOf({ chainId: 1, token: euro })).toEqual({ "EURC host api.x.com day 2026-11-26": 9n });
		expect(limitsOf({ token: unlisted })).toEqual({ [`8453:${unlisted} total day 2026-11-26`]: 50n });
	});

	it("is the same host however it is written, and another one on another port", () => {
		const hostOf = (host: string) => countersFor(rules, spend({ host }), AT)[0]?.key;
		expect(hostOf("API.x.com.")).toBe(hostOf("api.x.com"));
		expect(hostOf("api.x.com.:8443")).toBe("USDC host api.x.com:8443 hour 2026-11-26T14");
		// Its category is the same one on every port.
		expect(countersFor(rules, spend({ host: "api.x.com:1" }), AT)[4]?.key).toContain("category x");
	});

	it("is kept beyond its window, so that a clock set back finds it again", () => {
		for (const { key, untilMs } of countersFor(rules, spend(), AT)) {
			if (key.endsWith("ever")) expect(untilMs).toBeUndefined();
			else expect(untilMs).toBeGreaterThanOrEqual(AT + 86_400_000);
		}
	});

	it("has keys that can be read back", () => {
		for (const { key } of countersFor(rules, spend({ channelId: channels[0] as Hex }), AT))
			expect(counterKey(parseCounterKey(key))).toBe(key);
	});
});

describe("a refusal by a limit", () => {
	async function refused(store: PayerStore, its: Spend, nowMs = AT) {
		const refusal = await pay(store, its, nowMs);
		if (refusal === undefined) throw new Error("it was allowed");
		return refusalOf(rules, countersFor(rules, its, nowMs), refusal);
	}

	it("says whose limit it is, in the units of the currency, what was asked, and when it begins anew", async () => {
		const store = new MemoryPayerStore();
		await pay(store, spend({ amount: 2_000_000n }), AT - 3_600_000);
		await pay(store, spend({ amount: 2_000_000n }), AT);
		await pay(store, spend({ amount: 200_000n }), AT + 3_600_000);
		const error = await refused(store, spend({ amount: 1_000_000n }), AT + 3_600_000);
		expect(error.message).toBe(
			"policy: host api.x.com is over its daily limit: 4.20 of 5.00 USDC, and 1.00 more is asked for; it begins anew at 2026-11-27T00:00:00.000Z",
		);
		expect(error).toMatchObject({ code: "POLICY_REFUSED", rule: "limit" });
		expect(error.limit).toEqual({
			name: "host.day",
			subject: "api.x.com",
			currency: "USDC",
			current: 4_200_000n,
			max: 5_000_000n,
			asked: 1_000_000n,
			resetsAtMs: Date.parse("2026-11-27T00:00:00Z"),
		});
	});

	it.each<[string, Partial<Spend>, string, string | undefined]>([
		[
			"an hour",
			{ amount: 2_000_001n },
			"host api.x.com is over its hourly limit: 0.00 of 2.00 USDC",
			"2026-11-26T15:00:00.000Z",
		],
		[
			"a token of no currency",
			{ token: unlisted, amount: 51n },
			`this wallet is over its daily limit: 0 of 50 base units of token ${unlisted} on chain 8453, and 51 more`,
			"2026-11-27T00:00:00.000Z",
		],
		[
			"a currency without decimals",
			{ token: euro, chainId: 1, amount: 10n },
			"host api.x.com is over its daily limit: 0 of 9 EURC",
			"2026-11-27T00:00:00.000Z",
		],
	])("is told for %s", async (_name, its, words, resets) => {
		const error = await refused(new MemoryPayerStore(), spend(its));
		expect(error.message).toContain(`policy: ${words}`);
		expect(new Date(error.limit?.resetsAtMs ?? 0).toISOString()).toBe(resets);
	});

	it("of what never begins anew says so", async () => {
		const store = new MemoryPayerStore();
		const its = spend({ amount: 1_500_000n, channelId: channels[0] as Hex });
		for (let day = 0; day < 4; day++) await pay(store, its, AT + day * 86_400_000);
		const error = await refused(store, its, AT + 5 * 86_400_000);
		expect(error.message).toContain(`channel ${channels[0]} is over its overall limit: 6.00 of 7.00 USDC`);
		expect(error.message).toContain("never begins anew");
		expect(error.limit?.resetsAtMs).toBeUndefined();
	});

	it("changes nothing: what it refused is not counted", async () => {
		const store = new MemoryPayerStore();
		for (let i = 0; i < 5; i++) await pay(store, spend({ amount: 1_999_999n }), AT);
		expect(await store.counts(["USDC total ever"])).toEqual([1_999_999n]);
	});
});

describe("windows", () => {
	it.each([
		["an hour", "2026-11-26T14:59:59.999Z", "2026-11-26T15:00:00.000Z"],
		["a day", "2026-11-26T23:59:59.999Z", "2026-11-27T00:00:00.000Z"],
		["a month that ends a year", "2026-12-31T23:59:59.999Z", "2027-01-01T00:00:00.000Z"],
		["a leap day", "2028-02-29T23:59:59.999Z", "2028-03-01T00:00:00.000Z"],
	])("end with the calendar's in UTC: %s", async (_name, last, first) => {
		const store = new MemoryPayerStore();
		const its = spend({ amount: 2_000_000n });
		expect(await pay(store, its, Date.parse(last))).toBeUndefined();
		expect(await pay(store, its, Date.parse(last))).toMatchObject({ key: expect.stringContaining(" hour ") });
		expect(await pay(store, its, Date.parse(first))).toBeUndefined();
	});

	it("are found again by a clock that is set back", async () => {
		const store = new MemoryPayerStore();
		const its = spend({ amount: 2_000_000n });
		await pay(store, its, AT);
		await pay(store, its, AT + 86_400_000);
		expect(await pay(store, its, AT)).toBeDefined();
	});
});

describe("whatever is spent, in whatever order and at whatever time (I11)", () => {
	const HOUR = 3_600_000;
	const spends = fc.record({
		amount: fc.bigInt({ min: 1n, max: 2_100_000n }),
		host: fc.constantFrom<string>(...hosts, "API.x.com."),
		payee: fc.constantFrom(...payees),
		at: fc.constantFrom({ chainId: 8_453, token: usdc }, { chainId: 1, token: usdcElsewhere }),
		channelId: fc.option(fc.constantFrom(...channels), { nil: undefined, freq: 2 }),
		/** Of the course's pace; sometimes back. */
		step: fc.oneof(
			{ weight: 9, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) },
			{ weight: 1, arbitrary: fc.constant(-1) },
		),
	});

	/** Little every day, for three months: reaches the one limit that courses drawn by chance now and then do not. */
	const patient = Array.from({ length: 90 }, () => ({
		amount: 500_000n,
		host: "other.org",
		payee: payees[0] as Address,
		at: { chainId: 8_453, token: usdc } as const,
		channelId: undefined,
		step: 1,
	}));

	const paces = fc.constantFrom(HOUR / 4, HOUR, 5 * HOUR, 24 * HOUR, 10 * 24 * HOUR);

	/** Sums of what was spent, each computed from the list alone: what the policy says in words. */
	type Entry = Readonly<{ its: Spend; atMs: number }>;
	const iso = (atMs: number) => new Date(atMs).toISOString();
	const limitsInWords: readonly [string, bigint, (entry: Entry) => string | undefined][] = [
		["host.hour", 2_000_000n, ({ its, atMs }) => `${nameOf(its.host)} ${iso(atMs).slice(0, 13)}`],
		["host.day", 5_000_000n, ({ its, atMs }) => `${nameOf(its.host)} ${iso(atMs).slice(0, 10)}`],
		["payee.day", 6_000_000n, ({ its, atMs }) => `${its.payee} ${iso(atMs).slice(0, 10)}`],
		["channel.ever", 7_000_000n, ({ its }) => its.channelId],
		["category.x.day", 8_000_000n, ({ its, atMs }) => (isX(its.host) ? iso(atMs).slice(0, 10) : undefined)],
		["category.x.month", 16_000_000n, ({ its, atMs }) => (isX(its.host) ? iso(atMs).slice(0, 7) : undefined)],
		["total.month", 22_000_000n, ({ atMs }) => iso(atMs).slice(0, 7)],
		["total.ever", 28_000_000n, () => "ever"],
	];
	const nameOf = (host: string) => host.toLowerCase().replace("x.com.", "x.com");
	const isX = (host: string) => nameOf(host).includes(".x.com");

	/** The limits that a list of spends is over. */
	function over(entries: readonly Entry[]): readonly string[] {
		return limitsInWords.flatMap(([name, max, groupOf]) => {
			const sums = new Map<string, bigint>();
			for (const entry of entries) {
				const group = groupOf(entry);
				if (group !== undefined) sums.set(group, (sums.get(group) ?? 0n) + entry.its.amount);
			}
			return [...sums.values()].some((sum) => sum > max) ? [name] : [];
		});
	}

	test("no limit is ever gone over, and nothing is refused that no limit is against", async () => {
		const seen = new Set<string>();
		await fc.assert(
			fc.asyncProperty(
				fc.array(spends, { minLength: 1, maxLength: 90, size: "max" }),
				paces,
				async (course, paceMs) => {
					const store = new MemoryPayerStore();
					const allowed: Entry[] = [];
					let atMs = AT;
					for (const { step, at, channelId, ...rest } of course) {
						atMs += Math.round(step * paceMs);
						const entry = { its: { ...rest, ...at, ...(channelId && { channelId }) }, atMs };
						const refusal = await pay(store, entry.its, atMs);
						const wouldBeOver = over([...allowed, entry]);
						expect(refusal === undefined).toBe(wouldBeOver.length === 0);
						if (refusal === undefined) allowed.push(entry);
						else {
							const error = refusalOf(rules, countersFor(rules, entry.its, atMs), refusal);
							expect(wouldBeOver).toContain(error.limit?.name);
							seen.add(error.limit?.name ?? "");
						}
					}
					expect(over(allowed)).toEqual([]);
				},
			),
			{ numRuns: 150, examples: [[patient, 24 * HOUR]] },
		);
		// The courses reach every limit.
		expect([...seen].sort()).toEqual(limitsInWords.map(([name]) => name).sort());
	}, 60_000);
});

describe("the state of limits", () => {
	it("tells each with its count, for whom the policy names", async () => {
		const store = new MemoryPayerStore();
		await pay(store, spend({ amount: 1_500_000n }), AT);
		const rows = await limitsStatus(rules, store, AT);
		expect(rows).toContainEqual({
			name: "host.day",
			currency: "USDC",
			subject: "api.x.com",
			current: 1_500_000n,
			max: 5_000_000n,
			text: "1.50 of 5.00 USDC",
			resetsAtMs: Date.parse("2026-11-27T00:00:00Z"),
		});
		expect(rows).toContainEqual(expect.objectContaining({ name: "category.x.month", current: 1_500_000n }));
		expect(rows).toContainEqual(expect.objectContaining({ name: "total.ever", text: "1.50 of 28.00 USDC" }));
		expect(rows).toContainEqual(
			expect.objectContaining({ name: "total.day", currency: `8453:${unlisted}`, current: 0n, max: 50n }),
		);
		const [later] = (await limitsStatus(rules, store, AT + 86_400_000)).filter(
			({ name, subject }) => name === "host.day" && subject === "api.x.com",
		);
		expect(later?.current).toBe(0n);
	});
});

describe("the counts of a channel's vouchers, which are named once", () => {
	it("are at every moment those that are named anew", () => {
		const moment = fc.integer({ min: AT - 40 * 86_400_000, max: AT + 40 * 86_400_000 });
		const nearby = fc.tuple(moment, fc.integer({ min: -7_200_000, max: 7_200_000 }));
		fc.assert(
			fc.property(fc.array(fc.oneof(moment, nearby), { minLength: 1, maxLength: 30, size: "max" }), (moments) => {
				let last: ReturnType<typeof channelCounts> | undefined;
				for (const nowMs of moments.flatMap((one) => (typeof one === "number" ? [one] : [one[0], one[0] + one[1]]))) {
					last = channelCounts(last, rules, spend(), nowMs);
					expect(raisedBy(last.counts, 5n)).toEqual(countersFor(rules, spend({ amount: 5n }), nowMs));
				}
			}),
		);
	});

	it("are the same ones within an hour, and others with another policy", () => {
		const first = channelCounts(undefined, rules, spend(), AT);
		expect(channelCounts(first, rules, spend(), AT + 60_000)).toBe(first);
		const { currencies: _, ...unlistedOnly } = policy;
		const tighter = parsePolicy({ ...unlistedOnly, limits: { total: { day: 1n } } });
		const changed = channelCounts(first, tighter, spend({ token: unlisted }), AT);
		expect(changed.counts).toEqual(channelCounts(undefined, tighter, spend({ token: unlisted }), AT).counts);
		expect(changed).not.toEqual(first);
	});

	it("count nothing where nothing is raised", () => {
		expect(raisedBy(channelCounts(undefined, rules, spend(), AT).counts, 0n)).toEqual([]);
	});
});
