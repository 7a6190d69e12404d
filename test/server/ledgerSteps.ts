/** Words for the ledger's tests: channels, events, and what comes of them. */
import { expect } from "vitest";
import { type Hex, type Problem, type ProblemName, problemType } from "../../src/protocol/index.ts";
import type { ChainState, Channel } from "../../src/server/channel.ts";
import {
	applyEvent,
	type LedgerEvent,
	type Reservation,
	type Transition,
	type VerifiedVoucher,
} from "../../src/server/ledger.ts";
import { channel as record } from "./store/records.ts";

export const NOW = 1_800_000_000_000;
export const OPENED_AT = NOW - 60_000;
export const OWNER = "process-a";
export const OTHER = "process-b";

/** The block at which a channel is opened here, and read unless a test says another one. */
export const BLOCK = 100;

export const onChain: ChainState = {
	deposit: 1_000n,
	settledOnChain: 0n,
	closeRequestedAt: 0,
	finalized: false,
	blockNumber: BLOCK,
};

export const { channelId, chainId, escrow, payer, payee, token, authorizedSigner } = record(1);
export const identity = { channelId, chainId, escrow, payer, payee, token, authorizedSigner };

/** A channel of 1,000 that was opened with a voucher for 100 under `first`. */
export function open(change: Partial<Channel> = {}): Channel {
	const event: LedgerEvent = { type: "opened", identity, chain: onChain, voucher: voucher(100n, "first"), minimum: 1n };
	return { ...accepted(apply(undefined, event, OPENED_AT)).channel, ...change };
}

export function signatureOf(amount: bigint): Hex {
	return `0x${amount.toString(16).padStart(130, "0")}`;
}

export function voucher(cumulativeAmount: bigint, challengeId = "fresh"): VerifiedVoucher {
	return { cumulativeAmount, challengeId, signature: signatureOf(cumulativeAmount) };
}

export function take(cumulativeAmount: bigint, { challengeId = "fresh", minVoucherDelta = 0n } = {}): LedgerEvent {
	return { type: "voucher", voucher: voucher(cumulativeAmount, challengeId), minVoucherDelta };
}

export function hold(amount: bigint, { owner = OWNER, paidBy = voucher(100n, "first"), minVoucherDelta = 0n } = {}) {
	return { type: "reserve", amount, owner, voucher: paidBy, minVoucherDelta } as const;
}

export function observe(change: Partial<ChainState>, { reorganized = false } = {}): LedgerEvent {
	return { type: "chain-observed", chain: { ...onChain, ...change }, reorganized };
}

export function begin(cumulativeAmount: bigint, challengeId = "first", owner = OWNER): LedgerEvent {
	return { type: "close-begun", owner, voucher: { cumulativeAmount, challengeId } };
}

export function decide(cumulativeAmount: bigint): LedgerEvent {
	return { type: "close-decided", cumulativeAmount, signature: signatureOf(cumulativeAmount) };
}

export function publish(cumulativeAmount: bigint): LedgerEvent {
	return { type: "publishing", cumulativeAmount };
}

export function promise(channel: Channel, amount: bigint, owner = OWNER): Reservation {
	return { owner, generation: channel.generation, amount };
}

/** Applies events one after the other; none of them may be refused, and none may touch its input. */
export function applied(channel: Channel | undefined, ...events: LedgerEvent[]): Channel {
	let current = channel;
	for (const event of events) current = accepted(apply(current, event)).channel;
	if (current === undefined) throw new TypeError("no event was given");
	return current;
}

export function effectsOf(channel: Channel, event: LedgerEvent) {
	return accepted(apply(channel, event)).effects;
}

export function apply(channel: Channel | undefined, event: LedgerEvent, now = NOW): Transition {
	return applyEvent(frozen(channel), frozen(event), now);
}

export function accepted(step: Transition) {
	if (!step.ok) throw new TypeError(`refused: ${step.problem.type} ${step.problem.detail}`);
	return step;
}

export function refusalOf(channel: Channel | undefined, event: LedgerEvent): Problem {
	const step = apply(channel, event);
	if (step.ok) throw new TypeError(`${event.type} was not refused`);
	return step.problem;
}

export function expectRefused(
	channel: Channel | undefined,
	event: LedgerEvent,
	name: ProblemName,
	status: number,
): Problem {
	const refusal = refusalOf(channel, event);
	expect([refusal.type, refusal.status]).toEqual([problemType(name), status]);
	return refusal;
}

export function frozen<T>(value: T): T {
	if (typeof value === "object" && value !== null) {
		for (const inner of Object.values(value)) frozen(inner);
		Object.freeze(value);
	}
	return value;
}

export const closing = applied(open(), begin(100n));
export const forced = applied(open(), observe({ closeRequestedAt: 1_800_000_000 }));
export const finalized = applied(open(), observe({ settledOnChain: 100n, finalized: true }));
