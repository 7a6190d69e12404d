import type { Address, Hex, TransactionReceipt } from "viem";
import { findChannelOpened } from "../../escrow/events.ts";
import type { OutboxEntry, TransactionPurpose } from "../../escrow/outbox.ts";
import { type Problem, problem } from "../../protocol/index.ts";
import { sameAddress } from "../../voucher/index.ts";
import { ChainUnavailableError } from "../chainState.ts";
import type { ChannelIdentity } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { Terms } from "../evm/terms.ts";
import { applyEvent, type VerifiedVoucher } from "../ledger.ts";
import { challengeKey, consumeChallenge, foreignChallengeProblem, fundingKey } from "../proofs.ts";
import type { Turn } from "../store/store.ts";
import { type Conclusions, concludedEntry, recordEntry } from "../transactions.ts";

/** A channel that is about to open: who, with which first voucher, under which challenge. */
export type Opening = Readonly<{
	identity: ChannelIdentity;
	salt: Hex;
	voucher: VerifiedVoucher;
	/** Unix milliseconds until which the challenge's use is remembered. */
	challengeExpiresAt: number;
	/** The least the deposit must be, in base units. */
	minimum: bigint;
}>;

/**
 * Credits a deposit: the escrow's own event in this transaction proves it, the escrow's state says how much, and the
 * event is used once (D12). Resolves when the channel is on disk, or to what is wrong. A channel that is open already is left as it is.
 */
export async function credit(
	{ store, terms, chainState, now, log }: EngineContext,
	opening: Opening,
	receipt: TransactionReceipt,
	entry?: OutboxEntry,
): Promise<Problem | undefined> {
	const { identity, voucher, minimum } = opening;
	const { channelId } = identity;
	const event = findChannelOpened(receipt, terms.escrow, channelId);
	if (event === undefined || !isSameChannel(event, identity)) {
		return problem("session/channel-not-found", "This transaction did not open the channel on this escrow.", {
			channelId,
			hash: receipt.transactionHash,
		});
	}
	const askedAt = now();
	const chain = await chainState.read(channelId);
	if (chain === undefined) throw new ChainUnavailableError(`the chain does not show channel ${channelId} yet`);

	const funding = fundingKey(terms.chainId, receipt.transactionHash, event.logIndex);
	const challenge = challengeKey({ id: voucher.challengeId });
	const { value, durable } = await store.transact(
		{ channel: channelId, proofs: [funding, challenge] },
		(view): Turn<Problem | undefined> => {
			const outbox = entry && [{ ...entry, state: "confirmed" as const }];
			if (view.channel !== undefined) return { value: undefined, ...(outbox && { writes: { outbox } }) };
			const bound = view.proof(challenge);
			if (bound !== undefined && bound.usedBy !== channelId) {
				return { value: foreignChallengeProblem(), ...(outbox && { writes: { outbox } }) };
			}
			if (view.proof(funding) !== undefined) {
				return {
					value: problem("session/channel-not-found", "This deposit was credited before.", {
						channelId,
						hash: receipt.transactionHash,
					}),
				};
			}
			const step = applyEvent(undefined, { type: "opened", identity, chain, voucher, minimum }, askedAt);
			if (!step.ok) return { value: step.problem, ...(outbox && { writes: { outbox } }) };
			return {
				value: undefined,
				writes: {
					channel: step.channel,
					proofs: {
						[funding]: { key: funding, state: "used", owner: store.owner, usedBy: channelId, expiresAt: null },
						...consumeChallenge(voucher.challengeId, opening.challengeExpiresAt, channelId, store),
					},
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
	if (value === undefined)
		log.info({ channelId, deposit: String(chain.deposit), txHash: receipt.transactionHash }, "channel opened");
	return value;
}

/** One opening of a channel at a time, also across restarts. */
export function openKey({ channelId }: Readonly<Record<string, string>>): string {
	return `open:${channelId}`;
}

/** What becomes of the ledger when an `openWithAuthorization` was mined, or failed. */
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
			const { voucher, identity } = openingFromPurpose(context, entry.purpose);
			const key = challengeKey({ id: voucher.challengeId });
			const { durable } = await store.transact({ proofs: [key] }, (view) => ({
				value: undefined,
				writes: {
					outbox: [concludedEntry(entry, outcome)],
					// The challenge was not answered after all.
					...(view.proof(key)?.usedBy === identity.channelId && { proofs: { [key]: null } }),
				},
			}));
			await durable;
			log.warn({ channelId: identity.channelId, txHash: entry.hash, outcome }, "an open did not go through");
		},
	};
}

/** All that `credit` needs after a restart, as strings. */
export function openingPurpose(
	{ identity, salt, voucher, challengeExpiresAt, minimum }: Opening,
	{ currency }: Pick<Terms, "currency">,
): TransactionPurpose {
	const { channelId, payer, authorizedSigner } = identity;
	return {
		kind: "open",
		currency,
		channelId,
		payer,
		authorizedSigner,
		salt,
		cumulativeAmount: String(voucher.cumulativeAmount),
		voucherSignature: voucher.signature,
		challengeId: voucher.challengeId,
		challengeExpiresAt: String(challengeExpiresAt),
		minimum: String(minimum),
	};
}

export function openingFromPurpose({ terms }: Pick<EngineContext, "terms">, purpose: TransactionPurpose): Opening {
	const field = (name: string): string => {
		const value = purpose[name];
		if (value === undefined) throw new Error(`the outbox entry of an open lacks ${name}`);
		return value;
	};
	const { chainId, escrow, recipient: payee, currency: token } = terms;
	return {
		identity: {
			channelId: field("channelId") as Hex,
			chainId,
			escrow,
			payer: field("payer") as Address,
			payee,
			token,
			authorizedSigner: field("authorizedSigner") as Address,
		},
		salt: field("salt") as Hex,
		voucher: {
			cumulativeAmount: BigInt(field("cumulativeAmount")),
			signature: field("voucherSignature") as Hex,
			challengeId: field("challengeId"),
		},
		challengeExpiresAt: Number(field("challengeExpiresAt")),
		minimum: BigInt(field("minimum")),
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
