import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
	formatAcceptPayment,
	MAX_ACCEPT_PAYMENT_LENGTH,
	type PaymentRange,
	PaymentRangeError,
	parseAcceptPayment,
	preferred,
} from "../../src/protocol/index.ts";

const RUNS = 10_000;

const method = fc.oneof(fc.constant("*"), fc.stringMatching(/^[a-z]{1,8}$/));
const intent = fc.oneof(fc.constant("*"), fc.stringMatching(/^[A-Za-z0-9-]{1,8}$/));
const q = fc.integer({ min: 0, max: 1_000 }).map((thousandths) => thousandths / 1_000);
const range: fc.Arbitrary<PaymentRange> = fc.record({ method, intent, q });
const ranges = fc.array(range, { minLength: 1, maxLength: 6 });

/** Optional white space. */
const ows = fc.constantFrom("", " ", "\t", " \t ");
/** What the field is made of, in any disorder. */
const pieces = fc.array(
	fc.constantFrom("evm", "*", "/", "charge", ";", "q=", "Q=", "0.5", "1.000", "0.", ",", " ", "\t", "\n", "é"),
	{
		maxLength: 20,
	},
);

describe("parseAcceptPayment", () => {
	it("reads methods, intents, wildcards and weights", () => {
		expect(parseAcceptPayment("evm/charge, evm/session;q=0.5,tempo/*;q=0, */Charge-2 ; q=0.125, */*")).toEqual([
			{ method: "evm", intent: "charge", q: 1 },
			{ method: "evm", intent: "session", q: 0.5 },
			{ method: "tempo", intent: "*", q: 0 },
			{ method: "*", intent: "Charge-2", q: 0.125 },
			{ method: "*", intent: "*", q: 1 },
		]);
	});

	it.each([
		["0", 0],
		["0.", 0],
		["0.0", 0],
		["0.001", 0.001],
		["0.999", 0.999],
		["1", 1],
		["1.", 1],
		["1.000", 1],
	])("takes q=%s for %d", (text, weight) => {
		expect(parseAcceptPayment(`evm/charge;q=${text}`)).toEqual([{ method: "evm", intent: "charge", q: weight }]);
		expect(parseAcceptPayment(`evm/charge;Q=${text}`)).toEqual([{ method: "evm", intent: "charge", q: weight }]);
	});

	it.each(["evm/charge,", ",evm/charge", ", ,\t,evm/charge , ,", "  evm/charge\t"])(
		"passes over empty elements and white space: %j",
		(header) => {
			expect(parseAcceptPayment(header)).toEqual([{ method: "evm", intent: "charge", q: 1 }]);
		},
	);

	it.each([undefined, null, "", " ", ",", ", ,\t"])("finds no preference in %j", (header) => {
		expect(parseAcceptPayment(header)).toBeUndefined();
	});

	it.each([
		"evm",
		"evm/",
		"/charge",
		"evm/charge/more",
		"evm charge",
		"EVM/charge",
		"Evm/charge",
		"evm2/charge",
		"e-vm/charge",
		"**/charge",
		"evm/*x",
		"evm/char_ge",
		"evm/charge;",
		"evm/charge;q",
		"evm/charge;q=",
		"evm/charge;q=.5",
		"evm/charge;q=-0",
		"evm/charge;q=+1",
		"evm/charge;q=01",
		"evm/charge;q=2",
		"evm/charge;q=1.001",
		"evm/charge;q=0.1234",
		"evm/charge;q=1e-1",
		"evm/charge;q=0x1",
		"evm/charge;q=NaN",
		'evm/charge;q="0.5"',
		"evm/charge;q =0.5",
		"evm/charge;q= 0.5",
		"evm/charge;p=0.5",
		"evm/charge;q=0.5;q=0.5",
		"evm/charge;q=0.5;x=1",
		"evm /charge",
		"evm/ charge",
		"evm/charge\n",
		"evm/charge\u00a0",
		"evm/charge, nonsense",
		"evm/charge tempo/charge",
		"__proto__/charge",
	])("takes %j for malformed", (header) => {
		expect(parseAcceptPayment(header)).toBeUndefined();
	});

	it("reads 4,096 characters and not one more", () => {
		const longest = "evm/charge,".padEnd(MAX_ACCEPT_PAYMENT_LENGTH, " ");
		expect(longest).toHaveLength(4_096);
		expect(parseAcceptPayment(longest)).toHaveLength(1);
		expect(parseAcceptPayment(`${longest} `)).toBeUndefined();
	});

	it("reads back what is formatted, with optional white space and empty elements anywhere", () => {
		fc.assert(
			fc.property(ranges, ows, ows, (given, one, other) => {
				const text = formatAcceptPayment(given);
				expect(parseAcceptPayment(text)).toEqual(given);
				const spaced = text.replaceAll(", ", `${one},${other},${one}`).replaceAll(";", `${one};${other}`);
				expect(parseAcceptPayment(`${other},${spaced}${one}`)).toEqual(given);
			}),
			{ numRuns: RUNS },
		);
	});

	it("never throws, and says of whatever it takes what its format says again", () => {
		const text = fc.oneof(
			pieces.map((all) => all.join("")),
			fc.string({ unit: "binary", maxLength: 40 }),
		);
		fc.assert(
			fc.property(text, (header) => {
				const parsed = parseAcceptPayment(header);
				if (parsed !== undefined) expect(parseAcceptPayment(formatAcceptPayment(parsed))).toEqual(parsed);
			}),
			{ numRuns: RUNS },
		);
	});
});

describe("formatAcceptPayment", () => {
	it("writes weights other than 1, and as few digits as do", () => {
		const given = [
			{ method: "evm", intent: "*", q: 1 },
			{ method: "*", intent: "charge", q: 0.5 },
			{ method: "tempo", intent: "session", q: 0 },
			{ method: "tempo", intent: "charge", q: 0.001 },
		];
		expect(formatAcceptPayment(given)).toBe("evm/*, */charge;q=0.5, tempo/session;q=0, tempo/charge;q=0.001");
	});

	const good = { method: "evm", intent: "charge", q: 1 };
	it.each<[string, readonly PaymentRange[]]>([
		["no range", []],
		["a method in capitals", [{ ...good, method: "EVM" }]],
		["an empty method", [{ ...good, method: "" }]],
		["a method with a list in it", [{ ...good, method: "evm,tempo" }]],
		["an empty intent", [{ ...good, intent: "" }]],
		["an intent with a header in it", [{ ...good, intent: "charge\r\nx" }]],
		["a weight above 1", [{ ...good, q: 1.001 }]],
		["a weight below 0", [good, { ...good, q: -0.1 }]],
		["a weight of four decimals", [{ ...good, q: 0.0001 }]],
		["a weight that is no number", [{ ...good, q: Number.NaN }]],
		["more than the field holds", Array.from({ length: 400 }, () => good)],
	])("refuses %s", (_, given) => {
		expect(() => formatAcceptPayment(given)).toThrow(PaymentRangeError);
	});
});

describe("preferred", () => {
	const offer = (name: string) => {
		const [method = "", intent = ""] = name.split("/");
		return { method, intent };
	};
	const order = (offers: readonly string[], header: string | undefined) =>
		preferred(offers.map(offer), parseAcceptPayment(header)).map(({ method, intent }) => `${method}/${intent}`);

	const ALL = ["tempo/session", "tempo/charge", "solana/charge", "stripe/charge"];

	it.each<[string, string | undefined, readonly string[]]>([
		["all, where the field is absent", undefined, ALL],
		["all, where it is malformed", "tempo/session;q=0, nonsense", ALL],
		["all, where none would be left", "evm/charge", ALL],
		["all, where none is wanted", "*/*;q=0", ALL],
		["those that match", "solana/charge", ["solana/charge"]],
		["the best first", "tempo/charge;q=0.2, stripe/charge;q=0.9", ["stripe/charge", "tempo/charge"]],
		["the server's order among equals", "stripe/charge, solana/charge, tempo/charge", ALL.slice(1)],
		["wildcards", "tempo/*, solana/*;q=0.6, stripe/charge;q=0.2", ALL],
		["none with q=0", "tempo/charge, tempo/session;q=0, solana/charge;q=0.8", ["tempo/charge", "solana/charge"]],
		["none that a more specific range excludes", "tempo/*, tempo/session;q=0", ["tempo/charge"]],
		[
			"what a more specific range ranks lower",
			"*/*, tempo/charge;q=0.1",
			[...ALL.filter((one) => one !== "tempo/charge"), "tempo/charge"],
		],
		[
			"by method rather than by intent",
			"*/charge, tempo/*;q=0.1",
			["solana/charge", "stripe/charge", "tempo/session", "tempo/charge"],
		],
		[
			"by intent rather than by anything",
			"*/*;q=0.1, */session",
			["tempo/session", "tempo/charge", "solana/charge", "stripe/charge"],
		],
		[
			"by the first of two alike",
			"tempo/charge;q=0.5, tempo/charge;q=0, stripe/charge",
			["stripe/charge", "tempo/charge"],
		],
		["none of another case", "tempo/Charge, stripe/charge", ["stripe/charge"]],
	])("gives %s", (_, header, expected) => {
		expect(order(ALL, header)).toEqual(expected);
	});

	it("leaves the offers that it was given as they were", () => {
		const offers = ALL.map(offer);
		const given = [...offers];
		const sorted = preferred(offers, parseAcceptPayment("stripe/charge, */*;q=0.5"));
		expect(sorted[0]).toBe(offers[3]);
		expect(offers).toEqual(given);
	});

	it("gives some or all of the offers, each once, and none of weight 0 beside one of more", () => {
		const names = fc.constantFrom("evm/charge", "evm/session", "tempo/charge", "tempo/session");
		const some = fc.uniqueArray(names, { maxLength: 4 });
		const known = fc.record({
			method: fc.constantFrom("evm", "tempo", "*"),
			intent: fc.constantFrom("charge", "session", "*"),
			q: fc.constantFrom(0, 0.5, 1),
		});
		fc.assert(
			fc.property(some, fc.array(known, { minLength: 1, maxLength: 4 }), (offered, given) => {
				const offers = offered.map(offer);
				const result = preferred(offers, given);
				const weight = (one: { method: string; intent: string }) => {
					for (const [method, intent] of [
						[one.method, one.intent],
						[one.method, "*"],
						["*", one.intent],
						["*", "*"],
					]) {
						const found = given.find((each) => each.method === method && each.intent === intent);
						if (found !== undefined) return found.q;
					}
					return 0;
				};
				const wanted = offers.filter((one) => weight(one) > 0);
				if (wanted.length === 0) {
					expect(result).toEqual(offers);
					return;
				}
				expect(result).toHaveLength(wanted.length);
				expect(new Set(result)).toEqual(new Set(wanted));
				for (const [index, one] of result.entries()) {
					const next = result[index + 1];
					if (next === undefined) continue;
					const [weightOfOne, weightOfNext] = [weight(one), weight(next)];
					expect(weightOfOne).toBeGreaterThanOrEqual(weightOfNext);
					if (weightOfOne === weightOfNext) expect(offers.indexOf(one)).toBeLessThan(offers.indexOf(next));
				}
			}),
			{ numRuns: RUNS },
		);
	});
});
