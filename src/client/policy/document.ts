import { parseUnits } from "viem";
import type { z } from "zod";
import { documentSchema, type PolicyDocument } from "./documentSchema.ts";
import { PolicyError } from "./errors.ts";
import { type PaymentPolicy, parsePolicy } from "./schema.ts";

type Path = readonly (string | number)[];

/** Members of a currency that are amounts, besides its limits. */
const AMOUNTS = ["maxPrice", "maxStream", "maxDeposit", "maxTotal", "maxUnaccounted", "approveAbove"] as const;

/**
 * A policy out of plain JSON data, as `policy.json` has it: amounts are decimal strings in the units of their currency. Fields
 * that do not exist are refused: a misspelt limit must not be no limit.
 *
 * @throws PolicyError naming the path and what to write there
 * @example
 * const policy = parsePolicyDocument({
 *   hosts: ["api.example.com"],
 *   currencies: [{ symbol: "USDC", decimals: 6, tokens: [{ chainId: 8453, address: usdc }], maxPrice: "0.05", maxDeposit: "5", limits: { total: { day: "20" } } }],
 * });
 */
export function parsePolicyDocument(value: unknown): PaymentPolicy {
	const parsed = documentSchema.safeParse(value);
	if (!parsed.success) throw errorOf(parsed.error.issues, value);
	const { $schema: _, currencies, ...rest } = parsed.data;
	const policy = {
		...rest,
		currencies: currencies.map((currency, at) => currencyOf(currency, ["currencies", at])),
	} as PaymentPolicy;
	// What one field says of another.
	parsePolicy(policy);
	return policy;
}

function currencyOf(currency: PolicyDocument["currencies"][number], path: Path): object {
	const { decimals, limits } = currency;
	const amounts = AMOUNTS.flatMap((name) => {
		const text = currency[name];
		return text === undefined ? [] : [[name, amountOf(text, decimals, [...path, name])]];
	});
	return {
		...currency,
		...Object.fromEntries(amounts),
		...(limits && { limits: amountsIn(limits, decimals, [...path, "limits"]) }),
	};
}

/** Every text within limits is an amount. */
function amountsIn(value: unknown, decimals: number, path: Path): unknown {
	if (typeof value === "string") return amountOf(value, decimals, path);
	return Object.fromEntries(
		Object.entries(value as object).map(([name, its]) => [name, amountsIn(its, decimals, [...path, name])]),
	);
}

function amountOf(text: string, decimals: number, path: Path): bigint {
	const [, fraction = ""] = text.split(".");
	if (fraction.length > decimals)
		throw new PolicyError(`policy ${path.join(".")} has more than the ${decimals} decimals of its currency`, path);
	return parseUnits(text, decimals);
}

function errorOf(issues: readonly z.core.$ZodIssue[], value: unknown): PolicyError {
	const [issue] = issues;
	if (issue === undefined) return new PolicyError("policy is invalid");
	const path = issue.path.filter((part) => typeof part !== "symbol");
	const where = path.length === 0 ? "policy" : `policy ${path.join(".")}`;
	const isMissing = issue.code === "invalid_type" && isAbsent(value, path);
	return new PolicyError(`${where} ${isMissing ? "is missing: it " : ""}${wordsOf(issue)}`, path);
}

function isAbsent(value: unknown, path: Path): boolean {
	const found = path.reduce<unknown>((its, name) => (its as Record<string, unknown> | undefined)?.[name], value);
	return found === undefined;
}

const WORDS: Readonly<Record<string, string>> = {
	object: "an object",
	record: "an object",
	array: "a list",
	string: "a text",
	boolean: "true or false",
	number: "a whole number",
	int: "a whole number",
};

function wordsOf(issue: z.core.$ZodIssue): string {
	switch (issue.code) {
		case "unrecognized_keys":
			return `has no field ${issue.keys.map((key) => JSON.stringify(key)).join(", ")}: check its spelling and its place`;
		case "invalid_type":
			// The schema's own words say more where it has any.
			return issue.message.startsWith("Invalid input")
				? `must be ${WORDS[issue.expected] ?? issue.expected}`
				: issue.message;
		case "too_small":
			return issue.origin === "array" || issue.origin === "string" ? "must not be empty" : "is too small";
		case "too_big":
			return issue.origin === "array" ? `lists more than ${issue.maximum}` : "is too long or too large";
		case "invalid_key":
			return issue.issues[0]?.message ?? "has a name that can't be";
		case "invalid_union":
			return "is of the wrong kind";
		default:
			return issue.message;
	}
}
