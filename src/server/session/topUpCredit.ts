import type { Address, Hex, TransactionReceipt } from "viem";
import { findToppedUp } from "../../escrow/events.ts";
import type { OutboxEntry, TransactionPurpose } from "../../escrow/outbox.ts";
import { type Problem, problem } from "../../protocol/index.ts";
import { sameAddress } from "../../voucher/index.ts";
import { ChainUnavailableError } from "../chainState.ts";
import type { Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { Terms } from "../evm/terms.ts";
import { applyEvent, type Effect } from "../ledger.ts";
import { fundingKey } from "../proofs.ts";
import type { ProofRecord, Turn } from "../store/store.ts";
import { type Conclusions, concludedEntry, recordEntry } from "../transactions.ts";

/** Funds that were added to a channel, or are to be. */
export type TopUp = Readonly<{
	channelId: Hex;
	/** Whose tokens: anybody's, the payer's as a rule. */
	funder: Address;
	/** Base units. */
	amount: bigint;
	/** Names the signed deposit; absent where the funder sent the transaction himself. */
	depositKey?: string;
}>;

/** The channel as it is now; absent where this store does not know it (yet). */
export type ToppedUp = Readonly<{ channel?: Channel; txHash: Hex }>;

/**
 * Credits a top-up: the escrow's own event in this transaction proves it, wherever the transaction went, and is used once;
 * the deposit is what the escrow says, never a sum (D12). A repeat changes nothing and is no problem, unless `mustBeNew`.
 */
export async function creditTopUp(
	context: EngineContext,
	{ channelId, funder, amount, depositKey }: TopUp,
	receipt: TransactionReceipt,
	{ entry, mustBeNew = false }: Readonly<{ entry?: OutboxEntry; mustBeNew?: boolean }> = {},
): Promise<ToppedUp | Problem> {
	const { store, terms, chainState, now, log } = context;
	const txHash = receipt.transactionHash;
	const events = findToppedUp(receipt, terms.escrow, channelId).filter(
		(event) => event.amount === amount && sameAddress(event.funder, funder),
	);
	if (events.length === 0) return unprovenProblem(receipt, context, { channelId, funder, amount });
	const askedAt = now();
	const chain = await chainState.read(channelId);
	if (chain === undefined || events.some(({ deposit }) => chain.deposit < deposit))
		throw new ChainUnavailableError(`the chain does not show the top-up of channel ${channelId} yet`);

	const keys = events.map(({ logIndex }) => fundingKey(terms.chainId, txHash, logIndex));
	const { value, durable } = await store.transact(
		{ channel: channelId, proofs: [...keys, ...(depositKey === undefined ? [] : [depositKey])] },
		(view): Turn<Credited> => {
			const used = (key: string): ProofRecord => {
				return { key, state: "used", owner: store.owner, usedBy: channelId, reference: txHash, expiresAt: null };
			};
			const outbox = entry && [{ ...entry, state: "confirmed" as const }];
			const free = keys.find((key) => view.proof(key) === undefined);
			if (free === undefined && mustBeNew) {
				const detail = "This top-up was credited before.";
				return { value: { refusal: problem("verification-failed", detail, { channelId, hash: txHash }), effects: [] } };
			}
			const proofs = [free, depositKey].flatMap((key) => (key === undefined ? [] : [used(key)]));
			const settled = { proofs, ...(outbox && { outbox }) };
			const { channel } = view;
			// Somebody else's channel in this store, or one that was lost: the escrow has it all the same.
			if (channel === undefined) return { value: { effects: [] }, writes: settled };
			// A read that was asked before the newest one answered is old news; that one shows the deposit as well.
			const isNews = channel.chainReadAt <= askedAt;
			const step = isNews ? applyEvent(channel, { type: "chain-observed", chain }, askedAt) : undefined;
			if (step?.ok === false) throw new Error(`channel ${channelId}: the ledger refused what the chain says`);
			const next = step?.channel ?? channel;
			if (events.some(({ deposit }) => next.deposit < deposit))
				throw new ChainUnavailableError(`the chain does not show the top-up of channel ${channelId} yet`);
			const values = { deposit: String(next.deposit), added: String(amount), txHash, funder };
			return {
				value: { channel: next, effects: step?.effects ?? [], isNew: free !== undefined },
				writes: {
					...settled,
					channel: next,
					...(free !== undefined && { audit: [{ at: askedAt, kind: "topped-up", channelId, values }] }),
				},
			};
		},
	);
	await durable;
	const { channel, effects, isNew, refusal } = value;
	if (refusal !== undefined) return refusal;
	if (channel === undefined) return { txHash };
	chainState.readAhead(channel);
	if (isNew) log.info({ channelId, deposit: String(channel.deposit), txHash }, "channel topped up");
	context.onEffects(channel, effects);
	// A stream that waits says anew what it needs.
	context.wakes.wake(channelId);
	return { channel, txHash };
}

type Credited = Readonly<{ channel?: Channel; effects: readonly Effect[]; isNew?: boolean; refusal?: Problem }>;

export function isProblem(outcome: ToppedUp | Problem): outcome is Problem {
	return "type" in outcome;
}

/** What is wrong with a transaction that did not top up as claimed. Never 410: the channel is not gone. */
function unprovenProblem(
	receipt: TransactionReceipt,
	{ terms }: Pick<EngineContext, "terms">,
	{ channelId, funder, amount }: TopUp,
): Problem {
	const hash = receipt.transactionHash;
	const all = findToppedUp(receipt, terms.escrow, channelId);
	if (all.length > 0 && !all.some((event) => sameAddress(event.funder, funder)))
		return problem("bad-request", "source does not name who topped up the channel.", { channelId, hash });
	const detail = "This transaction did not add additionalDeposit to the channel on this escrow.";
	return problem("verification-failed", detail, { channelId, hash, additionalDeposit: amount });
}

/** One transaction for each channel and signed deposit, also across restarts: one permit's nonce may be signed for two. */
export function topUpKey({ channelId, depositKey }: Readonly<Record<string, string>>): string {
	return `topUp:${channelId}:${depositKey}`;
}

/** All that `creditTopUp` needs after a restart, as strings. */
export function topUpPurpose(
	{ channelId, funder, amount, depositKey }: TopUp & Readonly<{ depositKey: string }>,
	{ currency, escrow }: Pick<Terms, "currency" | "escrow">,
): TransactionPurpose {
	return { kind: "topUp", currency, escrow, channelId, funder, amount: String(amount), depositKey };
}

function topUpFromPurpose({ channelId, funder, amount, depositKey }: TransactionPurpose): TopUp {
	if (channelId === undefined || funder === undefined || amount === undefined || depositKey === undefined)
		throw new Error("the outbox entry of a top-up lacks a member");
	return { channelId: channelId as Hex, funder: funder as Address, amount: BigInt(amount), depositKey };
}

/** What becomes of the ledger when a top-up that we sent was mined, or failed. */
export function topUpConclusions(context: EngineContext): Conclusions {
	const { store, log } = context;
	return {
		async succeeded(entry, receipt) {
			const outcome = await creditTopUp(context, topUpFromPurpose(entry.purpose), receipt, { entry });
			if (!isProblem(outcome)) return;
			const { channelId } = entry.purpose;
			log.error({ channelId, txHash: entry.hash }, "a top-up was mined that the escrow's events do not show");
			await recordEntry(store, { ...entry, state: "confirmed" });
		},
		async failed(entry, outcome) {
			await recordEntry(store, concludedEntry(entry, outcome));
			log.warn({ channelId: entry.purpose.channelId, txHash: entry.hash, outcome }, "a top-up did not go through");
		},
	};
}
