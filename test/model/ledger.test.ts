/**
 * The server's ledger fed the events of a real chain, on which anything may happen: it never differs from the chain's
 * state, takes no voucher above the deposit, from another signer or on a closed channel, and what it takes is money: the
 * payee could settle it at that moment. Also where it hears of the chain late, as long as that is within the grace period,
 * hears old news, or sees blocks replaced.
 *
 * `LEDGER_MODEL_RUNS` sets the number of sequences, `MODEL_SEED` repeats the sequences of an earlier run, and
 * `MODEL_PATH` with it the one that failed; both are in the failure's report. `MODEL_SHRINK` has fast-check look for a
 * smaller one, which takes minutes.
 */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FLAWS } from "./forgery.ts";
import { type Given, LedgerRun } from "./ledgerRun.ts";
import { Play, Tally } from "./play.ts";
import { createStage, type Stage } from "./stage.ts";
import { type Step, sequences } from "./steps.ts";

const RUNS = Number(process.env.LEDGER_MODEL_RUNS ?? 100);
const SEED = Number(process.env.MODEL_SEED ?? Date.now() % 2 ** 31);
const { MODEL_PATH: PATH } = process.env;
const SHRINK = process.env.MODEL_SHRINK !== undefined;

/** What the server does or is asked between two things that happen on chain. */
type LedgerStep =
	| Readonly<{ do: "voucher"; given: Given }>
	| Readonly<{ do: "spend"; channel: number; price: bigint }>
	| Readonly<{ do: "cooperate"; given: Given }>
	| Readonly<{ do: "retire"; channel: number }>
	| Readonly<{ do: "defer"; channel: number }>
	/** What it hears is old; or the last blocks are replaced and come again. */
	| Readonly<{ do: "look"; channel: number; ago: number; reorganized: boolean }>
	| Readonly<{ do: "watch" }>;

const index = fc.nat(7);
const given: fc.Arbitrary<Given> = fc.record({
	channel: index,
	amount: fc.record({
		base: fc.constantFrom("nothing", "settled", "between", "between", "deposit", "deposit", "uint128"),
		plus: fc.constantFrom(-1n, 0n, 0n, 1n, 9n),
	}),
	flaw: fc.oneof(
		{ weight: 6, arbitrary: fc.constant("none" as const) },
		{ weight: 1, arbitrary: fc.constantFrom(...FLAWS) },
	),
	challengeId: fc.constantFrom("first", "second"),
	minVoucherDelta: fc.constantFrom(0n, 0n, 0n, 10n),
	adoptedFor: fc.option(fc.bigInt({ min: 0n, max: 90n }), { nil: undefined }),
});

const ledgerStep: fc.Arbitrary<LedgerStep> = fc.oneof(
	{ weight: 40, arbitrary: fc.record({ do: fc.constant("voucher" as const), given }) },
	{
		weight: 16,
		arbitrary: fc.record({
			do: fc.constant("spend" as const),
			channel: index,
			price: fc.bigInt({ min: 0n, max: 90n }),
		}),
	},
	{ weight: 4, arbitrary: fc.record({ do: fc.constant("cooperate" as const), given }) },
	{ weight: 8, arbitrary: fc.record({ do: fc.constant("watch" as const) }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("retire" as const), channel: index }) },
	{ weight: 2, arbitrary: fc.record({ do: fc.constant("defer" as const), channel: index }) },
	{
		weight: 12,
		arbitrary: fc.record({
			do: fc.constant("look" as const),
			channel: index,
			ago: fc.integer({ min: 1, max: 4 }),
			reorganized: fc.boolean(),
		}),
	},
);

let stage: Stage;

beforeAll(async () => {
	stage = await createStage();
});

afterAll(() => stage.chain.stop());

test("a ledger fed the chain's events is where the chain is, and what it accepts is money", {
	timeout: 600_000,
}, async () => {
	const tally = new Tally();
	const property = fc.asyncProperty(
		sequences,
		fc.array(fc.array(ledgerStep, { maxLength: 6, size: "max" }), { minLength: 40, maxLength: 40 }),
		fc.boolean(),
		(onChain, between, isLate) => playBoth(onChain, between, isLate, tally),
	);
	await fc.assert(property, { numRuns: RUNS, seed: SEED, endOnFailure: !SHRINK, ...(PATH && { path: PATH }) });
	console.log(
		`ledger: ${tally.sequences} sequences, ${tally.total("accepted ") + tally.total("refused ")} calls, seed ${SEED}\n`,
		JSON.stringify(tally.under("ledger: ")),
	);
	if (RUNS < 100 || PATH !== undefined) return;
	expect(HOPED.filter((what) => tally.of(`ledger: ${what}`) === 0)).toEqual([]);
});

/** What a run that got somewhere has seen. */
const HOPED = [
	"accepted",
	"adopted",
	"bad signature",
	"amount-exceeds-deposit",
	"channel-closing",
	"channel-finalized",
	"stale",
	"captured",
	"cooperative close",
	"held and redeemable",
	"retired",
	"deferred",
	"old news",
	"reorganized",
	"frozen and thawed",
];

async function playBoth(
	onChain: readonly Step[],
	between: readonly (readonly LedgerStep[])[],
	isLate: boolean,
	tally: Tally,
): Promise<void> {
	const play = await Play.begin(stage);
	const ledger = new LedgerRun(play, tally);
	for (const [turn, step] of onChain.entries()) {
		// A token that takes no payments makes no money of any voucher; the draft keeps such tokens out.
		if (step.do === "block") continue;
		// However late the server hears of the chain, it does so before a grace period is over.
		if (step.do === "wait") ledger.watch();
		const done = await play.step(mostlyWithKeys(step));
		if (done?.answer.accepted) ledger.happened(done.answer.events);
		if (done !== undefined) tally.record(done.call, done.answer);
		// What its own payee closes, the server knows at once.
		const isClosed = done?.answer.accepted && done.answer.events.some(({ name }) => name === "ChannelClosed");
		if (!isLate || isClosed) ledger.watch();
		for (const one of between[turn % between.length] ?? []) await serve(ledger, one);
	}
	ledger.watch();
	await ledger.everythingPays();
	tally.sequences++;
}

/** The server takes no vouchers of contract signers: a few such channels are enough to see that. */
function mostlyWithKeys(step: Step): Step {
	if (step.do !== "open" || step.salt === 0) return step;
	return { ...step, payer: step.payer % 2, signer: step.signer % 2 };
}

async function serve(ledger: LedgerRun, step: LedgerStep): Promise<void> {
	switch (step.do) {
		case "voucher":
			return ledger.voucher(step.given);
		case "spend":
			return ledger.spend(step.channel, step.price);
		case "watch":
			return ledger.watch();
		case "cooperate":
			return ledger.cooperate(step.given);
		case "retire":
			return ledger.retire(step.channel);
		case "defer":
			return ledger.defer(step.channel);
		case "look":
			return ledger.look(step.channel, step.ago, step.reorganized);
	}
}
