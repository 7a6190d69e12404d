/** What can happen to a channel, hostile things among it, for the ledger's model-based test. */
import fc from "fast-check";
import type { Beginning, Owner } from "./ledgerModel.ts";

export const OWNERS = ["process-a", "process-b"] as const satisfies readonly Owner[];
export const CHALLENGES = ["opening", "second", "third", "strangers"] as const;
export const UINT128 = 2n ** 128n;

/** An amount said relative to the channel, so that the boundaries come up often. */
export type Amount = Readonly<{
	base: "nothing" | "spent" | "settled" | "accepted" | "deposit" | "shown" | "uint128";
	plus: bigint;
}>;
export type Given = Readonly<{ amount: Amount; challengeId: (typeof CHALLENGES)[number]; byContract: boolean }>;

/** What somebody changes about a reservation before using it. */
export type Forgery = "none" | "older" | "newer" | "larger" | "other owner";

/** What a node says that is not so. */
export type Lie = "none" | "lower deposit" | "lower settled" | "not finalized" | "settled above deposit";

/** One thing that happens to the channel. What it means in numbers depends on where the channel is by then. */
export type Step =
	| Readonly<{ do: "voucher"; given: Given; minVoucherDelta: bigint }>
	| Readonly<{ do: "reserve"; given: Given; price: bigint; owner: Owner; advance: boolean; minVoucherDelta: bigint }>
	| Readonly<{ do: "capture"; which: number; used: bigint; forged: Forgery }>
	| Readonly<{ do: "release"; which: number; forged: Forgery }>
	| Readonly<{ do: "recover"; gone: readonly Owner[] }>
	/** Something happens on chain, in the next block, without anybody looking. */
	| Readonly<{ do: "top up"; plus: bigint }>
	| Readonly<{ do: "settle"; amount: Amount }>
	| Readonly<{ do: "request close" }>
	| Readonly<{ do: "finalize" }>
	/** The last `depth` blocks are gone, and `grown` others are there instead. */
	| Readonly<{ do: "reorganize"; depth: number; grown: number }>
	/**
	 * The server looks at the chain, or hears only now what it was `ago` blocks before; a lie is a broken RPC. `reorganized`
	 * as the watcher says it: `undefined` where it says what was so.
	 */
	| Readonly<{ do: "observe"; lie: Lie; ago: number; reorganized: boolean | undefined }>
	| Readonly<{ do: "begin close"; given: Given; owner: Owner }>
	| Readonly<{ do: "retire"; owner: Owner }>
	| Readonly<{ do: "resume close"; owner: Owner }>
	/** As the server does it for a client, with what `closingVoucher` says; as it does for itself; or whatever `amount` is. */
	| Readonly<{ do: "decide close"; amount: Amount; by: "client" | "server" | "nobody" }>
	/** The transaction that carries the decided amount is about to leave. */
	| Readonly<{ do: "publish" }>
	| Readonly<{ do: "fail close" }>
	| Readonly<{ do: "defer" }>;

const few = fc.bigInt({ min: 0n, max: 40n });
const amounts: fc.Arbitrary<Amount> = fc.record({
	base: fc.constantFrom(
		"nothing",
		"spent",
		"settled",
		"accepted",
		"accepted",
		"accepted",
		"deposit",
		"shown",
		"uint128",
	),
	plus: fc.oneof({ weight: 3, arbitrary: fc.bigInt({ min: -3n, max: 3n }) }, { weight: 2, arbitrary: few }),
});
const givens: fc.Arbitrary<Given> = fc.record({
	amount: amounts,
	challengeId: fc.constantFrom(...CHALLENGES),
	byContract: fc.boolean(),
});
const owners = fc.constantFrom(...OWNERS);
const forgeries = fc.constantFrom<Forgery>("none", "none", "none", "none", "older", "newer", "larger", "other owner");
const which = fc.nat(20);
const deltas = fc.constantFrom(0n, 0n, 1n, 10n, UINT128);
const truth = fc.constant<Lie>("none");
const lies = fc.constantFrom<Lie>("lower deposit", "lower settled", "not finalized", "settled above deposit");
const now = fc.constant(0);

export const steps: fc.Arbitrary<Step> = fc.oneof(
	{ weight: 8, arbitrary: fc.record({ do: fc.constant("voucher"), given: givens, minVoucherDelta: deltas }) },
	{
		weight: 10,
		arbitrary: fc.record({
			do: fc.constant("reserve"),
			given: givens,
			price: fc.oneof({ weight: 9, arbitrary: few }, { weight: 1, arbitrary: fc.constant(UINT128) }),
			owner: owners,
			advance: fc.boolean(),
			minVoucherDelta: deltas,
		}),
	},
	{ weight: 9, arbitrary: fc.record({ do: fc.constant("capture"), which, used: few, forged: forgeries }) },
	{ weight: 4, arbitrary: fc.record({ do: fc.constant("release"), which, forged: forgeries }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("recover"), gone: fc.subarray([...OWNERS]) }) },
	{ weight: 2, arbitrary: fc.record({ do: fc.constant("top up"), plus: few }) },
	{ weight: 2, arbitrary: fc.record({ do: fc.constant("settle"), amount: amounts }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("request close") }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("finalize") }) },
	{ weight: 2, arbitrary: fc.record({ do: fc.constant("reorganize"), depth: fc.nat(4), grown: fc.nat(5) }) },
	{
		weight: 7,
		arbitrary: fc.record({
			do: fc.constant("observe"),
			lie: fc.oneof({ weight: 5, arbitrary: truth }, { weight: 1, arbitrary: lies }),
			ago: fc.oneof({ weight: 4, arbitrary: now }, { weight: 1, arbitrary: fc.nat(5) }),
			reorganized: fc.oneof({ weight: 6, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.boolean() }),
		}),
	},
	{ weight: 3, arbitrary: fc.record({ do: fc.constant("begin close"), given: givens, owner: owners }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("retire"), owner: owners }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("resume close"), owner: owners }) },
	{
		weight: 4,
		arbitrary: fc.record({
			do: fc.constant("decide close"),
			amount: amounts,
			by: fc.constantFrom("client", "server", "nobody"),
		}),
	},
	{ weight: 3, arbitrary: fc.record({ do: fc.constant("publish") }) },
	{ weight: 6, arbitrary: fc.record({ do: fc.constant("fail close") }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("defer") }) },
);

export const beginnings: fc.Arbitrary<Beginning> = fc.record({
	first: few,
	settled: fc.oneof({ weight: 2, arbitrary: fc.constant(0n) }, { weight: 1, arbitrary: few }),
	price: fc.option(few, { nil: undefined }),
});

export const deposits = fc.oneof(fc.bigInt({ min: 1n, max: 200n }), fc.constant(UINT128 - 1n));
