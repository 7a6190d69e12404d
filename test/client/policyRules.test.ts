/** Hosts, what is denied, categories, currencies: whom a policy lets be paid, however they write themselves. */
import fc from "fast-check";
import type { Address } from "viem";
import { describe, expect, it, test } from "vitest";
import { type ApprovalRequest, approvalRefused, assertNotDryRun } from "../../src/client/policy/approval.ts";
import { concernsHost, isAmongHosts, parseHostPattern } from "../../src/client/policy/hosts.ts";
import {
	additionalDepositFor,
	amountText,
	assertAllowed,
	assertStaticallyAllowed,
	boundsFor,
	depositFor,
	needsApproval,
	type PaymentPolicy,
	PolicyError,
	PolicyRefusedError,
	parsePolicy,
	rankOfToken,
} from "../../src/client/policy.ts";
import { parseChargeRequest, parseSessionRequest } from "../../src/protocol/index.ts";

const usdc: Address = `0x${"c0".repeat(20)}`;
const bridged: Address = `0x${"c1".repeat(20)}`;
const extra: Address = `0x${"c2".repeat(20)}`;
const escrow: Address = `0x${"e0".repeat(20)}`;
const otherEscrow: Address = `0x${"e1".repeat(20)}`;
const payee: Address = `0x${"b0".repeat(20)}`;
const otherPayee: Address = `0x${"b1".repeat(20)}`;

const currency = {
	symbol: "USDC",
	decimals: 6,
	tokens: [
		{ chainId: 8_453, address: usdc },
		{ chainId: 1, address: bridged },
	],
	maxPrice: 50_000n,
	maxDeposit: 5_000_000n,
};
const policy: PaymentPolicy = { payees: [payee, otherPayee], escrows: [escrow, otherEscrow], currencies: [currency] };
const parties = { host: "api.example.com", payee, chainId: 8_453, token: usdc };

function ruleOf(its: PaymentPolicy, changes: Partial<typeof parties & { escrow: Address }> = {}): string | undefined {
	try {
		assertStaticallyAllowed(parsePolicy(its), { ...parties, ...changes });
		return undefined;
	} catch (error) {
		if (error instanceof PolicyRefusedError) return error.rule;
		throw error;
	}
}

/** As the client has it: of a URL. */
const hostOf = (url: string) => new URL(url).host;

describe("a host pattern", () => {
	it.each([
		["API.Example.COM", "api.example.com"],
		["api.example.com:8443", "api.example.com:8443"],
		["api.example.com:443", "api.example.com"],
		["bücher.example", "xn--bcher-kva.example"],
		["*.Bücher.example", "*.xn--bcher-kva.example"],
		["127.0.0.1:3000", "127.0.0.1:3000"],
		["0x7f.1", "127.0.0.1"],
		["[::1]:3000", "[::1]:3000"],
		["[0:0:0:0:0:0:0:1]", "[::1]"],
		["localhost:3000", "localhost:3000"],
		["*.example.com:8443", "*.example.com:8443"],
	])("%s is %s, as URLs have it", (text, pattern) => {
		expect(parseHostPattern(text)).toBe(pattern);
	});

	it.each([
		"",
		"*",
		"*.",
		"https://api.example.com",
		"api.example.com/path",
		"user@api.example.com",
		"api.*.com",
		"*api.example.com",
		"**.example.com",
		"*.127.0.0.1",
		"*.[::1]",
		"api.example.com.",
		"api.example.com:",
		"api.example.com:99999",
		"a b.com",
		"api.example.com?x",
		"api.example.com#x",
		"api\\example.com",
		"api%2eexample.com",
		".example.com",
		"*..example.com",
	])("%j is none", (text) => {
		expect(() => parseHostPattern(text)).toThrow(/api\.example\.com:8443/);
		expect(() => parsePolicy({ ...policy, hosts: [text] })).toThrow(PolicyError);
	});
});

describe("hosts that may be paid", () => {
	const hosts = ["api.example.com", "*.data.example.com", "models.example.com:8443", "[::1]:3000", "bücher.example"];
	const isAllowed = (url: string) => ruleOf({ ...policy, hosts }, { host: hostOf(url) }) === undefined;

	it.each([
		"https://api.example.com/x",
		"https://API.EXAMPLE.COM:443/",
		"https://user:secret@api.example.com/",
		"https://a.data.example.com/",
		"https://a.b.data.example.com/",
		"https://models.example.com:8443/",
		"http://[0:0:0:0:0:0:0:1]:3000/",
		"https://xn--bcher-kva.example/",
		"https://bücher.example/",
	])("%s is", (url) => {
		expect(isAllowed(url)).toBe(true);
	});

	it.each([
		"https://api.example.com.evil.org/",
		"https://api.example.com@evil.org/",
		"https://evil.org/api.example.com",
		"https://evil.org?https://api.example.com",
		"https://evil.org#api.example.com",
		"https://api.example.com:8443/",
		"https://api.example.com./",
		"https://evil-api.example.com/",
		"https://sub.api.example.com/",
		"https://data.example.com/",
		"https://evildata.example.com/",
		"https://a.data.example.com:8443/",
		"https://a.data.example.com./",
		"https://models.example.com/",
		"https://models.example.com:18443/",
		"https://[::2]:3000/",
		"https://[::1]/",
		"https://аpi.example.com/",
		"https://bucher.example/",
	])("%s is not", (url) => {
		expect(isAllowed(url)).toBe(false);
	});

	test("a wildcard takes exactly what stands before its name with a dot", () => {
		const label = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/);
		fc.assert(
			fc.property(fc.array(label, { maxLength: 4 }), label, (labels, other) => {
				const host = [...labels, "example", "com"].join(".");
				expect(isAmongHosts(["*.example.com"], host)).toBe(labels.length > 0);
				expect(isAmongHosts(["*.example.com"], `${other}${host}`)).toBe(labels.length > 0);
				expect(isAmongHosts(["*.example.com"], `${host}.${other}`)).toBe(false);
			}),
		);
	});
});

describe("what is denied", () => {
	const denied = {
		hosts: ["evil.example.com", "*.ads.example.com", "half.example.com:8443"],
		payees: [otherPayee],
		tokens: [bridged],
		chainIds: [1],
		escrows: [otherEscrow],
	};
	const its: PaymentPolicy = { ...policy, hosts: ["*.example.com", "*.example.com:8443", "*.example.com:1"], denied };

	it("is refused although it is allowed as well", () => {
		expect(ruleOf(its)).toBeUndefined();
		expect(ruleOf(its, { host: "evil.example.com" })).toBe("host");
		expect(ruleOf(its, { host: "a.ads.example.com" })).toBe("host");
		expect(ruleOf(its, { payee: otherPayee })).toBe("payee");
		expect(ruleOf(its, { chainId: 1, token: bridged })).toBe("chain");
		expect(ruleOf({ ...its, denied: { tokens: [bridged] } }, { chainId: 1, token: bridged })).toBe("token");
		expect(ruleOf(its, { escrow })).toBeUndefined();
		expect(ruleOf(its, { escrow: otherEscrow })).toBe("escrow");
		expect(ruleOf({ ...its, hosts: undefined as never }, { host: "evil.example.com" })).toBe("host");
	});

	it.each([
		"evil.example.com:8443",
		"evil.example.com.",
		"EVIL.example.com",
		"evil.example.com.:8443",
		"x.ads.example.com:1",
	])("is refused also where a host writes itself %s", (host) => {
		expect(ruleOf({ ...policy, denied }, { host })).toBe("host");
	});

	it("with a port is denied on that port", () => {
		expect(ruleOf(its, { host: "half.example.com:8443" })).toBe("host");
		expect(ruleOf(its, { host: "half.example.com" })).toBeUndefined();
	});

	it("of payees may not be paid by a split either", () => {
		const split = parseChargeRequest({
			amount: "100",
			currency: usdc,
			recipient: payee,
			methodDetails: { chainId: 8_453, splits: [{ recipient: otherPayee, amount: "1" }] },
		});
		const allowing = { ...policy, splitRecipients: [otherPayee] };
		expect(() => assertAllowed(parsePolicy(allowing), parties.host, split)).not.toThrow();
		expect(() => assertAllowed(parsePolicy({ ...allowing, denied }), parties.host, split)).toThrow("split");
	});
});

describe("categories", () => {
	const categories = {
		models: { hosts: ["api.example.com", "*.models.example.com"] },
		games: { hosts: ["*.games.example.com", "api.example.org"], isDenied: true },
	};

	it("that are denied are refused, on every port, and allow nobody by themselves", () => {
		expect(ruleOf({ ...policy, categories }, { host: "x.games.example.com:1234" })).toBe("category");
		expect(ruleOf({ ...policy, categories }, { host: "api.example.org." })).toBe("category");
		expect(ruleOf({ ...policy, categories })).toBeUndefined();
		expect(ruleOf({ ...policy, categories, hosts: ["other.com"] })).toBe("host");
	});

	it("concern whatever they list, however it is written", () => {
		expect(concernsHost(["*.x.com"], "A.X.com.:99")).toBe(true);
		expect(concernsHost(["*.x.com"], "x.com")).toBe(false);
		expect(concernsHost(["x.com:1"], "x.com:2")).toBe(false);
		expect(concernsHost(["[::1]"], "[::1]:3000")).toBe(true);
	});

	it("may be called like what every object has", () => {
		const named = { constructor: { hosts: ["api.example.com"], isDenied: true } };
		expect(ruleOf({ ...policy, categories: named })).toBe("category");
		expect(ruleOf({ ...policy, categories: {} })).toBeUndefined();
	});

	it("have limits by their names only", () => {
		const limits = { category: { modles: { day: 1n } } };
		expect(() => parsePolicy({ ...policy, categories, currencies: [{ ...currency, limits }] })).toThrow(
			"currencies.0.limits.category.modles",
		);
	});
});

describe("currencies", () => {
	it("allow each token on its own chain", () => {
		expect(ruleOf(policy)).toBeUndefined();
		expect(ruleOf(policy, { chainId: 1, token: bridged })).toBeUndefined();
		expect(ruleOf(policy, { chainId: 1 })).toBe("token");
		expect(ruleOf(policy, { token: extra })).toBe("token");
		expect(ruleOf({ ...policy, chainIds: [1] })).toBe("chain");
	});

	it("bound what their tokens pay, and the policy itself bounds the others", () => {
		const its = parsePolicy({ ...policy, chainIds: [8_453, 1], tokens: [extra], maxPrice: 7n, maxDeposit: 70n });
		expect(boundsFor(its, { chainId: 8_453, token: usdc })).toMatchObject({
			maxPrice: 50_000n,
			maxDeposit: 5_000_000n,
		});
		expect(boundsFor(its, { chainId: 1, token: extra })).toMatchObject({ maxPrice: 7n, maxDeposit: 70n });
		const terms = (token: Address, amount: string) =>
			parseSessionRequest({
				amount,
				currency: token,
				recipient: payee,
				methodDetails: { chainId: 8_453, escrowContract: escrow },
			});
		expect(() => assertAllowed(its, parties.host, terms(usdc, "50000"))).not.toThrow();
		expect(() => assertAllowed(its, parties.host, terms(usdc, "50001"))).toThrow(
			"policy: a price of 0.050001 USDC is over the limit of 0.05 USDC",
		);
		expect(() => assertAllowed(its, parties.host, terms(extra, "8"))).toThrow("base units");
		expect(depositFor(its, terms(usdc, "1"))).toBe(5_000_000n);
		expect(depositFor(its, terms(extra, "1"))).toBe(70n);
	});

	it("that say less are as the policy says it", () => {
		const its = parsePolicy({ ...policy, maxTotal: 9n, maxStream: 8n, approveAbove: 3n, limits: { request: 5n } });
		expect(boundsFor(its, { chainId: 8_453, token: usdc })).toMatchObject({
			maxTotal: 9n,
			maxStream: 5n,
			approveAbove: 3n,
			maxPrice: 5n,
		});
	});

	it("limit a request with all of its answer, whatever a stream might cost otherwise", () => {
		const bounds = (its: Partial<PaymentPolicy>) =>
			boundsFor(parsePolicy({ ...policy, ...its }), { chainId: 8_453, token: usdc });
		expect(bounds({ maxStream: 10n ** 9n, limits: { request: 60_000n } })).toMatchObject({
			maxPrice: 50_000n,
			maxStream: 60_000n,
		});
		expect(bounds({ limits: { request: 60_000n } }).maxStream).toBeUndefined();
	});

	it("bound top-ups as well", () => {
		const bounds = boundsFor(parsePolicy({ ...policy, maxTotal: 6_000_000n }), { chainId: 8_453, token: usdc });
		expect(additionalDepositFor(bounds, { deposit: 5_000_000n, accounted: 5_000_000n }, undefined, 1n)).toBe(
			1_000_000n,
		);
	});

	it("come after the policy's own tokens where offers are compared", () => {
		const its = parsePolicy({ ...policy, chainIds: [8_453, 1], tokens: [extra], maxPrice: 7n, maxDeposit: 70n });
		const ranks = [extra, usdc, bridged, payee].map((token) =>
			rankOfToken(its, { chainId: token === bridged ? 1 : 8_453, token }),
		);
		expect(ranks).toEqual([0, 1, 2, 3]);
	});

	it.each<[string, Partial<PaymentPolicy>]>([
		["currencies.0.maxPrice", { currencies: [{ ...currency, maxPrice: undefined as never }] }],
		["currencies.1.symbol", { currencies: [currency, { ...currency, tokens: [{ chainId: 1, address: extra }] }] }],
		["currencies.1.tokens.0", { currencies: [currency, { ...currency, symbol: "USDT" }] }],
		["currencies.0.symbol", { currencies: [{ ...currency, symbol: "US DC" }] }],
		["currencies.0.decimals", { currencies: [{ ...currency, decimals: 37 }] }],
		["currencies.0.tokens", { currencies: [{ ...currency, tokens: [] }] }],
		["limits.host", { limits: { host: { week: 1n } as never } }],
		["limits.channel", { limits: { channel: { day: 1n } as never } }],
		["limits.total.day", { limits: { total: { day: 0n } } }],
		["tokens", { currencies: undefined as never }],
		["chainIds", { tokens: [extra], maxPrice: 1n, maxDeposit: 1n }],
		["maxPrice", { tokens: [extra], chainIds: [1] }],
		["denied", { denied: { host: ["a.com"] } as never }],
		["categories.x.hosts", { categories: { x: { hosts: [] } } }],
	])("are refused where they are wrong, and %s is named", (named, change) => {
		expect(() => parsePolicy({ ...policy, ...change })).toThrow(PolicyError);
		expect(() => parsePolicy({ ...policy, ...change })).toThrow(named);
	});
});

describe("amounts are told", () => {
	const its = parsePolicy({
		...policy,
		currencies: [currency, { ...currency, symbol: "YEN", decimals: 0, tokens: [{ chainId: 1, address: extra }] }],
	});
	it.each([
		[0n, "0.00 USDC"],
		[1n, "0.000001 USDC"],
		[4_200_000n, "4.20 USDC"],
		[5_000_000n, "5.00 USDC"],
		[1_234_567_890n, "1234.56789 USDC"],
	])("%s as %s", (amount, text) => {
		expect(amountText(its, { chainId: 8_453, token: usdc }, amount)).toBe(text);
	});

	it("in whole units where there are no decimals, and in base units where no currency lists the token", () => {
		expect(amountText(its, { chainId: 1, token: extra }, 12n)).toBe("12 YEN");
		expect(amountText(its, { chainId: 1, token: payee }, 12n)).toBe(`12 base units of token ${payee} on chain 1`);
	});
});

describe("a policy that is paused, dry, or asks", () => {
	it("refuses everything while it is paused, and says why", () => {
		expect(ruleOf({ ...policy, paused: true })).toBe("paused");
		expect(() => assertStaticallyAllowed(parsePolicy({ ...policy, paused: "holidays" }), parties)).toThrow(
			"policy: spending is paused: holidays",
		);
	});

	it("asks above its threshold, from 0 on for everything", () => {
		const asks = (approveAbove: bigint | undefined, amount: bigint) =>
			needsApproval(
				parsePolicy({ ...policy, currencies: [{ ...currency, ...(approveAbove !== undefined && { approveAbove }) }] }),
				{
					...parties,
					amount,
				},
			);
		expect([asks(100n, 100n), asks(100n, 101n), asks(0n, 1n), asks(undefined, 10n ** 30n)]).toEqual([
			false,
			true,
			true,
			false,
		]);
	});

	it("says what would have been paid, without the query, which may hold secrets", () => {
		const request: ApprovalRequest = {
			kind: "charge",
			amount: 50_000n,
			amountText: "0.05 USDC",
			...parties,
			url: "https://api.example.com/quote?key=secret",
			method: "GET",
		};
		expect(() => assertNotDryRun(parsePolicy(policy), request)).not.toThrow();
		const dry = () => assertNotDryRun(parsePolicy({ ...policy, dryRun: true }), request);
		expect(dry).toThrow(
			`it would have been a charge of 0.05 USDC to ${payee} at api.example.com (GET https://api.example.com/quote)`,
		);
		expect(dry).toThrow(expect.objectContaining({ rule: "dryRun" }));
		expect(approvalRefused(request, "it was not given")).toMatchObject({ rule: "approval" });
	});
});
