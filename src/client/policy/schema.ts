import type { Address } from "viem";
import * as z from "zod";
import { deploymentsSchema } from "../../escrow/deployments.ts";
import { CANONICAL_PERMIT2 } from "../../voucher/index.ts";
import { PolicyError } from "./errors.ts";
import { parseHostPattern } from "./hosts.ts";

/** What can be listed: more is a mistake, and every request goes through the lists. */
const MAX_LISTED = 10_000;
const MAX_CURRENCIES = 64;
const MAX_CATEGORIES = 64;

const address = z
	.string()
	.regex(/^0x[0-9a-fA-F]{40}$/, "must be 0x and 40 hex digits")
	.transform((text) => text.toLowerCase() as Address);
const addresses = z.array(address).max(MAX_LISTED);
const chainId = z.number().int().positive();
const amount = z.bigint().positive("must be more than 0");
const threshold = z.bigint().nonnegative();
const host = z.string().transform((text, context) => {
	try {
		return parseHostPattern(text);
	} catch (error) {
		context.addIssue({ code: "custom", message: (error as Error).message });
		return z.NEVER;
	}
});
const hosts = z.array(host).max(MAX_LISTED);

/** Names that stand in the keys of counters: no spaces. */
export const categoryName = z
	.string()
	.regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/, "must be 1 to 32 letters, digits, _ or -");
export const symbolName = z
	.string()
	.regex(/^[A-Za-z][A-Za-z0-9._-]{0,15}$/, "must be 1 to 16 letters, digits, dots, _ or -, the first one a letter");

/**
 * Each: what may be signed away within an hour, a day, a month of the calendar (UTC), or ever. Counts are of signed value, of all
 * processes that share the wallet.
 */
const windowLimits = z.strictObject({
	hour: amount.optional(),
	day: amount.optional(),
	month: amount.optional(),
	ever: amount.optional(),
});

const limits = z.strictObject({
	/** The most that one request may cost, its whole answer included. */
	request: amount.optional(),
	/** For each host, with its port. */
	host: windowLimits.optional(),
	/** For each payee. */
	payee: windowLimits.optional(),
	/** For each channel, of which there are new ones: how much its vouchers may come to. */
	channel: windowLimits.pick({ ever: true }).optional(),
	/** For all hosts of a category together, by its name. */
	category: z.record(categoryName, windowLimits).optional(),
	/** For everything. */
	total: windowLimits.optional(),
});

/** What a currency and, for tokens of none, the policy itself can say. In base units. */
const bounds = {
	/** The most that one request may cost, or one unit of an answer that is paid by what it uses. */
	maxPrice: amount.optional(),
	/** The most that a whole answer may cost that is paid by what it uses, a stream for example. Default: `maxPrice`. */
	maxStream: amount.optional(),
	/**
	 * The most that one channel may hold of what was not consumed yet: deposit - consumed, of which only what the server counts
	 * as well is taken off. A channel that lives long is topped up within it, again and again.
	 */
	maxDeposit: amount.optional(),
	/** The most that may ever be deposited in one channel, top-ups included. Default: no limit. */
	maxTotal: amount.optional(),
	/**
	 * How much above what the escrow has settled a server may claim of a channel that it names and this client has no record of.
	 * Default: nothing.
	 */
	maxUnaccounted: threshold.optional(),
	/** What may be signed away by when. Each limit is counted by itself; the first one that is reached refuses. */
	limits: limits.optional(),
	/** What costs more than this, or deposits more, is asked for first: the client's `approve`. 0: everything. */
	approveAbove: threshold.optional(),
};

const currency = z.strictObject({
	/** What amounts are told in; it also names its counts, so that another symbol begins to count anew. */
	symbol: symbolName,
	/** Those of all its tokens. */
	decimals: z.number().int().min(0).max(36),
	/** Its tokens, on each chain. They may be spent, and count together. */
	tokens: z.array(z.strictObject({ chainId, address })).min(1).max(MAX_LISTED),
	...bounds,
});

const category = z.strictObject({
	/** Which hosts are in it. Does not allow them. */
	hosts: hosts.min(1),
	/** Whether none of them may be paid. */
	isDenied: z.boolean().optional(),
});

const policySchema = z
	.strictObject({
		/** Chains money may be spent on. Default: those of the currencies. */
		chainIds: z.array(chainId).min(1).optional(),
		/** Tokens that may be spent besides those of the currencies, on each of the chains. */
		tokens: addresses.min(1).optional(),
		/**
		 * Tokens that may be spent, with limits in their own units. What a currency does not say is as the policy says it outside
		 * of `currencies`, where amounts are base units for each token by itself.
		 */
		currencies: z.array(currency).min(1).max(MAX_CURRENCIES).optional(),
		/**
		 * Escrow contracts that may hold a deposit; an empty list: no channels. Default: on each chain the one that
		 * `deployments` records for it.
		 */
		escrows: addresses.optional(),
		/** Where escrows are, as `sluice deploy` wrote it. Default: what this release records. */
		deployments: deploymentsSchema.optional(),
		/** Hosts that may be paid: `name`, `name:port`, or `*.name` for its subdomains. A name alone is on the default port. */
		hosts: hosts.min(1).optional(),
		/** Addresses that may be paid. */
		payees: addresses.min(1).optional(),
		/** What is never paid, or paid with, whatever else allows it. A host without a port is denied on every port. */
		denied: z
			.strictObject({
				hosts: hosts.optional(),
				payees: addresses.optional(),
				tokens: addresses.optional(),
				chainIds: z.array(chainId).max(MAX_LISTED).optional(),
				escrows: addresses.optional(),
			})
			.optional(),
		/** Hosts by what they are for, to limit or deny them together. A host may be in several; without a port: on every port. */
		categories: z
			.record(categoryName, category)
			.refine((record) => Object.keys(record).length <= MAX_CATEGORIES, `has at most ${MAX_CATEGORIES} entries`)
			.optional(),
		/** Whom a split of a charge may pay. Default: nobody, so that split charges are refused. */
		splitRecipients: addresses.default([]),
		/** Permit2 contracts that may move tokens by the payer's signature. Default: the canonical one. */
		permit2: addresses.default([CANONICAL_PERMIT2]),
		/**
		 * Whether the payer may send transactions of its own, which cost it gas: `open` and `topUp`, transfers, and approvals
		 * of exactly what is needed, where a server takes nothing that can be signed instead. Default: yes.
		 */
		ownTransactions: z.boolean().default(true),
		/** How many channels may hold a deposit at a time, those that their server has forgotten included. */
		maxChannels: z.number().int().positive().default(16),
		/** Nothing is signed for as long as this is set, for the reason given. */
		paused: z.union([z.boolean(), z.string().min(1).max(500)]).default(false),
		/** Nothing is signed: what would have been paid is told by the error instead. */
		dryRun: z.boolean().default(false),
		...bounds,
	})
	.superRefine((policy, context) => {
		const { currencies = [], tokens, chainIds, categories = {} } = policy;
		const refuse = (path: readonly (string | number)[], message: string) =>
			void context.addIssue({ code: "custom", path: [...path], message });
		if (policy.hosts === undefined && policy.payees === undefined)
			refuse([], "names the hosts or the payees that may be paid");
		if (currencies.length === 0 && tokens === undefined) refuse(["tokens"], "is missing: give tokens or currencies");
		if (tokens !== undefined && chainIds === undefined) refuse(["chainIds"], "is missing: the chains of the tokens");
		for (const bound of ["maxPrice", "maxDeposit"] as const) {
			if (policy[bound] !== undefined) continue;
			if (tokens !== undefined) refuse([bound], "is missing");
			for (const [at, its] of currencies.entries())
				if (its[bound] === undefined) refuse(["currencies", at, bound], "is missing");
		}
		const symbols = new Set<string>();
		const pairs = new Set<string>();
		for (const [at, its] of currencies.entries()) {
			if (symbols.has(its.symbol)) refuse(["currencies", at, "symbol"], `is another currency's as well: ${its.symbol}`);
			symbols.add(its.symbol);
			for (const [index, token] of its.tokens.entries()) {
				const pair = `${token.chainId}:${token.address}`;
				if (pairs.has(pair)) refuse(["currencies", at, "tokens", index], "is listed twice");
				pairs.add(pair);
			}
		}
		const stated: [readonly (string | number)[], z.output<typeof limits> | undefined][] = [
			[["limits"], policy.limits],
			...currencies.map((its, at): (typeof stated)[number] => [["currencies", at, "limits"], its.limits]),
		];
		for (const [path, its] of stated)
			for (const name of Object.keys(its?.category ?? {}))
				if (!Object.hasOwn(categories, name))
					refuse([...path, "category", name], "is the limit of a category that categories does not have");
	})
	.transform((policy) => ({
		...policy,
		tokens: policy.tokens ?? [],
		currencies: policy.currencies ?? [],
		chainIds: policy.chainIds ?? [
			...new Set((policy.currencies ?? []).flatMap(({ tokens }) => tokens.map((token) => token.chainId))),
		],
		// Every allowed token has a bound, of its currency or of these: 0 is for who asks without saying for which token.
		maxPrice: policy.maxPrice ?? 0n,
		maxDeposit: policy.maxDeposit ?? 0n,
		maxUnaccounted: policy.maxUnaccounted ?? 0n,
	}));

/** What a client may sign. Everything it does not allow is refused before anything is signed (I11). */
export type PaymentPolicy = z.input<typeof policySchema>;

/** A checked policy. */
export type Policy = z.output<typeof policySchema>;

export type Currency = z.output<typeof currency>;
export type Limits = z.output<typeof limits>;
export type WindowLimits = z.output<typeof windowLimits>;

/** @throws PolicyError naming the field that is missing or wrong */
export function parsePolicy(policy: PaymentPolicy): Policy {
	const parsed = policySchema.safeParse(policy);
	if (parsed.success) return parsed.data;
	const [issue] = parsed.error.issues;
	const path = (issue?.path ?? []).filter((part) => typeof part !== "symbol");
	const where = ["policy", path.join(".")].filter((part) => part !== "").join(" ");
	throw new PolicyError(`${where} ${issue?.message ?? "is invalid"}`, path);
}
