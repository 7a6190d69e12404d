/**
 * The ledger against a model of it. Random sequences of events, hostile ones among them, go to both; the chain beside them
 * settles, closes, goes back and is heard of late. After each step both must agree, and the invariants must hold for the
 * ledger by themselves.
 *
 * `MODEL_SEED` repeats the sequences of an earlier run.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { problemType } from "../../src/protocol/index.ts";
import { type Channel, chainNow, reserved, unsettled } from "../../src/server/channel.ts";
import { applyEvent, closingVoucher, type LedgerEvent, type Reservation } from "../../src/server/ledger.ts";
import {
	type Beginning,
	expectedBegin,
	expectedCapture,
	expectedDecision,
	expectedObservation,
	expectedRecovery,
	expectedRelease,
	expectedReserve,
	expectedRetirement,
	expectedVoucher,
	fine,
	Model,
	type Verdict,
	type World,
} from "./ledgerModel.ts";
import {
	type Amount,
	beginnings,
	CHALLENGES,
	deposits,
	type Forgery,
	type Given,
	type Lie,
	OWNERS,
	type Step,
	steps,
	UINT128,
} from "./ledgerModelSteps.ts";
import { channel as record } from "./store/records.ts";

const NOW = 1_800_000_000_000;
const RUNS = 4_000;
const SEED = Number(process.env.MODEL_SEED ?? Date.now() % 2 ** 31);

/** The block at which the channel was funded, and what the chain is without it. */
const FUNDED_AT = 100;
const UNFUNDED: World = { deposit: 0n, settled: 0n, closeRequestedAt: 0, finalized: false, block: FUNDED_AT - 1 };

/** How often what happened, over all sequences. */
const seen = new Map<string, number>();

/** One channel, its model, the chain block by block, and what was promised to requests so far. */
class Run {
	channel: Channel;
	readonly model: Model;
	/** What the chain was, the last one being what it is. */
	readonly chain: World[];
	readonly promises: Reservation[] = [];
	/** What came with the last close that a client began. */
	closing = vouched({ amount: 0n, byContract: false });
	/** Blocks were replaced that nobody has looked at since. */
	#isRewound = false;

	constructor(deposit: bigint, beginning: Beginning) {
		const { first, settled, price } = beginning;
		const { channelId, chainId, escrow, payer, payee, token, authorizedSigner } = record(1);
		const identity = { channelId, chainId, escrow, payer, payee, token, authorizedSigner };
		const world: World = { ...UNFUNDED, deposit, settled, block: FUNDED_AT };
		const opened = applyEvent(
			undefined,
			{
				type: "opened",
				identity,
				chain: stateOf(world),
				voucher: { ...vouched({ amount: first, byContract: false }), challengeId: CHALLENGES[0] },
				minimum: 0n,
				...(price !== undefined && { unaccounted: { price } }),
			},
			NOW,
		);
		if (!opened.ok) throw new TypeError(opened.problem.detail);
		this.channel = opened.channel;
		this.model = new Model(world, beginning, CHALLENGES[0], NOW);
		this.chain = [UNFUNDED, world];
		this.#agree("opening");
	}

	step(step: Step): void {
		const { model, chain } = this;
		const world = chain.at(-1) ?? UNFUNDED;
		model.now++;
		switch (step.do) {
			case "voucher": {
				const { minVoucherDelta } = step;
				const { voucher, amount, challengeId } = this.#given(step.given);
				const verdict = expectedVoucher(model, amount, challengeId, minVoucherDelta);
				this.#apply({ type: "voucher", voucher, minVoucherDelta }, verdict);
				return;
			}
			case "reserve": {
				const { price, owner, advance, minVoucherDelta } = step;
				// Mostly as the server does it: the voucher is taken first, then something is reserved for it.
				if (advance) this.step({ do: "voucher", given: step.given, minVoucherDelta: 0n });
				const { voucher, amount, challengeId } = this.#given(step.given);
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
				this.#apply({ type: "release", reservation }, expectedRelease(model, reservation));
				return;
			}
			case "recover":
				this.#apply({ type: "recovered", gone: step.gone }, expectedRecovery(model, step.gone));
				return;
			case "top up":
				if (world.finalized || world.deposit + step.plus >= UINT128) return;
				this.#mine({ deposit: world.deposit + step.plus, closeRequestedAt: 0 });
				return;
			case "settle": {
				const settled = this.#amount(step.amount);
				if (!world.finalized && settled > world.settled && settled <= world.deposit) this.#mine({ settled });
				return;
			}
			case "request close":
				if (!world.finalized && world.closeRequestedAt === 0) this.#mine({ closeRequestedAt: world.block });
				return;
			case "finalize":
				this.#mine({ finalized: true });
				return;
			case "reorganize":
				chain.length = Math.max(1, chain.length - step.depth);
				this.#mine({}, step.grown);
				this.#isRewound = true;
				return;
			case "observe": {
				const at = chain.at(-1 - step.ago) ?? UNFUNDED;
				const told = lied(at, step.lie, this.channel);
				const reorganized = step.reorganized ?? this.#isRewound;
				this.#isRewound &&= !reorganized;
				const verdict = expectedObservation(model, told, reorganized);
				this.#apply({ type: "chain-observed", chain: stateOf(told), reorganized }, verdict);
				return;
			}
			case "begin close": {
				const { voucher, amount, challengeId } = this.#given(step.given);
				const verdict = expectedBegin(model, amount, challengeId, step.owner);
				this.#apply({ type: "close-begun", owner: step.owner, voucher }, verdict);
				if (typeof verdict === "object") this.closing = voucher;
				return;
			}
			case "retire":
				this.#apply({ type: "retire-begun", owner: step.owner }, expectedRetirement(model, step.owner));
				return;
			case "resume close":
				// The server does not resume the close of a channel that it knows as closed.
				if (model.finalized) return;
				model.closing = step.owner;
				this.#apply({ type: "close-resumed", owner: step.owner }, fine);
				return;
			case "decide close": {
				const decision = this.#decision(step);
				const { cumulativeAmount: amount } = decision;
				if (step.by === "client") {
					const { cumulativeAmount: asked } = this.closing;
					expect(amount).toBe(asked < model.spent ? model.accepted : asked);
				}
				this.#apply({ type: "close-decided", ...decision }, expectedDecision(model, amount));
				return;
			}
			case "publish": {
				const { cumulativeAmount } = this.closing;
				model.publish(cumulativeAmount);
				this.#apply({ type: "publishing", cumulativeAmount }, fine);
				return;
			}
			case "fail close":
				model.closing = undefined;
				this.#apply({ type: "close-failed" }, fine);
				return;
			case "defer":
				model.deferredAt = model.now;
				this.#apply({ type: "deferred" }, { ok: true, effects: [] });
				return;
		}
	}

	/** The chain is this from the next block on. */
	#mine(change: Partial<World>, blocks = 1): void {
		const world = this.chain.at(-1) ?? UNFUNDED;
		this.chain.push({ ...world, ...change, block: world.block + blocks });
	}

	#decision({ by, amount }: Extract<Step, { do: "decide close" }>) {
		const { acceptedCumulative: cumulativeAmount, voucherSignature: signature } = this.channel;
		if (by === "server") return { cumulativeAmount, signature };
		if (by === "client") return closingVoucher(this.channel, this.closing);
		return vouched({ amount: this.#amount(amount), byContract: false });
	}

	/** Gives the event to the ledger, holds it against what is expected of it, and checks the invariants. */
	#apply(event: LedgerEvent, verdict: Verdict): void {
		const before = frozen(this.channel);
		const { now } = this.model;
		frozen(event);
		count(before, event, verdict);
		if (verdict === "throws") {
			expect(() => applyEvent(before, event, now), event.type).toThrow();
		} else {
			const step = applyEvent(before, event, now);
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
		holdsInvariants(before, event, this.channel);
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
				shown: stateOf(model.shown),
				frozen: channel.behind !== null,
				owed: unsettled(channel),
				owedSince: channel.unsettledSince,
				deferredAt: channel.deferredAt,
				readAt: channel.chainReadAt,
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
			shown: shownBy(channel),
			frozen: model.frozen,
			owed: model.owed,
			owedSince: model.owedSince,
			deferredAt: model.deferredAt,
			readAt: model.readAt,
			known: CHALLENGES.filter((id) => model.known.includes(id)),
		});
		// Charged is what was captured, once, and what the chain knew better; nothing else.
		expect(channel.spent).toBe(model.captured + model.adopted);
	}

	/** D3: the amount that a refusal names is enough, unless it is above the deposit and the client has to top up first. */
	#requiredIsEnough(event: Extract<LedgerEvent, { type: "reserve" }>): void {
		const { amount, owner, minVoucherDelta } = event;
		const refusal = applyEvent(this.channel, event, this.model.now);
		const required = BigInt(refusal.ok ? 0 : String(refusal.problem.requiredCumulative));
		if (required > this.channel.deposit) return;
		const voucher = { ...vouched({ amount: required, byContract: false }), challengeId: "answer" };
		const { now } = this.model;
		const advanced = applyEvent(this.channel, { type: "voucher", voucher, minVoucherDelta }, now);
		if (!advanced.ok) expect.fail(`the required voucher was refused: ${advanced.problem.type}`);
		const held = applyEvent(advanced.channel, { type: "reserve", amount, owner, voucher, minVoucherDelta }, now);
		if (!held.ok) expect.fail(`the required voucher was not enough: ${held.problem.type}`);
	}

	#given({ amount: relative, challengeId, byContract }: Given) {
		const amount = this.#amount(relative);
		return { amount, challengeId, voucher: { ...vouched({ amount, byContract }), challengeId } };
	}

	#amount({ base, plus }: Amount): bigint {
		const { deposit, acceptedCumulative, spent, settledOnChain } = this.channel;
		const bases = {
			nothing: 0n,
			spent,
			settled: settledOnChain,
			accepted: acceptedCumulative,
			deposit,
			shown: chainNow(this.channel).deposit,
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

/**
 * I1 and I2 for what is relied on; that a signature always belongs to the amount it is kept for (I8), that what is owed is
 * what the chain would pay for it, that only a reorganization makes the chain go back, and that nothing is sold meanwhile.
 */
function holdsInvariants(before: Channel, event: LedgerEvent, after: Channel): void {
	const { spent, acceptedCumulative, deposit, settledOnChain, voucherSignature, contractSigner } = after;
	const held = reserved(after);
	const shown = chainNow(after);
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
	const isSigned = voucherSignature === vouched({ amount: acceptedCumulative, byContract: contractSigner }).signature;
	const owed = unsettled(after);
	const i8 =
		(isSigned || acceptedCumulative <= settledOnChain) &&
		(owed === 0n || (shown.settledOnChain + owed === acceptedCumulative && acceptedCumulative <= shown.deposit));
	const sold = after.acceptedCumulative > before.acceptedCumulative || held > reserved(before);
	const i10 =
		(before.behind === null || !sold || event.type === "close-decided" || event.type === "chain-observed") &&
		(after.behind === null ||
			shown.deposit < acceptedCumulative ||
			shown.settledOnChain < settledOnChain ||
			(after.finalized && !shown.finalized)) &&
		(shown.blockNumber >= chainNow(before).blockNumber ||
			(event.type === "chain-observed" && event.reorganized === true));
	expect({ i1, i2, i8, i10 }).toEqual({ i1: true, i2: true, i8: true, i10: true });
}

function lied(world: World, lie: Lie, { acceptedCumulative, settledOnChain }: Channel): World {
	const less = (amount: bigint) => (amount === 0n ? 0n : amount - 1n);
	switch (lie) {
		case "none":
			return world;
		case "lower deposit":
			return { ...world, deposit: less(acceptedCumulative) };
		case "lower settled":
			return { ...world, settled: less(settledOnChain) };
		case "not finalized":
			return { ...world, finalized: false };
		case "settled above deposit":
			return { ...world, settled: world.deposit + 1n };
	}
}

function stateOf({ deposit, settled: settledOnChain, closeRequestedAt, finalized, block: blockNumber }: World) {
	return { deposit, settledOnChain, closeRequestedAt, finalized, blockNumber };
}

function shownBy(channel: Channel) {
	const { deposit, settledOnChain, closeRequestedAt, finalized, blockNumber } = chainNow(channel);
	return { deposit, settledOnChain, closeRequestedAt, finalized, blockNumber };
}

/** The signature says what it is for, and who says that it is good. */
function vouched({ amount, byContract }: { amount: bigint; byContract: boolean }) {
	const digits = amount.toString(16).padStart(128, "0");
	const signature = `0x${byContract ? "c0" : "0c"}${digits}` as const;
	return { cumulativeAmount: amount, signature, byContract };
}

function count(before: Channel, event: LedgerEvent, verdict: Verdict): void {
	const came = verdict === "throws" ? verdict : typeof verdict === "string" ? `refused ${verdict}` : "fine";
	const where = before.behind === null ? "" : " while frozen";
	const whats = [`${event.type}${where}: ${came}`];
	if (typeof verdict === "object") for (const effect of verdict.effects ?? []) whats.push(`${event.type}: ${effect}`);
	for (const what of whats) seen.set(what, (seen.get(what) ?? 0) + 1);
}

function frozen<T>(value: T): T {
	if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
		for (const inner of Object.values(value)) frozen(inner);
		Object.freeze(value);
	}
	return value;
}

const strangersNothing: Given = {
	amount: { base: "nothing", plus: 0n },
	challengeId: "strangers",
	byContract: false,
};

/** Failures that were found, kept. */
const begins = { first: 0n, settled: 0n, price: undefined };
const found: [bigint, Beginning, Step[]][] = [
	// A close for nothing, where nothing was ever published, was taken for a stranger's.
	[1n, begins, [{ do: "begin close", given: strangersNothing, owner: "process-a" }]],
	// More settled than deposited was believed, and broke I1.
	[1n, begins, [{ do: "observe", lie: "settled above deposit", ago: 0, reorganized: undefined }]],
];

/** What so many sequences have come by, or they show less than they seem to. */
const HOPED = [
	"chain-observed: frozen",
	"chain-observed: thawed",
	"chain-observed: closed",
	"chain-observed: close-requested",
	"chain-observed: throws",
	"voucher while frozen: refused service-unavailable",
	"reserve while frozen: refused service-unavailable",
	"capture while frozen: fine",
	"release while frozen: fine",
	"close-begun while frozen: fine",
	"close-begun while frozen: refused service-unavailable",
	"close-decided while frozen: fine",
	"close-decided while frozen: refused service-unavailable",
	"retire-begun: drained",
	"retire-begun: refused session/channel-finalized",
	"retire-begun while frozen: fine",
	"retire-begun while frozen: refused service-unavailable",
	"deferred: fine",
];

test("the ledger does what the draft says under any sequence of events, and keeps I1, I2, I6, I7 and I8", () => {
	fc.assert(
		fc.property(deposits, beginnings, fc.array(steps, { maxLength: 60, size: "max" }), (deposit, given, sequence) => {
			const capped = (amount: bigint) => (amount > deposit ? deposit : amount);
			const run = new Run(deposit, { ...given, first: capped(given.first), settled: capped(given.settled) });
			for (const step of sequence) run.step(step);
		}),
		{ numRuns: RUNS, examples: found, seed: SEED },
	);
	console.log(`ledger: ${RUNS} sequences, seed ${SEED}\n`, JSON.stringify(Object.fromEntries([...seen].sort())));
	expect(HOPED.filter((what) => !seen.has(what))).toEqual([]);
});
