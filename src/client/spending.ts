/**
 * What is counted of what is signed away. Each count has a readable key, which never changes its meaning:
 *
 *     <currency> <scope> [<subject>] <window> [<its beginning>]
 *     USDC host api.example.com day 2026-11-26
 *     USDC payee 0xb0… hour 2026-11-26T14
 *     USDC category ai month 2026-11
 *     USDC channel 0x5a… ever
 *     8453:0xc0… total ever
 *
 * The currency is its symbol, or `chain id:address` of a token that no currency lists. Windows are those of the calendar in UTC,
 * one count each: at any moment a count can be told, and when it begins anew.
 */
import type { Address, Hex } from "viem";
import { categoriesOf } from "./policy/check.ts";
import { bareAmountText, boundsFor, unitOf, unitText } from "./policy/currency.ts";
import { PolicyRefusedError } from "./policy/errors.ts";
import { hostOf } from "./policy/hosts.ts";
import type { Limits, Policy } from "./policy/schema.ts";
import type { Counter, CounterRefusal } from "./store/store.ts";

/** Value that is about to be signed away. */
export type Spend = Readonly<{
	/** Base units. */
	amount: bigint;
	chainId: number;
	token: Address;
	payee: Address;
	/** `name` or `name:port` of who is paid. */
	host: string;
	/** Where it is paid by channel. */
	channelId?: Hex;
}>;

/** What a limit is for. */
export type Scope = "host" | "payee" | "channel" | "category" | "total";

/** How long a limit counts. */
export type Window = "hour" | "day" | "month" | "ever";

/** One count, by name. */
export type CounterName = Readonly<{
	/** As `unitOf` has it. */
	unit: string;
	scope: Scope;
	/** All but the total is about somebody. */
	subject?: string;
	window: Window;
	/** Of the window, as ISO 8601 has it; absent for `ever`. */
	from?: string;
}>;

const WINDOWS: readonly Window[] = ["hour", "day", "month", "ever"];

/** How much of a moment in ISO 8601 names its window. */
const LENGTH_OF = { hour: "2026-11-26T14".length, day: "2026-11-26".length, month: "2026-11".length } as const;

const HOUR_MS = 3_600_000;

/** How long a count is kept after its window, so that a clock that is set back finds it again. */
export const KEPT_AFTER_WINDOW_MS = 48 * HOUR_MS;

/**
 * What a spend counts into, with the limits that the policy sets. All of it is counted whether or not it has a limit now, so that
 * one that is set later knows what was spent before.
 */
export function countersFor(policy: Policy, spend: Spend, nowMs: number): readonly Counter[] {
	return raisedBy(countsOf(policy, spend, nowMs), spend.amount);
}

/** One count, with the limit that the policy sets, and no amount yet. */
type NamedCount = Omit<Counter, "add">;

/** The counts of spends that differ in nothing but their amount, each raised by it. */
export function raisedBy(counts: readonly NamedCount[], amount: bigint): readonly Counter[] {
	return amount <= 0n ? [] : counts.map((count) => ({ ...count, add: amount }));
}

/** The counts of a channel's spends, for as long as no window begins anew. */
export type ChannelCounts = Readonly<{
	policy: Policy;
	sinceMs: number;
	untilMs: number;
	counts: readonly NamedCount[];
}>;

/**
 * What spends of a channel count into. Each of its vouchers counts into the same, until a window begins anew or there is another
 * policy: to name the counts takes as long as to write them.
 *
 * @param last - what was said the last time
 */
export function channelCounts(
	last: ChannelCounts | undefined,
	policy: Policy,
	spend: Omit<Spend, "amount">,
	nowMs: number,
): ChannelCounts {
	if (last?.policy === policy && nowMs >= last.sinceMs && nowMs < last.untilMs) return last;
	// The shortest window: each of the others has whole ones.
	const sinceMs = nowMs - (nowMs % HOUR_MS);
	return { policy, sinceMs, untilMs: sinceMs + HOUR_MS, counts: countsOf(policy, spend, nowMs) };
}

function countsOf(policy: Policy, spend: Omit<Spend, "amount">, nowMs: number): readonly NamedCount[] {
	const { payee, host, channelId } = spend;
	const unit = unitOf(policy, spend);
	const { limits } = boundsFor(policy, spend);
	const scopes: (readonly [Scope, string?])[] = [
		["host", hostOf(host)],
		...categoriesOf(policy, host).map((name) => ["category", name] as const),
		["payee", payee],
		...(channelId === undefined ? [] : [["channel", channelId] as const]),
		["total"],
	];
	return scopes.flatMap(([scope, subject]) =>
		(scope === "channel" ? (["ever"] as const) : WINDOWS).map((window): NamedCount => {
			const max = limitOf(limits, scope, window, subject);
			const endsAtMs = windowEnd(window, nowMs);
			return {
				key: counterKey({ unit, scope, ...(subject !== undefined && { subject }), ...windowAt(window, nowMs) }),
				...(max !== undefined && { max }),
				...(endsAtMs !== undefined && { untilMs: endsAtMs + KEPT_AFTER_WINDOW_MS }),
			};
		}),
	);
}

/** What a policy says of one count. */
export function limitOf(limits: Limits, scope: Scope, window: Window, subject?: string): bigint | undefined {
	if (scope === "channel") return window === "ever" ? limits.channel?.ever : undefined;
	if (scope !== "category") return limits[scope]?.[window];
	const its = limits.category ?? {};
	return subject !== undefined && Object.hasOwn(its, subject) ? its[subject]?.[window] : undefined;
}

/** The window that a moment is in. */
export function windowAt(window: Window, nowMs: number): Pick<CounterName, "window" | "from"> {
	return window === "ever" ? { window } : { window, from: new Date(nowMs).toISOString().slice(0, LENGTH_OF[window]) };
}

export function counterKey({ unit, scope, subject, window, from }: CounterName): string {
	return [unit, scope, subject, window, from].filter((part) => part !== undefined).join(" ");
}

/** Reads what {@link counterKey} has written. */
export function parseCounterKey(key: string): CounterName {
	const [unit = "", scope, ...rest] = key.split(" ");
	const subject = scope === "total" ? {} : { subject: rest.shift() ?? "" };
	const [window, from] = rest;
	return { unit, scope: scope as Scope, ...subject, window: window as Window, ...(from !== undefined && { from }) };
}

/** Unix milliseconds when a window begins anew; `undefined` for `ever`. */
export function windowEnd(window: Window, nowMs: number): number | undefined {
	const now = new Date(nowMs);
	const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
	switch (window) {
		case "hour":
			return Date.UTC(year, month, day, now.getUTCHours() + 1);
		case "day":
			return Date.UTC(year, month, day + 1);
		case "month":
			return Date.UTC(year, month + 1);
		case "ever":
			return undefined;
	}
}

const LIMIT_WORDS: Readonly<Record<Window, string>> = {
	hour: "hourly limit",
	day: "daily limit",
	month: "monthly limit",
	ever: "overall limit",
};

/**
 * Tells a refusal of the store as the policy's.
 *
 * @param counters - those that it refused, by {@link countersFor}
 */
export function refusalOf(policy: Policy, counters: readonly Counter[], refusal: CounterRefusal): PolicyRefusedError {
	const { key, current, max } = refusal;
	const { unit, scope, subject, window, from } = parseCounterKey(key);
	const asked = counters.find((counter) => counter.key === key)?.add ?? 0n;
	const resetsAtMs = from === undefined ? undefined : windowEnd(window, beginningOf(from));
	const amounts = [current, max, asked].map((amount) => bareAmountText(policy, unit, amount));
	const who = subject === undefined ? "this wallet" : `${scope} ${subject}`;
	const until =
		resetsAtMs === undefined
			? "it never begins anew: raise it in the policy if that is meant"
			: `it begins anew at ${new Date(resetsAtMs).toISOString()}`;
	return new PolicyRefusedError(
		"limit",
		`${who} is over its ${LIMIT_WORDS[window]}: ${amounts[0]} of ${amounts[1]} ${unitText(policy, unit)}, and ${amounts[2]} more is asked for; ${until}`,
		{
			name: limitName(scope, window, subject),
			currency: unit,
			current,
			max,
			asked,
			...(subject !== undefined && { subject }),
			...(resetsAtMs !== undefined && { resetsAtMs }),
		},
	);
}

/** Where a policy's `limits` have it: `host.day`, `category.ai.month`. */
export function limitName(scope: Scope, window: Window, subject?: string): string {
	return [scope, ...(scope === "category" && subject !== undefined ? [subject] : []), window].join(".");
}

/** Unix milliseconds. `2026-11-26T14` alone is no date to a parser. */
function beginningOf(from: string): number {
	return Date.parse(
		from.includes("T") ? `${from}:00:00Z` : `${from}${from.length === LENGTH_OF.month ? "-01" : ""}T00:00:00Z`,
	);
}
