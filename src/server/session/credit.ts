import type { TransactionReceipt } from "viem";
import { findChannelOpened } from "../../escrow/events.ts";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import { type Problem, problem } from "../../protocol/index.ts";
import { sameAddress } from "../../voucher/index.ts";
import { ChainUnavailableError } from "../chainState.ts";
import type { Channel, ChannelIdentity } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import { applyEvent } from "../ledger.ts";
import { isMinedBefore } from "../minedBefore.ts";
import { consumedChallenge, foreignChallengeProblem, fundingKey, sessionChallengeKey } from "../proofs.ts";
import type { ProofRecord, Turn } from "../store/store.ts";
import { type Conclusions, concludedEntry, recordEntry } from "../transactions.ts";
import { type Opening, openingFromPurpose } from "./opening.ts";

/**
 * Credits a deposit: the escrow's own event in this transaction proves it, the escrow's state says how much, and the
 * event is used once (D12). Resolves when the channel is on disk, or to what is wrong. A channel that is open already is left as it is.
 */
export async function credit(
	context: EngineContext,
	opening: Opening,
	receipt: TransactionReceipt,
	entry?: OutboxEntry,
): Promise<Problem | undefined> {
	const { store, client, terms, chainState, now, log } = context;
	const { identity, voucher, minimum, depositKey } = opening;
	const { channelId } = identity;
	const event = findChannelOpened(receipt, terms.escrow, channelId);
	if (event === undefined || !isSameChannel(event, identity)) {
		return problem("session/channel-not-found", "This transaction did not open the channel on this escrow.", {
			channelId,
			hash: receipt.transactionHash,
		});
	}
	// Open before its challenge was issued, it may have been served under an earlier one, which this store has lost. A
	// transaction of ours, sent for this very challenge, opens no old channel.
	const isOld = entry === undefined && (await isMinedBefore(client, receipt, opening.challengeIssuedAt));
	const askedAt = now();
	const chain = await chainState.read(channelId);
	if (chain === undefined) throw new ChainUnavailableError(`the chain does not show channel ${channelId} yet`);

	const funding = fundingKey(terms.chainId, receipt.transactionHash, event.logIndex);
	const challenge = sessionChallengeKey(voucher.challengeId, opening.challengeExpiresAt);
	const { value, durable } = await store.transact(
		{ channel: channelId, proofs: [funding, challenge, ...(depositKey === undefined ? [] : [depositKey])] },
		(view): Turn<Credited> => {
			const outbox = entry && [{ ...entry, state: "confirmed" as const }];
			const used = (key: string): ProofRecord => {
				const reference = receipt.transactionHash;
				return { key, state: "used", owner: store.owner, usedBy: channelId, reference, expiresAt: null };
			};
			const deposited = depositKey === undefined ? [] : [used(depositKey)];
			if (view.channel !== undefined) {
				// Credited before, by the hash of our own transaction perhaps: the deposit was this one all the same.
				return { value: {}, ...(outbox && { writes: { outbox, proofs: deposited } }) };
			}
			const bound = view.proof(challenge);
			if (bound !== undefined && bound.usedBy !== channelId) {
				return { value: { refusal: foreignChallengeProblem() }, ...(outbox && { writes: { outbox } }) };
			}
			if (view.proof(funding) !== undefined) {
				const hash = receipt.transactionHash;
				const detail = "This deposit was credited before.";
				return { value: { refusal: problem("session/channel-not-found", detail, { channelId, hash }) } };
			}
			const unaccounted = isOld && { unaccounted: { price: opening.price } };
			const opened = { type: "opened" as const, identity, chain, voucher, minimum, ...unaccounted };
			const step = applyEvent(undefined, opened, askedAt);
			if (!step.ok) return { value: { refusal: step.problem }, ...(outbox && { writes: { outbox } }) };
			return {
				value: { opened: step.channel },
				writes: {
					channel: step.channel,
					proofs: [
						used(funding),
						...deposited,
						consumedChallenge(voucher.challengeId, opening.challengeExpiresAt, channelId, store),
					],
					...(outbox && { outbox }),
					audit: [
						{
							at: askedAt,
							kind: "opened",
							channelId,
							values: { deposit: String(chain.deposit), txHash: receipt.transactionHash, payer: identity.payer },
						},
					],
				},
			};
		},
	);
	await durable;
	const { refusal, opened } = value;
	if (opened === undefined) return refusal;
	log.info({ channelId, deposit: String(chain.deposit), txHash: receipt.transactionHash }, "channel opened");
	await chainState.caughtUp(opened);
	tellOpened(context, opened, receipt);
	return undefined;
}

/** Neither: it was open already. */
type Credited = Readonly<{ refusal?: Problem; opened?: Channel }>;

function tellOpened({ listeners }: EngineContext, channel: Channel, { transactionHash }: TransactionReceipt): void {
	const { channelId, payer, deposit, acceptedCumulative, spent } = channel;
	listeners.tell("onChannelOpened", { channelId, payer, deposit, txHash: transactionHash });
	const delta = acceptedCumulative - spent;
	if (delta > 0n) listeners.tell("onVoucher", { channelId, payer, acceptedCumulative, delta });
}

/** One opening of a channel at a time, also across restarts. */
export function openKey({ channelId }: Readonly<Record<string, string>>): string {
	return `open:${channelId}`;
}

/** What becomes of the ledger when an opening that we sent was mined, or failed. */
export function openConclusions(context: EngineContext): Conclusions {
	const { store, log } = context;
	return {
		async succeeded(entry, receipt) {
			const opening = openingFromPurpose(context, entry.purpose);
			const refusal = await credit(context, opening, receipt, entry);
			if (refusal === undefined) return;
			log.error(
				{ channelId: entry.purpose.channelId, txHash: entry.hash, reason: refusal.detail },
				"an opened channel can't be used",
			);
			await recordEntry(store, { ...entry, state: "confirmed" });
		},
		async failed(entry, outcome) {
			const { voucher, identity, challengeExpiresAt } = openingFromPurpose(context, entry.purpose);
			const { channelId } = identity;
			const key = sessionChallengeKey(voucher.challengeId, challengeExpiresAt);
			const { durable } = await store.transact({ channel: channelId, proofs: [key] }, (view) => ({
				value: undefined,
				writes: {
					outbox: [concludedEntry(entry, outcome)],
					// The challenge was not answered after all; unless somebody else's transaction has opened the channel under it.
					...(view.channel === undefined && view.proof(key)?.usedBy === channelId && { deletedProofs: [key] }),
				},
			}));
			await durable;
			log.warn({ channelId, txHash: entry.hash, outcome }, "an open did not go through");
		},
	};
}

function isSameChannel(
	event: Pick<ChannelIdentity, "payer" | "payee" | "token" | "authorizedSigner">,
	identity: ChannelIdentity,
): boolean {
	return (
		sameAddress(event.payer, identity.payer) &&
		sameAddress(event.payee, identity.payee) &&
		sameAddress(event.token, identity.token) &&
		sameAddress(event.authorizedSigner, identity.authorizedSigner)
	);
}
