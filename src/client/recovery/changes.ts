/** What has become of a kept channel on chain, told from two looks at it. Pure: no node, no store, no clock. */
import type { Hex } from "viem";
import type { EscrowChannel } from "../../escrow/reads.ts";
import type { ChannelRecord } from "../store/store.ts";

/** Something that the payer should know of one of its channels. Amounts in base units, times in Unix seconds of the chain. */
export type ChannelEvent = Readonly<{ channelId: Hex; chainId: number }> &
	Readonly<
		/**
		 * More was settled than this wallet has ever signed for. The escrow makes that impossible: either it is none, or the node
		 * lies, or somebody else signs with the payer's key, or this wallet is an old copy. `isRecorded` is false for a channel
		 * that only the escrow told of, of which an earlier wallet may have signed more.
		 */
		| { kind: "over-settled"; settled: bigint; signed: bigint; isRecorded: boolean }
		/** More was settled than deposited, or less than before: no escrow that works says so. */
		| { kind: "impossible"; reason: string }
		| { kind: "settled"; settled: bigint; delta: bigint; signed: bigint }
		/** `isOurs`: this wallet has asked for it. Else somebody else has the payer's key. */
		| { kind: "close-requested"; closeRequestedAt: number; withdrawableAt: number; isOurs: boolean }
		/** A top-up of the payer's has cancelled the request. */
		| { kind: "close-cancelled" }
		/** The grace period is over: `withdraw` gets the rest back. */
		| { kind: "withdrawable"; rest: bigint }
		/** It is paid out; `isOurs`: this wallet has sent a withdrawal, else the payee closed it. */
		| { kind: "finalized"; settled: bigint; refund: bigint; isOurs: boolean }
		| { kind: "deposit-changed"; deposit: bigint; before: bigint }
		/** It was on chain, and is not any more: a reorganization, or another node's view. */
		| { kind: "vanished" }
	>;

/** A channel as it was seen last. */
export type Seen = Readonly<{ channel: EscrowChannel; isWithdrawable: boolean }>;

/** What a look needs to know besides the channel itself. */
export type Clock = Readonly<{ timestamp: number; graceSeconds: number }>;

/**
 * What is new.
 *
 * @param before what was seen last; without it, what differs from what is kept is new
 * @param now `undefined` where the escrow has no record of the channel
 */
export function changesOf(
	record: ChannelRecord,
	before: Seen | undefined,
	now: EscrowChannel | undefined,
	clock: Clock,
): readonly ChannelEvent[] {
	const { state, recovery = [], status } = record;
	const { channelId, chainId } = state;
	const events: ChannelEvent[] = [];
	type Told = ChannelEvent extends infer Event
		? Event extends ChannelEvent
			? Omit<Event, "channelId" | "chainId">
			: never
		: never;
	const tell = (event: Told) => void events.push({ channelId, chainId, ...event } as ChannelEvent);
	const hasSent = (kind: "requestClose" | "withdraw") => recovery.some((sent) => sent.kind === kind);
	if (now === undefined) {
		if (before !== undefined) tell({ kind: "vanished" });
		return events;
	}
	const { deposit, settled, closeRequestedAt, finalized } = now;
	const old = before?.channel;
	const signed = BigInt(state.signed);
	const isNews = old === undefined || settled !== old.settled;
	if (settled > signed && isNews) tell({ kind: "over-settled", settled, signed, isRecorded: state.salt !== undefined });
	if (settled > deposit && isNews)
		tell({ kind: "impossible", reason: `settled ${settled} of a deposit of ${deposit}` });
	if (old !== undefined && settled < old.settled)
		tell({ kind: "impossible", reason: `settled fell from ${old.settled} to ${settled}` });
	if (old !== undefined && settled > old.settled)
		tell({ kind: "settled", settled, delta: settled - old.settled, signed });
	const knownDeposit = old?.deposit ?? BigInt(state.deposit);
	if (deposit !== knownDeposit) tell({ kind: "deposit-changed", deposit, before: knownDeposit });
	if (finalized) {
		const isKnown = old === undefined ? status === "closed" : old.finalized;
		if (!isKnown) tell({ kind: "finalized", settled, refund: deposit - settled, isOurs: hasSent("withdraw") });
		return events;
	}
	const knownRequest = old?.closeRequestedAt ?? 0;
	if (closeRequestedAt === 0) {
		if (knownRequest !== 0) tell({ kind: "close-cancelled" });
		return events;
	}
	const withdrawableAt = closeRequestedAt + clock.graceSeconds;
	if (closeRequestedAt !== knownRequest)
		tell({ kind: "close-requested", closeRequestedAt, withdrawableAt, isOurs: hasSent("requestClose") });
	if (isWithdrawable(now, clock) && !before?.isWithdrawable) tell({ kind: "withdrawable", rest: deposit - settled });
	return events;
}

/** A channel as it is to be remembered for the next look. */
export function seen(channel: EscrowChannel, clock: Clock): Seen {
	return { channel, isWithdrawable: isWithdrawable(channel, clock) };
}

function isWithdrawable({ closeRequestedAt, finalized }: EscrowChannel, { timestamp, graceSeconds }: Clock): boolean {
	return !finalized && closeRequestedAt !== 0 && timestamp >= closeRequestedAt + graceSeconds;
}
