/**
 * What the chain says, and what becomes of a channel by it: opening, catching up, and going back in a reorganization. Part
 * of the ledger and as pure; `applyEvent` in ledger.ts is the way in.
 *
 * Sources: draft-evm-session-00 "Open Verification" and "Chain Reorganization"; D7, D10, D12 of docs/design.md. Invariants
 * I1, I2 and I10.
 */
import type { Hex } from "viem";
import { problem } from "../protocol/index.ts";
import { type ChainState, type Channel, chainNow, reserved } from "./channel.ts";
import type { Effect, LedgerEvent, Transition } from "./ledgerEvent.ts";
import { abandoned, closedProblem, depositProblem, done, drained, max, published, refuse } from "./ledgerRules.ts";

/** What a node says of a channel can't be: no escrow settles more than its deposit. Nothing is believed of it (I10). */
export class ImpossibleChainError extends Error {
	override readonly name = "ImpossibleChainError";
	readonly code = "IMPOSSIBLE_CHAIN";
	readonly channelId: Hex;
	constructor({ channelId }: Channel, { deposit, settledOnChain }: ChainState) {
		super(
			`channel ${channelId}: the node shows settled ${settledOnChain} of a deposit of ${deposit}; use another node`,
		);
		this.channelId = channelId;
	}
}

export function opened(
	channel: Channel | undefined,
	{ identity, chain, voucher, minimum, unaccounted }: Extract<LedgerEvent, { type: "opened" }>,
	now: number,
): Transition {
	if (channel !== undefined) throw new Error(`channel ${channel.channelId} is open already`);
	const unusable = closedProblem({ ...identity, ...chain, closingBy: null });
	if (unusable) return refuse(unusable);
	if (chain.deposit - chain.settledOnChain < minimum) {
		return refuse(
			problem("session/insufficient-balance", "The deposit is below the least that a channel is opened with here.", {
				channelId: identity.channelId,
				deposit: chain.deposit,
				required: minimum,
			}),
		);
	}
	const excess = depositProblem(identity.channelId, voucher.cumulativeAmount, chain.deposit);
	if (excess) return refuse(excess);
	const acceptedCumulative = max(chain.settledOnChain, voucher.cumulativeAmount);
	// D10: of what nobody remembers, as much as possible was delivered.
	const delivered = unaccounted === undefined ? 0n : acceptedCumulative - unaccounted.price;
	return done({
		...identity,
		...chain,
		chainReadAt: now,
		behind: null,
		acceptedCumulative,
		voucherSignature: voucher.signature,
		contractSigner: voucher.byContract === true,
		spent: max(chain.settledOnChain, delivered),
		reservations: {},
		generation: 0,
		publishedCumulative: settledIsPublic(null, chain),
		// A voucher that was settled before proves nothing: anyone may have read it there (D7).
		challengeIds:
			voucher.cumulativeAmount > chain.settledOnChain || chain.settledOnChain === 0n ? [voucher.challengeId] : [],
		closeTxHash: null,
		closingBy: null,
		openedAt: now,
		lastActivityAt: now,
		unsettledSince: null,
		deferredAt: 0,
	});
}

export function observeChain(
	channel: Channel,
	{ chain, closeTxHash, reorganized = false }: Extract<LedgerEvent, { type: "chain-observed" }>,
	now: number,
): Transition {
	if (chain.settledOnChain > chain.deposit) throw new ImpossibleChainError(channel, chain);
	const before = chainNow(channel);
	if (chain.blockNumber < before.blockNumber && !reorganized) {
		// Old news, but for which transaction it was that closed the channel.
		const isNews = channel.finalized && closeTxHash !== undefined && closeTxHash !== channel.closeTxHash;
		return done(isNews ? { ...channel, closeTxHash } : channel);
	}
	const next: Channel = {
		...(wentBack(channel, chain) ? frozen(channel, chain) : caughtUp(channel, chain)),
		chainReadAt: now,
		// Also where a reorganization took the transaction back: whoever has read it has read it (D7).
		publishedCumulative: settledIsPublic(channel.publishedCumulative, chain),
		...(chain.finalized && { closingBy: null }),
		...(closeTxHash !== undefined && { closeTxHash }),
	};
	const effects: Effect[] = reserved(channel) > 0n ? [...drained(next)] : [];
	if (channel.behind === null && next.behind !== null) effects.push("frozen");
	if (channel.behind !== null && next.behind === null) effects.push("thawed");
	// Frozen or not: the grace period runs (I9).
	if (chain.closeRequestedAt !== 0 && chain.closeRequestedAt !== before.closeRequestedAt)
		effects.push("close-requested");
	if (next.finalized && !channel.finalized) effects.push("closed");
	return done(next, effects);
}

/** What was relied on stays (I2), and is not relied on any further. */
function frozen(channel: Channel, chain: ChainState): Channel {
	return {
		...channel,
		behind: chain,
		...(chain.finalized && { finalized: true, ...abandoned(channel) }),
	};
}

function caughtUp(channel: Channel, chain: ChainState): Channel {
	const { settledOnChain } = chain;
	// D10: a store behind the chain catches up. What was captured there had been accepted and delivered.
	const isStoreBehind = settledOnChain > channel.acceptedCumulative;
	return {
		...channel,
		...chain,
		behind: null,
		...(isStoreBehind && { acceptedCumulative: settledOnChain, spent: settledOnChain }),
		...((isStoreBehind || chain.finalized) && abandoned(channel)),
	};
}

/** Whether the chain shows less than was relied on: a reorganization, or a node that lies (I2). */
function wentBack(channel: Channel, chain: ChainState): boolean {
	return (
		chain.deposit < channel.acceptedCumulative ||
		chain.settledOnChain < channel.settledOnChain ||
		(channel.finalized && !chain.finalized)
	);
}

/** What was settled stood in a transaction. Nothing settled says nothing. */
function settledIsPublic(before: bigint | null, { settledOnChain }: ChainState): bigint | null {
	return settledOnChain === 0n ? before : published(before, settledOnChain);
}
