import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	assertAllowed,
	assertSecure,
	depositFor,
	type PaymentPolicy,
	PolicyError,
	PolicyRefusedError,
	parsePolicy,
} from "../../src/client/policy.ts";
import {
	type ChargeRequest,
	parseChargeRequest,
	parseSessionRequest,
	type SessionRequest,
} from "../../src/protocol/index.ts";

const usdc = `0x${"c0".repeat(20)}` as const;
const otherToken = `0x${"c1".repeat(20)}` as const;
const escrow = `0x${"e0".repeat(20)}` as const;
const otherEscrow = `0x${"e1".repeat(20)}` as const;
const payee = `0x${"b0".repeat(20)}` as const;
const otherPayee = `0x${"b1".repeat(20)}` as const;
const HOST = "api.example.com";
const OTHER_HOST = "api.example.org";

const policy: PaymentPolicy = {
	chainIds: [8_453],
	tokens: [usdc],
	escrows: [escrow],
	hosts: [HOST],
	payees: [payee],
	maxDeposit: 5_000n,
	maxPrice: 100n,
};

function session(change: Record<string, unknown> = {}, details: Record<string, unknown> = {}): SessionRequest {
	return parseSessionRequest({
		amount: "100",
		currency: usdc,
		recipient: payee,
		...change,
		methodDetails: { chainId: 8_453, escrowContract: escrow, ...details },
	});
}

function charge(change: Record<string, unknown> = {}, details: Record<string, unknown> = {}): ChargeRequest {
	return parseChargeRequest({
		amount: "100",
		currency: usdc,
		recipient: payee,
		...change,
		methodDetails: { chainId: 8_453, ...details },
	});
}

/** The rule that refuses, or `undefined` where the request is allowed. */
function ruleOf(
	host: string,
	request: SessionRequest | ChargeRequest,
	its: PaymentPolicy = policy,
): string | undefined {
	try {
		assertAllowed(parsePolicy(its), host, request);
		return undefined;
	} catch (error) {
		if (error instanceof PolicyRefusedError) return error.rule;
		throw error;
	}
}

describe("a policy", () => {
	test.each([
		["chainIds", { chainIds: [] }],
		["chainIds", { chainIds: [0] }],
		["tokens", { tokens: [] }],
		["tokens", { tokens: ["usdc"] }],
		["escrows", { escrows: ["0x12"] }],
		["deployments", { deployments: { base: { escrow, permit2: payee, closeGracePeriodSeconds: 900 } } }],
		["hosts", { hosts: [] }],
		["payees", { payees: [] }],
		["maxDeposit", { maxDeposit: 0n }],
		["maxPrice", { maxPrice: -1n }],
		["maxPrice", { maxPrice: undefined }],
		["names the hosts or the payees", { hosts: undefined, payees: undefined }],
	])("is refused where it is wrong, and %s is named", (named, change) => {
		const wrong = { ...policy, ...change } as PaymentPolicy;
		expect(() => parsePolicy(wrong)).toThrow(PolicyError);
		expect(() => parsePolicy(wrong)).toThrow(named);
	});

	test("with a setting that does not exist is refused: a misspelt limit must not be no limit", () => {
		const misspelt = { ...policy, maxSpend: 5n } as PaymentPolicy;
		expect(() => parsePolicy(misspelt)).toThrow(PolicyError);
		expect(() => parsePolicy(misspelt)).toThrow("maxSpend");
	});

	test("takes addresses in any case", () => {
		const checksummed = { ...policy, tokens: [usdc.toUpperCase().replace("0X", "0x")] };
		expect(ruleOf(HOST, session(), checksummed)).toBeUndefined();
	});
});

describe("what the policy does not allow is refused (I11)", () => {
	test("a session and a charge within all limits are allowed", () => {
		expect(ruleOf(HOST, session())).toBeUndefined();
		expect(ruleOf(HOST, charge())).toBeUndefined();
	});

	test.each([
		["host", OTHER_HOST, session()],
		["host", `${HOST}:8443`, session()],
		["host", `evil.${HOST}`, session()],
		["payee", HOST, session({ recipient: otherPayee })],
		["chain", HOST, session({}, { chainId: 1 })],
		["token", HOST, session({ currency: otherToken })],
		["escrow", HOST, session({}, { escrowContract: otherEscrow })],
		["price", HOST, session({ amount: "101" })],
		["host", OTHER_HOST, charge()],
		["payee", HOST, charge({ recipient: otherPayee })],
		["chain", HOST, charge({}, { chainId: 1 })],
		["token", HOST, charge({ currency: otherToken })],
		["price", HOST, charge({ amount: String(2n ** 256n - 1n) })],
		["splits", HOST, charge({}, { splits: [{ recipient: otherPayee, amount: "1" }] })],
	])("by the rule %s", (rule, host, request) => {
		expect(ruleOf(host, request)).toBe(rule);
	});

	test("a policy with no escrow allows no session, and charges all the same", () => {
		const chargesOnly = { ...policy, escrows: [] };
		expect(ruleOf(HOST, session(), chargesOnly)).toBe("escrow");
		expect(ruleOf(HOST, charge(), chargesOnly)).toBeUndefined();
	});

	test("a policy that names no escrows allows the one that is recorded for the chain, on that chain only", () => {
		const { escrows: _, ...rest } = policy;
		const made = { permit2: payee, closeGracePeriodSeconds: 900 };
		const recorded: PaymentPolicy = {
			...rest,
			chainIds: [8_453, 1],
			deployments: { 8453: { ...made, escrow }, 1: { ...made, escrow: otherEscrow } },
		};
		expect(ruleOf(HOST, session(), recorded)).toBeUndefined();
		expect(ruleOf(HOST, session({}, { escrowContract: otherEscrow }), recorded)).toBe("escrow");
		expect(ruleOf(HOST, session({}, { chainId: 1 }), recorded)).toBe("escrow");
		expect(ruleOf(HOST, session({}, { chainId: 1, escrowContract: otherEscrow }), recorded)).toBeUndefined();
		expect(ruleOf(HOST, session(), { ...recorded, escrows: [] })).toBe("escrow");
		expect(ruleOf(HOST, session(), { ...recorded, escrows: [otherEscrow] })).toBe("escrow");
		expect(ruleOf(HOST, session(), { ...rest, deployments: {} })).toBe("escrow");
		expect(ruleOf(HOST, charge(), { ...rest, deployments: {} })).toBeUndefined();
		expect(() => assertAllowed(parsePolicy({ ...rest, deployments: {} }), HOST, session())).toThrow(
			/none is recorded for chain 8453; name it in escrows/,
		);
	});

	test("every rule holds by itself: a request is allowed exactly when no field of it breaks one", () => {
		const either = <T>(good: T, ...bad: T[]) => fc.constantFrom(good, good, good, ...bad);
		const varied = fc.record({
			host: either(HOST, OTHER_HOST, "", `${HOST}.`, `x${HOST}`),
			chainId: either(8_453, 1),
			currency: either<string>(usdc, otherToken, payee),
			recipient: either<string>(payee, otherPayee, escrow),
			escrowContract: either<string>(escrow, otherEscrow, payee),
			price: fc.oneof(
				fc.bigInt({ min: 0n, max: 100n }),
				fc.bigInt({ min: 95n, max: 105n }),
				fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }),
			),
			splits: either(false, true),
			isSession: fc.boolean(),
			limits: fc.constantFrom<readonly ("hosts" | "payees")[]>(["hosts"], ["payees"], ["hosts", "payees"]),
		});
		fc.assert(
			fc.property(varied, (its) => {
				const { host, chainId, currency, recipient, escrowContract, price, isSession, limits } = its;
				const { hosts, payees, ...rest } = policy;
				const stated: PaymentPolicy = {
					...rest,
					...(limits.includes("hosts") && hosts && { hosts }),
					...(limits.includes("payees") && payees && { payees }),
				};
				const splits = its.splits && price > 1n && !isSession;
				const fields = { amount: String(price), currency, recipient };
				const request = isSession
					? session(fields, { chainId, escrowContract })
					: charge(fields, { chainId, ...(splits && { splits: [{ recipient: payee, amount: "1" }] }) });
				const broken = new Set<string>();
				if (limits.includes("hosts") && host !== HOST) broken.add("host");
				if (limits.includes("payees") && recipient !== payee) broken.add("payee");
				if (chainId !== 8_453) broken.add("chain");
				if (currency !== usdc) broken.add("token");
				if (price > 100n) broken.add("price");
				if (isSession && escrowContract !== escrow) broken.add("escrow");
				if (splits) broken.add("splits");
				const rule = ruleOf(host, request, stated);
				expect(rule === undefined).toBe(broken.size === 0);
				if (rule !== undefined) expect(broken).toContain(rule);
			}),
			{ numRuns: 1_000 },
		);
	});
});

describe("credentials leave only over TLS, or not the machine", () => {
	test.each([
		"https://api.example.com/quote",
		"http://localhost:3000/quote",
		"http://127.0.0.1:3000",
		"http://127.8.9.10",
		"http://[::1]:3000/",
	])("%s is taken", (url) => {
		expect(() => assertSecure(url)).not.toThrow();
	});

	test.each([
		"http://api.example.com/quote",
		"http://127.0.0.1.example.com/",
		"http://localhost.example.com/",
		"http://127.0.0.1@example.com/",
		"http://10.0.0.1/",
		"http://[::2]/",
		"ws://api.example.com/",
	])("%s is refused", (url) => {
		expect(() => assertSecure(url)).toThrow(expect.objectContaining({ code: "POLICY_REFUSED", rule: "transport" }));
	});
});

test("the refusal of an address that is not https shows no secret of it", () => {
	const url = "http://user:hidden@api.example.com/quote?key=hidden#hidden";
	const refusal = { message: expect.stringMatching(/^[^?]*http:\/\/api\.example\.com\/quote is not https/) };
	expect(() => assertSecure(url)).toThrow(expect.objectContaining(refusal));
	expect(() => assertSecure(url)).not.toThrow(/hidden/);
});

describe("the deposit of a new channel", () => {
	const its = parsePolicy(policy);

	test("is what the server suggests, as far as the policy allows", () => {
		expect(depositFor(its, session({ suggestedDeposit: "4999" }))).toBe(4_999n);
		expect(depositFor(its, session({ suggestedDeposit: "5000" }))).toBe(5_000n);
		expect(depositFor(its, session({ suggestedDeposit: "5001" }))).toBe(5_000n);
	});

	test("is what the policy allows where the server suggests nothing", () => {
		expect(depositFor(its, session())).toBe(5_000n);
	});

	test("that would not pay one request is refused", () => {
		expect(depositFor(its, session({ suggestedDeposit: "100" }))).toBe(100n);
		const tooSmall = session({ suggestedDeposit: "99" });
		expect(() => depositFor(its, tooSmall)).toThrow(expect.objectContaining({ rule: "deposit" }));
	});

	test("is never above the policy's limit and never below the price, whatever is suggested (I11)", () => {
		const amounts = fc.bigInt({ min: 0n, max: 2n ** 128n - 1n });
		const near = fc.bigInt({ min: 0n, max: 10_000n });
		fc.assert(
			fc.property(fc.option(fc.oneof(amounts, near), { nil: undefined }), near, (suggested, price) => {
				const request = session({
					amount: String(price),
					...(suggested !== undefined && { suggestedDeposit: String(suggested) }),
				});
				const most = suggested !== undefined && suggested < 5_000n ? suggested : 5_000n;
				if (most < price) expect(() => depositFor(its, request)).toThrow(PolicyRefusedError);
				else expect(depositFor(its, request)).toBe(most);
			}),
		);
	});
});
