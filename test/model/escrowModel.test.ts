/**
 * The escrow against a model of it that was written from draft-evm-session-00 and not from the contract: on every accept,
 * revert, event and balance over random sequences of calls, most of them legitimate, many forged, stale or repeated.
 *
 * `MODEL_RUNS` sets the number of sequences, `MODEL_SEED` repeats the sequences of an earlier run, and
 * `MODEL_PATH` with it the one that failed; both are in the failure's report. `MODEL_SHRINK` has fast-check look for a
 * smaller one, which takes minutes.
 */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { paymentChannelEscrowAbi } from "../../src/escrow/generated/escrow.ts";
import { DisagreementError, type Judge } from "./driver.ts";
import { apply } from "./escrowModel.ts";
import { CALL_KINDS, play, Tally } from "./play.ts";
import { createStage, type Stage } from "./stage.ts";
import { type Step, sequences } from "./steps.ts";

const RUNS = Number(process.env.MODEL_RUNS ?? 200);
const SEED = Number(process.env.MODEL_SEED ?? Date.now() % 2 ** 31);
const { MODEL_PATH: PATH } = process.env;
const SHRINK = process.env.MODEL_SHRINK !== undefined;

let stage: Stage;

beforeAll(async () => {
	stage = await createStage();
});

afterAll(() => stage.chain.stop());

test("the escrow does what the draft says over random sequences of calls (I12)", { timeout: 600_000 }, async () => {
	const tally = new Tally();
	const property = fc.asyncProperty(sequences, (steps) => play(stage, steps, tally));
	await fc.assert(property, { numRuns: RUNS, seed: SEED, endOnFailure: !SHRINK, ...(PATH && { path: PATH }) });
	const [accepted, refused] = [tally.total("accepted "), tally.total("refused ")];
	console.log(
		`model: ${tally.sequences} sequences, ${accepted + refused} calls, ${accepted} accepted, ${refused} refused, seed ${SEED}\n`,
		...["accepted ", "refused ", "event ", "error ", "skipped "].map(
			(what) => `${what}${JSON.stringify(tally.under(what))}\n`,
		),
	);
	// A run that never got anywhere would agree too. Small runs may miss something; the committed number must not.
	if (RUNS >= 200 && PATH === undefined) {
		expect(CALL_KINDS.filter((kind) => tally.of(`accepted ${kind}`) === 0)).toEqual([]);
		expect(CALL_KINDS.filter((kind) => tally.of(`refused ${kind}`) === 0)).toEqual([]);
		expect(EVENTS.filter((name) => tally.of(`event ${name}`) === 0)).toEqual([]);
		expect(ERRORS.filter((name) => tally.of(`error ${name}`) + tally.of(`skipped ${name}`) === 0)).toEqual([]);
	}
});

/** Models with a mistake in them, each of which the same calls must bring to light. */
const mistaken: readonly (readonly [string, Judge])[] = [
	[
		"forgets that a voucher must increase",
		(state, call) => {
			const outcome = apply(state, call);
			const { result } = outcome;
			const isStale = !result.accepted && result.refusals.some(({ error }) => error === "AmountNotIncreasing");
			return isStale ? { state, result: { accepted: true, transfers: [], events: [], returns: undefined } } : outcome;
		},
	],
	[
		"expects another error",
		(state, call) => {
			const outcome = apply(state, call);
			if (outcome.result.accepted) return outcome;
			return { state, result: { accepted: false, refusals: [{ error: "NotPayee" }] } };
		},
	],
	[
		"lets a third party cancel a close request",
		(state, call) => {
			const outcome = apply(state, call);
			if (call.kind !== "topUpWithAuthorization" || !outcome.result.accepted) return outcome;
			const { channels } = outcome.state;
			const channel = channels[call.channelId];
			if (channel === undefined) return outcome;
			const cancelled = { ...channels, [call.channelId]: { ...channel, closeRequestedAt: 0n } };
			return { ...outcome, state: { ...outcome.state, channels: cancelled } };
		},
	],
	[
		"expects no event",
		(state, call) => {
			const outcome = apply(state, call);
			return outcome.result.accepted ? { ...outcome, result: { ...outcome.result, events: [] } } : outcome;
		},
	],
	[
		"keeps the refund",
		(state, call) => {
			const outcome = apply(state, call);
			if (call.kind !== "close" || !outcome.result.accepted) return outcome;
			return { state: { ...outcome.state, tokens: state.tokens }, result: outcome.result };
		},
	],
];

const quiet = {
	payer: 0,
	payee: 0,
	token: 0,
	signer: 0,
	salt: 0,
	permitNonce: 0,
	channel: 0,
	wrong: "nothing",
	flaw: "none",
} as const;
const valid = { payeeFlaw: "none", sender: "right", from: "long ago", until: "never", nonce: 0 } as const;
const script: readonly Step[] = [
	{ ...quiet, ...valid, do: "open", how: "directly", deposit: 100n },
	{ ...quiet, ...valid, do: "settle", relayed: false, amount: { base: "nothing", plus: 10n } },
	{ ...quiet, ...valid, do: "settle", relayed: false, amount: { base: "settled", plus: 0n } },
	{ ...quiet, ...valid, do: "request close" },
	{ ...quiet, ...valid, do: "top up", how: "with EIP-3009", by: "funder", amount: { base: "nothing", plus: 5n } },
	{ ...quiet, ...valid, do: "close", relayed: false, amount: { base: "nothing", plus: 20n } },
];

test("the right model agrees where each of the wrong ones is found out", async () => {
	await play(stage, script, new Tally());
	for (const [mistake, judge] of mistaken) {
		const found = await play(stage, script, new Tally(), judge).catch((error: unknown) => error);
		expect(found, `a model that ${mistake}`).toBeInstanceOf(DisagreementError);
	}
});

const EVENTS = paymentChannelEscrowAbi.flatMap((item) =>
	item.type === "event" && item.name !== "EIP712DomainChanged" ? [item.name] : [],
);
/** The errors of IEscrowErrors that a call can end with. */
const ERRORS: readonly string[] = [
	"ChannelAlreadyExists",
	"ChannelNotFound",
	"ChannelFinalized",
	"NotPayee",
	"NotPayer",
	"AmountNotIncreasing",
	"AmountExceedsDeposit",
	"InvalidSignature",
	"NonceMismatch",
	"NonceAlreadyUsed",
	"AuthorizationExpired",
	"CloseNotReady",
	"ZeroDeposit",
	"DepositOverflow",
	"InvalidPayer",
	"InvalidPayee",
	"InvalidToken",
	"DepositNotExact",
	"RefundRefused",
];
