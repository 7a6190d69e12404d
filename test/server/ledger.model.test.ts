/**
 * The ledger against a model of it, written from draft-evm-session-00 ("Voucher Verification", "Server-Side Accounting",
 * "Cooperative Close") and DESIGN D1 to D12 and not from the code. Random sequences of events, hostile ones among them,
 * go to both; after each step both must agree, and the invariants must hold for the ledger by themselves.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type ProblemName, problemType } from "../../src/protocol/index.ts";
import { type Channel, reserved } from "../../src/server/channel.ts";
import {
	applyEvent,
	closingVoucher,
	type Effect,
	type LedgerEvent,
	type Reservation,
} from "../../src/server/ledger.ts";
import { channel as record } from "./store/records.ts";

const NOW = 1_800_000_000_000;
const RUNS = 4_000;
const OWNERS = ["process-a", "process-b"] as const;
const CHALLENGES = ["opening", "second", "third", "strangers"] as const;
const UINT128 = 2n ** 128n;

/** An amount said relative to the channel, so that the boundaries come up often. */
type Amount = Readonly<{ base: "nothing" | "spent" | "settled" | "accepted" | "deposit" | "uint128"; plus: bigint }>;
type Owner = (typeof OWNERS)[number];
type Given = Readonly<{ amount: Amount; challengeId: (typeof CHALLENGES)[number] }>;

/** One thing that happens to the channel. What it means in numbers depends on where the channel is by then. */
type Step =
	| Readonly<{ do: "voucher"; given: Given; minVoucherDelta: bigint }>
	| Readonly<{ do: "reserve"; given: Given; price: bigint; owner: Owner; advance: boolean; minVoucherDelta: bigint }>
	| Readonly<{ do: "capture"; which: number; used: bigint; forged: Forgery }>
	| Readonly<{ do: "release"; which: number; forged: Forgery }>
	| Readonly<{ do: "recover"; gone: readonly Owner[] }>
	/** Something happens on chain, without anybody looking. */
	| Readonly<{ do: "top up"; plus: bigint }>
	| Readonly<{ do: "settle"; amount: Amount }>
	| Readonly<{ do: "request close" }>
	| Readonly<{ do: "finalize" }>
	/** The server looks at the chain; a lie is a reorganization or a broken RPC. */
	| Readonly<{
			do: "observe";
			lie: "none" | "lower deposit" | "lower settled" | "not finalized" | "settled above deposit";
	  }>
	| Readonly<{ do: "begin close"; given: Given; owner: Owner }>
	| Readonly<{ do: "resume close"; owner: Owner }>
	/** `byRule`: as the server does it, with what `closingVoucher` says. Otherwise whatever `amount` is. */
	| Readonly<{ do: "decide close"; amount: Amount; byRule: boolean }>
	/** The transaction that carries the decided amount is about to leave. */
	| Readonly<{ do: "publish" }>
	| Readonly<{ do: "fail close" }>;

/** What somebody changes about a reservation before using it. */
type Forgery = "none" | "older" | "newer" | "larger" | "other owner";

/** How a channel begins: its first voucher, what was settled of it before and, where it is adopted, this request's price. */
type Beginning = Readonly<{ first: bigint; settled: bigint; price: bigint | undefined }>;

type World = { deposit: bigint; settled: bigint; closeRequestedAt: number; finalized: boolean };

/** What the draft and the decisions say a channel is. */
class Model {
	deposit: bigint;
	settled: bigint;
	accepted: bigint;
	spent: bigint;
	closeRequested = false;
	finalized = false;
	closing: Owner | undefined;
	/** Highest amount whose signature is public; `undefined`: none is. */
	published: bigint | undefined;
	known: string[] = [CHALLENGES[0]];
	promised = new Map<Owner, bigint>();
	/** Promises made before the last time all of them were dropped are void. */
	epoch = 0;
	/** All that requests were charged. */
	captured = 0n;
	/** What the chain showed as delivered without us knowing (D10). */
	adopted = 0n;

	/** A new channel; or one that was served before, nobody knows for how much (D10): then `price` of it is left to spend. */
	constructor(deposit: bigint, { first, settled, price }: Beginning) {
		this.deposit = deposit;
		this.settled = settled;
		this.accepted = first > settled ? first : settled;
		const delivered = price === undefined ? 0n : this.accepted - price;
		this.spent = delivered > settled ? delivered : settled;
		this.adopted = this.spent;
		if (settled > 0n) this.published = settled;
		// Who shows no more than what was settled may be anyone (D7).
		if (settled > 0n && first <= settled) this.known = [];
	}

	get inUse(): bigint {
		return this.spent + [...this.promised.values()].reduce((sum, amount) => sum + amount, 0n);
	}

	/** Draft, Voucher Verification step 1; D1. */
	get closed(): ProblemName | undefined {
		if (this.finalized) return "session/channel-finalized";
		return this.closeRequested || this.closing !== undefined ? "session/channel-closing" : undefined;
	}

	/** D7. */
	mayBeAStrangers(amount: bigint, challengeId: string): boolean {
		return this.published !== undefined && amount <= this.published && !this.known.includes(challengeId);
	}

	know(challengeId: string): void {
		this.known = [challengeId, ...this.known.filter((id) => id !== challengeId)];
	}

	publish(amount: bigint): void {
		if (this.published === undefined || amount > this.published) this.published = amount;
	}

	dropPromises(): void {
		this.promised.clear();
		this.epoch++;
	}
}

/** What an event must come to: fine, a named refusal, or a thrown error. */
type Verdict = Readonly<{ ok: true; effects?: readonly Effect[] }> | ProblemName | "throws";

const fine: Verdict = { ok: true };

function expectedVoucher(model: Model, amount: bigint, challengeId: string, minVoucherDelta: bigint): Verdict {
	if (model.closed) return model.closed;
	if (amount <= model.accepted) return fine;
	if (amount > model.deposit) return "session/amount-exceeds-deposit";
	const exempt = model.accepted === 0n || amount === model.deposit;
	if (!exempt && amount - model.accepted < minVoucherDelta) return "session/delta-too-small";
	model.accepted = amount;
	model.know(challengeId);
	return fine;
}

function expectedReserve(model: Model, price: bigint, owner: Owner, amount: bigint, challengeId: string): Verdict {
	if (model.closed) return model.closed;
	if (model.mayBeAStrangers(amount, challengeId)) return "session/insufficient-balance";
	if (model.inUse + price > model.accepted) return "session/insufficient-balance";
	model.promised.set(owner, (model.promised.get(owner) ?? 0n) + price);
	return fine;
}

/** Takes a promise back; false when there is no such promise (any more). */
function takeBack(model: Model, { owner, generation, amount }: Reservation): boolean {
	const held = model.promised.get(owner as Owner) ?? 0n;
	if (generation !== model.epoch || held < amount) return false;
	model.promised.set(owner as Owner, held - amount);
	return true;
}

function drainedIf(model: Model): Verdict {
	return { ok: true, effects: model.closing !== undefined && model.inUse === model.spent ? ["drained"] : [] };
}

function expectedCapture(model: Model, reservation: Reservation, used: bigint): Verdict {
	if (used < 0n || used > reservation.amount) return "throws";
	if (!takeBack(model, reservation)) return "session/channel-closing";
	model.spent += used;
	model.captured += used;
	return drainedIf(model);
}

function expectedObservation(model: Model, { deposit, settled, closeRequestedAt, finalized }: World): Verdict {
	const possible = settled <= deposit;
	const forward = deposit >= model.accepted && settled >= model.settled && (finalized || !model.finalized);
	if (!possible || !forward) return "throws";
	model.deposit = deposit;
	model.settled = settled;
	model.closeRequested = closeRequestedAt !== 0;
	if (settled > 0n) model.publish(settled);
	if (settled > model.accepted) {
		model.adopted += settled - model.spent;
		model.accepted = settled;
		model.spent = settled;
		model.dropPromises();
	}
	if (finalized) {
		model.dropPromises();
		model.closing = undefined;
	}
	model.finalized = finalized;
	return fine;
}

function expectedBegin(model: Model, amount: bigint, challengeId: string, owner: Owner): Verdict {
	if (model.finalized) return "session/channel-finalized";
	if (amount > model.deposit) return "session/amount-exceeds-deposit";
	if (model.mayBeAStrangers(amount, challengeId)) return "session/insufficient-balance";
	model.closing = owner;
	model.know(challengeId);
	return drainedIf(model);
}

function expectedDecision(model: Model, amount: bigint): Verdict {
	if (model.finalized) return "session/channel-finalized";
	if (model.closing === undefined) return "throws";
	if (amount > model.deposit) return "session/amount-exceeds-deposit";
	if (amount < model.spent) return "throws";
	if (amount > model.accepted) model.accepted = amount;
	model.dropPromises();
	return fine;
}

/** One channel, its model, the chain, and what was promised to requests so far. */
class Run {
	channel: Channel;
	readonly model: Model;
	readonly world: World;
	readonly promises: Reservation[] = [];
	/** Amount of the last cooperative close that was begun. */
	closeAmount = 0n;

	constructor(deposit: bigint, beginning: Beginning) {
		const { first, settled, price } = beginning;
		const { channelId, chainId, escrow, payer, payee, token, authorizedSigner } = record(1);
		const identity = { channelId, chainId, escrow, payer, payee, token, authorizedSigner };
		const opened = applyEvent(
			undefined,
			{
				type: "opened",
				identity,
				chain: { deposit, settledOnChain: settled, closeRequestedAt: 0, finalized: false },
				voucher: { cumulativeAmount: first, signature: signatureOf(first), challengeId: CHALLENGES[0] },
				minimum: 0n,
				...(price !== undefined && { unaccounted: { price } }),
			},
			NOW,
		);
		if (!opened.ok) throw new TypeError(opened.problem.detail);
		this.channel = opened.channel;
		this.model = new Model(deposit, beginning);
		this.world = { deposit, settled, closeRequestedAt: 0, finalized: false };
		this.#agree("opening");
	}

	step(step: Step): void {
		const { model, world } = this;
		switch (step.do) {
			case "voucher": {
				const { amount, challengeId } = this.#given(step.given);
				const { minVoucherDelta } = step;
				const voucher = { cumulativeAmount: amount, signature: signatureOf(amount), challengeId };
				const verdict = expectedVoucher(model, amount, challengeId, minVoucherDelta);
				this.#apply({ type: "voucher", voucher, minVoucherDelta }, verdict);
				return;
			}
			case "reserve": {
				const { price, owner, advance, minVoucherDelta } = step;
				// Mostly as the server does it: the voucher is taken first, then something is reserved for it.
				if (advance) this.step({ do: "voucher", given: step.given, minVoucherDelta: 0n });
				const { amount, challengeId } = this.#given(step.given);
				const voucher = { cumulativeAmount: amount, challengeId };
				const verdict = expectedReserve(model, price, owner, amount, challengeId);
				const event = { type: "reserve", amount: price, owner, voucher, minVoucherDelta } as const;
				this.#apply(event, verdict);
				if (verdict === "session/insufficient-balance") this.#requiredIsEnough(event);
				if (typeof verdict === "object") this.promises.push({ owner, generation: model.epoch, amount: price });
				return;
			}
			case "capture": {
				const reservation = this.#promise(step.which, step.forged);
				if (reservation === undefined) return;
				const verdict = expectedCapture(model, reservation, step.used);
				this.#apply({ type: "capture", reservation, used: step.used }, verdict);
				return;
			}
			case "release": {
				const reservation = this.#promise(step.which, step.forged);
				if (reservation === undefined) return;
				const verdict = takeBack(model, reservation) ? drainedIf(model) : fine;
				this.#apply({ type: "release", reservation }, verdict);
				return;
			}
			case "recover":
				for (const owner of step.gone) model.promised.delete(owner);
				if (model.closing !== undefined && step.gone.includes(model.closing)) model.closing = undefined;
				this.#apply({ type: "recovered", gone: step.gone }, fine);
				return;
			case "top up":
				if (world.finalized || world.deposit + step.plus >= UINT128) return;
				world.deposit += step.plus;
				world.closeRequestedAt = 0;
				return;
			case "settle": {
				const amount = this.#amount(step.amount);
				if (!world.finalized && amount > world.settled && amount <= world.deposit) world.settled = amount;
				return;
			}
			case "request close":
				if (!world.finalized) world.closeRequestedAt ||= NOW / 1_000;
				return;
			case "finalize":
				world.finalized = true;
				return;
			case "observe": {
				const seen = told(world, step.lie, this.channel);
				const { deposit, settled: settledOnChain, closeRequestedAt, finalized } = seen;
				const chain = { deposit, settledOnChain, closeRequestedAt, finalized };
				this.#apply({ type: "chain-observed", chain }, expectedObservation(model, seen));
				return;
			}
			case "begin close": {
				const { amount, challengeId } = this.#given(step.given);
				const voucher = { cumulativeAmount: amount, challengeId };
				const verdict = expectedBegin(model, amount, challengeId, step.owner);
				this.#apply({ type: "close-begun", owner: step.owner, voucher }, verdict);
				if (typeof verdict === "object") this.closeAmount = amount;
				return;
			}
			case "resume close":
				// The server does not resume the close of a channel that it knows as closed.
				if (model.finalized) return;
				model.closing = step.owner;
				this.#apply({ type: "close-resumed", owner: step.owner }, fine);
				return;
			case "decide close": {
				const client = { cumulativeAmount: this.closeAmount, signature: signatureOf(this.closeAmount) };
				const amount = step.byRule ? closingVoucher(this.channel, client).cumulativeAmount : this.#amount(step.amount);
				if (step.byRule) expect(amount).toBe(this.closeAmount < model.spent ? model.accepted : this.closeAmount);
				const event = { type: "close-decided", cumulativeAmount: amount, signature: signatureOf(amount) } as const;
				this.#apply(event, expectedDecision(model, amount));
				return;
			}
			case "publish":
				model.publish(this.closeAmount);
				this.#apply({ type: "publishing", cumulativeAmount: this.closeAmount }, fine);
				return;
			case "fail close":
				model.closing = undefined;
				this.#apply({ type: "close-failed" }, fine);
				return;
		}
	}

	/** Gives the event to the ledger, holds it against what is expected of it, and checks the invariants. */
	#apply(event: LedgerEvent, verdict: Verdict): void {
		const before = frozen(this.channel);
		frozen(event);
		if (verdict === "throws") {
			expect(() => applyEvent(before, event, NOW), event.type).toThrow();
		} else {
			const step = applyEvent(before, event, NOW);
			if (typeof verdict === "string") {
				expect(step.ok ? "not refused" : step.problem.type, event.type).toBe(problemType(verdict));
			} else if (!step.ok) {
				expect.fail(`${event.type} was refused: ${step.problem.type} ${step.problem.detail}`);
			} else {
				if (verdict.effects !== undefined) expect(step.effects, event.type).toEqual(verdict.effects);
				this.channel = step.channel;
			}
		}
		this.#agree(event.type);
		holdsInvariants(before, this.channel);
	}

	#agree(what: string): void {
		const { channel, model } = this;
		const known = new Set(channel.challengeIds);
		expect(
			{
				deposit: channel.deposit,
				settled: channel.settledOnChain,
				accepted: channel.acceptedCumulative,
				spent: channel.spent,
				inUse: channel.spent + reserved(channel),
				closing: channel.closingBy ?? undefined,
				closeRequested: channel.closeRequestedAt !== 0,
				finalized: channel.finalized,
				known: CHALLENGES.filter((id) => known.has(id)),
			},
			`after ${what}`,
		).toEqual({
			deposit: model.deposit,
			settled: model.settled,
			accepted: model.accepted,
			spent: model.spent,
			inUse: model.inUse,
			closing: model.closing,
			closeRequested: model.closeRequested,
			finalized: model.finalized,
			known: CHALLENGES.filter((id) => model.known.includes(id)),
		});
		// Charged is what was captured, once, and what the chain knew better; nothing else.
		expect(channel.spent).toBe(model.captured + model.adopted);
	}

	/** D3: the amount that a refusal names is enough, unless it is above the deposit and the client has to top up first. */
	#requiredIsEnough(event: Extract<LedgerEvent, { type: "reserve" }>): void {
		const { amount, owner, minVoucherDelta } = event;
		const refusal = applyEvent(this.channel, event, NOW);
		const required = BigInt(refusal.ok ? 0 : String(refusal.problem.requiredCumulative));
		if (required > this.channel.deposit) return;
		const voucher = { cumulativeAmount: required, signature: signatureOf(required), challengeId: "answer" };
		const advanced = applyEvent(this.channel, { type: "voucher", voucher, minVoucherDelta }, NOW);
		if (!advanced.ok) expect.fail(`the required voucher was refused: ${advanced.problem.type}`);
		const held = applyEvent(advanced.channel, { type: "reserve", amount, owner, voucher, minVoucherDelta }, NOW);
		if (!held.ok) expect.fail(`the required voucher was not enough: ${held.problem.type}`);
	}

	#given({ amount, challengeId }: Given) {
		return { amount: this.#amount(amount), challengeId };
	}

	#amount({ base, plus }: Amount): bigint {
		const { deposit, acceptedCumulative, spent, settledOnChain } = this.channel;
		const bases = {
			nothing: 0n,
			spent,
			settled: settledOnChain,
			accepted: acceptedCumulative,
			deposit,
			uint128: UINT128,
		};
		const amount = bases[base] + plus;
		return amount < 0n ? 0n : amount;
	}

	/** A promise made earlier, whether it still counts or not, perhaps tampered with. */
	#promise(which: number, forged: Forgery): Reservation | undefined {
		const made = this.promises[which % Math.max(this.promises.length, 1)];
		if (made === undefined) return undefined;
		const { owner, generation, amount } = made;
		switch (forged) {
			case "none":
				return made;
			case "older":
				return { ...made, generation: generation - 1 };
			case "newer":
				return { ...made, generation: generation + 1 };
			case "larger":
				return { ...made, amount: amount + UINT128 };
			case "other owner":
				return { ...made, owner: owner === OWNERS[0] ? OWNERS[1] : OWNERS[0] };
		}
	}
}

/** I1, I2, and that a signature always belongs to the amount it is kept for (I8). */
function holdsInvariants(before: Channel, after: Channel): void {
	const { spent, acceptedCumulative, deposit, settledOnChain } = after;
	const held = reserved(after);
	const i1 =
		0n <= spent &&
		0n <= held &&
		spent + held <= acceptedCumulative &&
		acceptedCumulative <= deposit &&
		deposit < UINT128 &&
		settledOnChain <= deposit;
	const i2 =
		acceptedCumulative >= before.acceptedCumulative &&
		spent >= before.spent &&
		settledOnChain >= before.settledOnChain &&
		after.generation >= before.generation &&
		(after.finalized || !before.finalized);
	// What the chain alone knew of has no signature here, and needs none: it is settled.
	const i8 = after.voucherSignature === signatureOf(acceptedCumulative) || acceptedCumulative <= settledOnChain;
	expect({ i1, i2, i8 }).toEqual({ i1: true, i2: true, i8: true });
}

function told(world: World, lie: Extract<Step, { do: "observe" }>["lie"], channel: Channel): World {
	switch (lie) {
		case "none":
			return world;
		case "lower deposit":
			return { ...world, deposit: channel.acceptedCumulative - 1n };
		case "lower settled":
			return { ...world, settled: channel.settledOnChain - 1n };
		case "not finalized":
			return { ...world, finalized: false };
		case "settled above deposit":
			return { ...world, settled: world.deposit + 1n };
	}
}

function signatureOf(amount: bigint): `0x${string}` {
	return `0x${amount.toString(16).padStart(130, "0")}`;
}

function frozen<T>(value: T): T {
	if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
		for (const inner of Object.values(value)) frozen(inner);
		Object.freeze(value);
	}
	return value;
}

const few = fc.bigInt({ min: 0n, max: 40n });
const amounts: fc.Arbitrary<Amount> = fc.record({
	base: fc.constantFrom("nothing", "spent", "settled", "accepted", "accepted", "accepted", "deposit", "uint128"),
	plus: fc.oneof({ weight: 3, arbitrary: fc.bigInt({ min: -3n, max: 3n }) }, { weight: 2, arbitrary: few }),
});
const givens: fc.Arbitrary<Given> = fc.record({ amount: amounts, challengeId: fc.constantFrom(...CHALLENGES) });
const owners = fc.constantFrom(...OWNERS);
const forgeries = fc.constantFrom<Forgery>("none", "none", "none", "none", "older", "newer", "larger", "other owner");
const which = fc.nat(20);
const deltas = fc.constantFrom(0n, 0n, 1n, 10n, UINT128);

const steps: fc.Arbitrary<Step> = fc.oneof(
	{ weight: 6, arbitrary: fc.record({ do: fc.constant("voucher"), given: givens, minVoucherDelta: deltas }) },
	{
		weight: 8,
		arbitrary: fc.record({
			do: fc.constant("reserve"),
			given: givens,
			price: fc.oneof({ weight: 9, arbitrary: few }, { weight: 1, arbitrary: fc.constant(UINT128) }),
			owner: owners,
			advance: fc.boolean(),
			minVoucherDelta: deltas,
		}),
	},
	{ weight: 8, arbitrary: fc.record({ do: fc.constant("capture"), which, used: few, forged: forgeries }) },
	{ weight: 4, arbitrary: fc.record({ do: fc.constant("release"), which, forged: forgeries }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("recover"), gone: fc.subarray([...OWNERS]) }) },
	{ weight: 2, arbitrary: fc.record({ do: fc.constant("top up"), plus: few }) },
	{ weight: 2, arbitrary: fc.record({ do: fc.constant("settle"), amount: amounts }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("request close") }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("finalize") }) },
	{
		weight: 5,
		arbitrary: fc.record({
			do: fc.constant("observe"),
			lie: fc.constantFrom(
				"none",
				"none",
				"none",
				"none",
				"lower deposit",
				"lower settled",
				"not finalized",
				"settled above deposit",
			),
		}),
	},
	{ weight: 4, arbitrary: fc.record({ do: fc.constant("begin close"), given: givens, owner: owners }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("resume close"), owner: owners }) },
	{
		weight: 4,
		arbitrary: fc.record({ do: fc.constant("decide close"), amount: amounts, byRule: fc.boolean() }),
	},
	{ weight: 3, arbitrary: fc.record({ do: fc.constant("publish") }) },
	{ weight: 3, arbitrary: fc.record({ do: fc.constant("fail close") }) },
);

const beginnings: fc.Arbitrary<Beginning> = fc.record({
	first: few,
	settled: fc.oneof({ weight: 2, arbitrary: fc.constant(0n) }, { weight: 1, arbitrary: few }),
	price: fc.option(few, { nil: undefined }),
});
const deposits = fc.oneof(fc.bigInt({ min: 1n, max: 200n }), fc.constant(UINT128 - 1n));

const strangersNothing: Given = { amount: { base: "nothing", plus: 0n }, challengeId: "strangers" };

/** Failures that were found, kept. */
const begins = { first: 0n, settled: 0n, price: undefined };
const found: [bigint, Beginning, Step[]][] = [
	// A close for nothing, where nothing was ever published, was taken for a stranger's.
	[1n, begins, [{ do: "begin close", given: strangersNothing, owner: "process-a" }]],
	// More settled than deposited was believed, and broke I1.
	[1n, begins, [{ do: "observe", lie: "settled above deposit" }]],
];

test("the ledger does what the draft says under any sequence of events, and keeps I1, I2, I6, I7 and I8", () => {
	fc.assert(
		fc.property(deposits, beginnings, fc.array(steps, { maxLength: 60, size: "max" }), (deposit, given, sequence) => {
			const capped = (amount: bigint) => (amount > deposit ? deposit : amount);
			const run = new Run(deposit, { ...given, first: capped(given.first), settled: capped(given.settled) });
			for (const step of sequence) run.step(step);
		}),
		{ numRuns: RUNS, examples: found },
	);
});
