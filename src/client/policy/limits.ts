import { counterKey, limitName, limitOf, type Scope, type Window, windowAt, windowEnd } from "../spending.ts";
import type { PayerStore } from "../store/store.ts";
import { bareAmountText, unitText } from "./currency.ts";
import { hostOf } from "./hosts.ts";
import type { Limits, Policy } from "./schema.ts";

/** One limit, and what is counted by now. Amounts in base units. */
export type LimitStatus = Readonly<{
	/** Where the policy has it: `host.day`. */
	name: string;
	/** The currency's symbol, or `chain id:address` of a token that no currency lists. */
	currency: string;
	/** Whom it is about; absent for the total. */
	subject?: string;
	current: bigint;
	max: bigint;
	/** `4.20 of 5.00 USDC`. */
	text: string;
	/** Unix milliseconds; absent where it never begins anew. */
	resetsAtMs?: number;
}>;

/** How many receipts are looked through for whom the wallet has paid. */
const RECEIPTS_LOOKED_AT = 1_000;

/** How many subjects of one kind are told. */
const MAX_SUBJECTS = 200;

/**
 * Every limit that a policy sets with its count by now. Those for each host, payee and channel are told for whom the policy names
 * or the wallet has paid lately. The limit of one request has no count.
 *
 * @example
 * for (const { name, subject, text } of await limitsStatus(policy, store, Date.now())) console.log(name, subject, text);
 */
export async function limitsStatus(
	policy: Policy,
	store: Pick<PayerStore, "list" | "receipts" | "counts">,
	nowMs: number,
): Promise<readonly LimitStatus[]> {
	const subjects = await subjectsOf(policy, store);
	const wanted = unitsOf(policy).flatMap(({ unit, limits }) =>
		SCOPES.flatMap((scope) =>
			subjects[scope].flatMap((subject) =>
				WINDOWS.flatMap((window) => {
					const max = limitOf(limits, scope, window, subject);
					return max === undefined ? [] : [{ unit, scope, subject, window, max }];
				}),
			),
		),
	);
	const named = wanted.map((one) => ({
		...one,
		key: counterKey({
			unit: one.unit,
			scope: one.scope,
			...(one.subject !== undefined && { subject: one.subject }),
			...windowAt(one.window, nowMs),
		}),
	}));
	const counts = await store.counts(named.map(({ key }) => key));
	return named.map(({ unit, scope, subject, window, max }, at) => {
		const current = counts[at] ?? 0n;
		const resetsAtMs = windowEnd(window, nowMs);
		return {
			name: limitName(scope, window, subject),
			currency: unit,
			...(subject !== undefined && { subject }),
			current,
			max,
			text: `${bareAmountText(policy, unit, current)} of ${bareAmountText(policy, unit, max)} ${unitText(policy, unit)}`,
			...(resetsAtMs !== undefined && { resetsAtMs }),
		};
	});
}

const SCOPES: readonly Scope[] = ["host", "category", "payee", "channel", "total"];
const WINDOWS: readonly Window[] = ["hour", "day", "month", "ever"];

/** What is counted by itself: each currency, and each token of none. */
function unitsOf({ currencies, tokens, chainIds, limits = {} }: Policy): readonly { unit: string; limits: Limits }[] {
	const listed = new Set(currencies.flatMap((its) => its.tokens.map((one) => `${one.chainId}:${one.address}`)));
	const others = chainIds.flatMap((chainId) => tokens.map((token) => `${chainId}:${token}`));
	return [
		...currencies.map((its) => ({ unit: its.symbol, limits: its.limits ?? limits })),
		...others.filter((unit) => !listed.has(unit)).map((unit) => ({ unit, limits })),
	];
}

async function subjectsOf(
	{ hosts = [], payees = [], categories = {} }: Policy,
	store: Pick<PayerStore, "list" | "receipts">,
): Promise<Readonly<Record<Scope, readonly (string | undefined)[]>>> {
	const [channels, receipts] = await Promise.all([store.list(), store.receipts(RECEIPTS_LOOKED_AT)]);
	const paidAt = [...channels.map(({ record }) => record.state.resource.url), ...receipts.map(({ url }) => url)];
	const paid = [...channels.map(({ record }) => record.state.payee), ...receipts.map(({ payee }) => payee)];
	const some = (...lists: readonly (readonly string[])[]) => [...new Set(lists.flat())].slice(0, MAX_SUBJECTS);
	return {
		host: some(
			hosts.filter((host) => !host.startsWith("*.")).map(hostOf),
			paidAt.map((url) => hostOf(new URL(url).host)),
		),
		category: Object.keys(categories),
		payee: some(payees, paid),
		channel: some(channels.map(({ record }) => record.state.channelId)),
		total: [undefined],
	};
}
