/**
 * What random sequences are made of: steps in words that do not depend on where the sequence is by then ("a unit more than
 * the deposit"), and what they mean in a given state. A small world, so that the same channels, nonces and bounds meet often.
 */
import fc from "fast-check";
import { FLAWS, type Flaw } from "./forgery.ts";
import { UINT128_MAX } from "./terms.ts";

/** An amount relative to the channel it is for. */
export type Amount = Readonly<{
	base: "nothing" | "settled" | "between" | "deposit" | "room" | "uint128";
	plus: bigint;
}>;
/** A time relative to the moment of the call. */
export type When = "long ago" | "just before" | "now" | "just after" | "never";
export type How = "directly" | "with EIP-3009" | "with Permit2";
export type Sender = "right" | "other" | "relayer";

export type Step =
	| Readonly<{
			do: "open";
			how: How;
			payer: number;
			payee: number;
			token: number;
			signer: number;
			salt: number;
			deposit: bigint;
			/** Takes the parameters of an existing channel instead. */
			like?: number | undefined;
			wrong: "nothing" | "no payer" | "no payee" | "no token" | "front-run" | "nonce";
			flaw: Flaw;
			permitNonce: number;
			from: When;
			until: When;
	  }>
	| Readonly<{
			do: "top up";
			how: How;
			channel: number;
			amount: Amount;
			by: "payer" | "funder" | "payee" | "other payer";
			wrong: "nothing" | "front-run" | "nonce";
			salt: number;
			flaw: Flaw;
			permitNonce: number;
			from: When;
			until: When;
	  }>
	| Readonly<{
			do: "settle" | "close";
			relayed: boolean;
			channel: number;
			amount: Amount;
			sender: Sender;
			flaw: Flaw;
			payeeFlaw: Flaw;
			nonce: number;
			until: When;
	  }>
	| Readonly<{ do: "request close" | "withdraw"; channel: number; sender: Sender }>
	| Readonly<{
			do: "settle many" | "close many";
			/** The right one is the payee of the first row's channel. */
			sender: Sender;
			rows: readonly Readonly<{ channel: number; amount: Amount; flaw: Flaw }>[];
	  }>
	/** An earlier call once more, by its sender or by somebody else. */
	| Readonly<{ do: "again"; which: number; sender: Sender }>
	| Readonly<{ do: "wait"; channel: number; until: "before" | "at" | "after"; seconds: number }>
	| Readonly<{ do: "approve"; payer: number; token: number; amount: bigint; permit2: boolean }>
	| Readonly<{ do: "donate"; payer: number; token: number; amount: bigint }>
	| Readonly<{ do: "block"; channel: number; who: "payer" | "payee"; blocked: boolean }>;

const index = fc.nat(11);
const often = <const T>(value: T, ...others: T[]): fc.Arbitrary<T> =>
	fc.oneof({ weight: 5, arbitrary: fc.constant(value) }, { weight: 1, arbitrary: fc.constantFrom(...others) });
const flaw: fc.Arbitrary<Flaw> = often<Flaw>("none", ...FLAWS.slice(1));
const plus = fc.constantFrom(-1n, 0n, 0n, 1n, 1n, 7n);
const voucherAmount: fc.Arbitrary<Amount> = fc.record({
	base: fc.constantFrom(
		"nothing",
		"settled",
		"settled",
		"between",
		"between",
		"between",
		"deposit",
		"deposit",
		"uint128",
	),
	plus,
});
const topUpAmount: fc.Arbitrary<Amount> = fc.oneof(
	{
		weight: 4,
		arbitrary: fc.record({ base: fc.constant("nothing" as const), plus: fc.bigInt({ min: 0n, max: 300n }) }),
	},
	{ weight: 1, arbitrary: fc.record({ base: fc.constantFrom("room", "room", "uint128"), plus }) },
);
const deposit = fc.oneof(
	{ weight: 8, arbitrary: fc.bigInt({ min: 1n, max: 600n }) },
	{ weight: 2, arbitrary: fc.constantFrom(0n, 1n, 5_001n, UINT128_MAX - 1n, UINT128_MAX) },
);
const how = fc.constantFrom<How>("directly", "with EIP-3009", "with Permit2");
const sender = often<Sender>("right", "other", "relayer");
const fromWhen = often<When>("long ago", "just before", "now", "just after");
const untilWhen = often<When>("never", "long ago", "just before", "now", "just after");

const open = fc.record({
	do: fc.constant("open" as const),
	how,
	payer: index,
	payee: index,
	token: fc.constantFrom(0, 0, 0, 1, 1, 1, 2, 2, 2, 3),
	signer: index,
	salt: fc.nat(1),
	deposit,
	like: fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: index }),
	wrong: often("nothing", "no payer", "no payee", "no token", "front-run", "nonce"),
	flaw,
	permitNonce: index,
	from: fromWhen,
	until: untilWhen,
});

/** A channel to begin with: nothing about it is wrong. */
const opening: fc.Arbitrary<Step> = open.map((step) => ({
	...step,
	payer: step.payer % 2,
	token: step.token % 3,
	deposit: step.deposit % 600n === 0n ? 600n : step.deposit % 600n,
	like: undefined,
	wrong: "nothing",
	flaw: "none",
	from: "long ago",
	until: "never",
}));

const step: fc.Arbitrary<Step> = fc.oneof(
	{ weight: 7, arbitrary: open },
	{
		weight: 7,
		arbitrary: fc.record({
			do: fc.constant("top up" as const),
			how,
			channel: index,
			amount: topUpAmount,
			by: fc.constantFrom("payer", "payer", "payer", "funder", "funder", "payee", "other payer"),
			wrong: often("nothing", "front-run", "nonce"),
			salt: fc.nat(2),
			flaw,
			permitNonce: index,
			from: fromWhen,
			until: untilWhen,
		}),
	},
	{
		weight: 10,
		arbitrary: fc.record({
			do: fc.constantFrom("settle" as const, "settle" as const, "settle" as const, "close" as const),
			relayed: fc.boolean(),
			channel: index,
			amount: voucherAmount,
			sender,
			flaw,
			payeeFlaw: flaw,
			nonce: index,
			until: untilWhen,
		}),
	},
	{
		weight: 5,
		arbitrary: fc.record({
			do: fc.constantFrom("request close" as const, "request close" as const, "withdraw" as const),
			channel: index,
			sender,
		}),
	},
	{
		weight: 4,
		arbitrary: fc.record({
			do: fc.constantFrom("settle many" as const, "settle many" as const, "close many" as const),
			sender,
			rows: fc.array(fc.record({ channel: index, amount: voucherAmount, flaw }), { maxLength: 6 }),
		}),
	},
	{ weight: 4, arbitrary: fc.record({ do: fc.constant("again" as const), which: fc.nat(40), sender }) },
	{
		weight: 2,
		arbitrary: fc.record({
			do: fc.constant("wait" as const),
			channel: index,
			until: fc.constantFrom("before", "at", "after"),
			seconds: fc.constantFrom(1, 60, 899, 900, 2_000),
		}),
	},
	{
		weight: 1,
		arbitrary: fc.record({
			do: fc.constant("approve" as const),
			payer: index,
			token: index,
			amount: fc.constantFrom(0n, 100n, 2n ** 256n - 1n, 2n ** 256n - 1n),
			permit2: fc.boolean(),
		}),
	},
	{
		weight: 1,
		arbitrary: fc.record({
			do: fc.constant("donate" as const),
			payer: index,
			token: fc.nat(2),
			amount: fc.bigInt({ min: 1n, max: 50n }),
		}),
	},
	{
		weight: 1,
		arbitrary: fc.record({
			do: fc.constant("block" as const),
			channel: index,
			who: fc.constantFrom("payer", "payee"),
			blocked: fc.boolean(),
		}),
	},
);

const nothingWrong = { sender: "right", flaw: "none", payeeFlaw: "none", until: "never" } as const;
const half: Amount = { base: "between", plus: 1n };

/** A forced close, around the end of the grace period. */
const forcedClose: fc.Arbitrary<Step[]> = fc
	.record({
		channel: index,
		until: fc.constantFrom("before", "at", "after"),
		between: fc.array(step, { maxLength: 1 }),
	})
	.map(({ channel, until, between }) => [
		{ do: "request close", channel, sender: "right" },
		...between,
		{ do: "wait", channel, until, seconds: 60 },
		{ do: "withdraw", channel, sender: "right" },
	]);

const redemption = fc.constantFrom("settle", "close");
const oneNonceTwice: fc.Arbitrary<Step[]> = fc
	.record({ channel: index, nonce: index, first: redemption, second: redemption })
	.map(({ channel, nonce, first, second }) => [
		{ ...nothingWrong, do: first, relayed: true, channel, nonce, amount: half },
		{ ...nothingWrong, do: second, relayed: true, channel, nonce, amount: half },
	]);

/** A batch on a new channel whose payer or payee the token, the third, has blocked. */
const blockedBatch: fc.Arbitrary<Step[]> = fc
	.record({
		open: opening,
		who: fc.constantFrom("payer", "payee"),
		kind: fc.constantFrom("settle many", "close many"),
	})
	.map(({ open: channel, who, kind }) => [
		{ ...channel, token: 2, signer: 0 } as Step,
		{ do: "block", channel: -1, who, blocked: true },
		{ do: kind, sender: "right", rows: [{ channel: -1, amount: half, flaw: "none" }] },
		{ do: "block", channel: -1, who, blocked: false },
	]);

/** The third delegate agrees to anything, so that only the escrow's own rules about signatures are left. */
const credulousSigner: fc.Arbitrary<Step[]> = fc
	.record({ open: opening, flaw: fc.constantFrom("high-s", "high-s", "compact", "empty") })
	.map(({ open: channel, flaw: form }) => [
		{ ...channel, signer: 3 } as Step,
		{ ...nothingWrong, do: "settle", relayed: false, channel: -1, nonce: 0, amount: half, flaw: form },
	]);

/** What takes several steps on one channel to come about, and would hardly ever by chance. */
const plots: fc.Arbitrary<Step[]> = fc.oneof(forcedClose, forcedClose, oneNonceTwice, blockedBatch, credulousSigner);

/** A few channels, then whatever. */
export const sequences: fc.Arbitrary<Step[]> = fc
	.tuple(
		fc.array(opening, { minLength: 3, maxLength: 5, size: "max" }),
		fc.array(fc.oneof({ weight: 7, arbitrary: step.map((one) => [one]) }, { weight: 1, arbitrary: plots }), {
			minLength: 28,
			maxLength: 42,
			size: "max",
		}),
	)
	.map(([openings, steps]) => [...openings, ...steps.flat()]);
