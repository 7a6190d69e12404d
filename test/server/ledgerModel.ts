/**
 * What a channel is, written from draft-evm-session-00 ("Voucher Verification", "Server-Side Accounting", "Cooperative
 * Close", "Chain Reorganization") and DESIGN D1 to D12 and not from the ledger's code; and what each event must come to.
 */
import type { ProblemName } from "../../src/protocol/index.ts";
import type { Effect, Reservation } from "../../src/server/ledger.ts";

export type Owner = "process-a" | "process-b";

/** What the chain is at one block, or what somebody says that it is. */
export type World = Readonly<{
	deposit: bigint;
	settled: bigint;
	closeRequestedAt: number;
	finalized: boolean;
	block: number;
}>;

/** How a channel begins: its first voucher, what was settled of it before and, where it is adopted, this request's price. */
export type Beginning = Readonly<{ first: bigint; settled: bigint; price: bigint | undefined }>;

/** What the draft and the decisions say a channel is. */
export class Model {
	/** What is relied on. */
	deposit: bigint;
	settled: bigint;
	accepted: bigint;
	spent: bigint;
	closeRequested = false;
	finalized = false;
	/** What the chain showed last, which may be less. */
	shown: World;
	frozen = false;
	closing: Owner | undefined;
	/** Highest amount whose signature is public; `undefined`: none is. */
	published: bigint | undefined;
	known: string[];
	promised = new Map<Owner, bigint>();
	/** Promises made before the last time all of them were dropped are void. */
	epoch = 0;
	/** All that requests were charged. */
	captured = 0n;
	/** What the chain showed as delivered without us knowing (D10). */
	adopted = 0n;
	/** Since when the chain would pay something. */
	owedSince: number | null = null;
	deferredAt = 0;
	readAt: number;
	now: number;

	/** A new channel; or one that was served before, nobody knows for how much (D10): then `price` of it is left to spend. */
	constructor(world: World, { first, price }: Beginning, challengeId: string, now: number) {
		const { deposit, settled } = world;
		this.shown = world;
		this.deposit = deposit;
		this.settled = settled;
		this.accepted = first > settled ? first : settled;
		const delivered = price === undefined ? 0n : this.accepted - price;
		this.spent = delivered > settled ? delivered : settled;
		this.adopted = this.spent;
		if (settled > 0n) this.published = settled;
		// Who shows no more than what was settled may be anyone (D7).
		this.known = settled > 0n && first <= settled ? [] : [challengeId];
		this.now = now;
		this.readAt = now;
		this.age(false);
	}

	get inUse(): bigint {
		return this.spent + [...this.promised.values()].reduce((sum, amount) => sum + amount, 0n);
	}

	/** Why nothing is sold, if so: draft, Voucher Verification step 1; D1; I10. */
	get closed(): ProblemName | undefined {
		if (this.finalized) return "session/channel-finalized";
		if (this.closeRequested || this.closing !== undefined) return "session/channel-closing";
		return this.frozen ? "service-unavailable" : undefined;
	}

	/** What the escrow would pay for the one voucher that there is: all of it or nothing. */
	get owed(): bigint {
		const { deposit, settled, finalized } = this.shown;
		return !finalized && this.accepted <= deposit && this.accepted > settled ? this.accepted - settled : 0n;
	}

	/** A debt is as old as its first unit since the last settlement. */
	age(isSettled: boolean): void {
		if (this.owed === 0n) this.owedSince = null;
		else if (isSettled || this.owedSince === null) this.owedSince = this.now;
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
export type Verdict = Readonly<{ ok: true; effects?: readonly Effect[] }> | ProblemName | "throws";

export const fine: Verdict = { ok: true };

export function expectedVoucher(model: Model, amount: bigint, challengeId: string, minVoucherDelta: bigint): Verdict {
	if (model.closed) return model.closed;
	if (amount <= model.accepted) return fine;
	if (amount > model.deposit) return "session/amount-exceeds-deposit";
	const exempt = model.accepted === 0n || amount === model.deposit;
	if (!exempt && amount - model.accepted < minVoucherDelta) return "session/delta-too-small";
	model.accepted = amount;
	model.know(challengeId);
	model.age(false);
	return fine;
}

export function expectedReserve(
	model: Model,
	price: bigint,
	owner: Owner,
	amount: bigint,
	challengeId: string,
): Verdict {
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

/** Served and charged, frozen or not: it was promised (I7). */
export function expectedCapture(model: Model, reservation: Reservation, used: bigint): Verdict {
	if (used < 0n || used > reservation.amount) return "throws";
	if (!takeBack(model, reservation)) return "session/channel-closing";
	model.spent += used;
	model.captured += used;
	return drainedIf(model);
}

export function expectedRelease(model: Model, reservation: Reservation): Verdict {
	return takeBack(model, reservation) ? drainedIf(model) : fine;
}

export function expectedRecovery(model: Model, gone: readonly Owner[]): Verdict {
	for (const owner of gone) model.promised.delete(owner);
	if (model.closing !== undefined && gone.includes(model.closing)) model.closing = undefined;
	return fine;
}

/** Whether news count, and what it takes for them to be good ones. */
export function expectedObservation(model: Model, seen: World, reorganized: boolean): Verdict {
	const { deposit, settled, closeRequestedAt, finalized } = seen;
	const { shown } = model;
	if (settled > deposit) return "throws";
	if (seen.block < shown.block && !reorganized) return { ok: true, effects: [] };
	const before = { frozen: model.frozen, finalized: model.finalized, running: model.inUse > model.spent };
	const relies = deposit >= model.accepted && settled >= model.settled && (finalized || !model.finalized);
	const isSettled = relies && settled > model.settled;
	model.shown = seen;
	model.readAt = model.now;
	model.frozen = !relies;
	if (settled > 0n) model.publish(settled);
	if (relies) {
		model.deposit = deposit;
		model.settled = settled;
		model.closeRequested = closeRequestedAt !== 0;
		if (settled > model.accepted) {
			model.adopted += settled - model.spent;
			model.accepted = settled;
			model.spent = settled;
			model.dropPromises();
		}
	}
	if (finalized) {
		model.dropPromises();
		model.closing = undefined;
		model.finalized = true;
	}
	model.age(isSettled);
	const effects: Effect[] = [];
	if (before.running && model.closing !== undefined && model.inUse === model.spent) effects.push("drained");
	if (!before.frozen && model.frozen) effects.push("frozen");
	if (before.frozen && !model.frozen) effects.push("thawed");
	if (closeRequestedAt !== 0 && closeRequestedAt !== shown.closeRequestedAt) effects.push("close-requested");
	if (!before.finalized && model.finalized) effects.push("closed");
	return { ok: true, effects };
}

/** Above what there was it is the client's fault, above what there is now the chain's. */
function unpayable(model: Model, amount: bigint): ProblemName | undefined {
	if (amount > model.deposit) return "session/amount-exceeds-deposit";
	return amount > model.shown.deposit ? "service-unavailable" : undefined;
}

export function expectedBegin(model: Model, amount: bigint, challengeId: string, owner: Owner): Verdict {
	if (model.shown.finalized) return "session/channel-finalized";
	const refusal = unpayable(model, amount);
	if (refusal) return refusal;
	if (model.mayBeAStrangers(amount, challengeId)) return "session/insufficient-balance";
	model.closing = owner;
	model.know(challengeId);
	return drainedIf(model);
}

/** By the server's own decision: with the highest voucher (I8). */
export function expectedRetirement(model: Model, owner: Owner): Verdict {
	if (model.shown.finalized) return "session/channel-finalized";
	const refusal = unpayable(model, model.accepted);
	if (refusal) return refusal;
	model.closing = owner;
	return drainedIf(model);
}

export function expectedDecision(model: Model, amount: bigint): Verdict {
	if (model.shown.finalized) return "session/channel-finalized";
	if (model.closing === undefined) return "throws";
	const refusal = unpayable(model, amount);
	if (refusal) return refusal;
	if (amount < model.spent) return "throws";
	if (amount > model.accepted) model.accepted = amount;
	model.dropPromises();
	model.age(false);
	return fine;
}
