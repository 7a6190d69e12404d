import type { Hex } from "viem";
import { findAuthorizedTransfer } from "../../escrow/events.ts";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import type { EngineContext } from "../context.ts";
import type { ProofRecord, Turn } from "../store/store.ts";
import { type Conclusions, concludedEntry, type FailedOutcome } from "../transactions.ts";
import { hasAllTransfers } from "./means.ts";
import { PROOF_MARGIN_MS } from "./order.ts";
import { readPurpose } from "./purpose.ts";

/** What becomes of a charge's proofs when its transaction was mined, or failed. */
export function chargeConclusions({ store, client, terms, limits, log, now }: EngineContext): Conclusions {
	return {
		async succeeded(entry, receipt) {
			const { payer, transfers } = readPurpose(entry);
			const { transactionHash } = receipt;
			if (hasAllTransfers(receipt, terms.currency, payer, transfers)) return paid(entry, "confirmed", transactionHash);
			// draft-evm-charge-00, Permit2 Verification 14 and its like: a token that says yes and moves nothing has not paid.
			log.error({ txHash: transactionHash }, "the token confirmed a transfer that its events do not show");
			return unpaid(entry, "reverted");
		},
		async failed(entry, outcome) {
			const txHash = await executedByStranger(entry);
			if (txHash === undefined) return unpaid(entry, outcome);
			await paid(entry, concludedEntry(entry, outcome).state, txHash);
		},
	};

	/** A stranger who copied our pending call and was first has paid for the payer all the same. Only ERC-3009 allows it. */
	async function executedByStranger(entry: OutboxEntry): Promise<Hex | undefined> {
		const { payer: from, nonce, transfers } = readPurpose(entry);
		const [transfer] = transfers;
		if (nonce === undefined || transfer === undefined) return undefined;
		return findAuthorizedTransfer(client, terms.currency, { from, nonce, ...transfer });
	}

	async function paid(entry: OutboxEntry, state: OutboxEntry["state"], txHash: Hex): Promise<void> {
		const { type, proof: key, token, payer } = readPurpose(entry);
		// Permit2 remembers its nonces itself, for ever; a transaction that has paid is ours to remember.
		const tokenExpiresAt = type === "permit2" ? now() + limits.challengeTtlSeconds * 1_000 + PROOF_MARGIN_MS : null;
		const { durable } = await store.transact({ proofs: proofKeys(entry) }, (view): Turn<void> => {
			const outbox = [{ ...entry, state }];
			// Concluded before, and perhaps delivered since: the proof has moved on.
			const current = view.proof(key);
			const isOpen = current === undefined || (current.state === "held" && current.reference === entry.hash);
			if (!isOpen) return { value: undefined, writes: { outbox } };
			const shared = { owner: store.owner, reference: txHash };
			const proofs: ProofRecord[] = [{ ...shared, key, state: "paid", usedBy: payer, expiresAt: null }];
			if (token !== undefined)
				proofs.push({ ...shared, key: token, state: "used", usedBy: key, expiresAt: tokenExpiresAt });
			return { value: undefined, writes: { outbox, proofs } };
		});
		await durable;
		log.info({ txHash, amount: entry.purpose.value }, "charge paid");
	}

	/** The challenge was not answered after all; what was to pay it, and its `Idempotency-Key`, are free again. */
	async function unpaid(entry: OutboxEntry, outcome: FailedOutcome): Promise<void> {
		const { proof: key, token, idempotency: scope } = readPurpose(entry);
		const { durable } = await store.transact(
			{ proofs: proofKeys(entry), ...(scope !== undefined && { idempotency: scope }) },
			(view): Turn<void> => {
				const current = view.proof(key);
				const isOurs = current?.state === "held" && current.reference === entry.hash;
				const isRunning = view.idempotency?.state === "running" && view.idempotency.paidBy === key;
				const freed = token !== undefined && view.proof(token)?.usedBy === key ? [key, token] : [key];
				return {
					value: undefined,
					writes: {
						outbox: [concludedEntry(entry, outcome)],
						...(isOurs && { deletedProofs: freed }),
						...(isOurs && isRunning && { idempotency: null }),
					},
				};
			},
		);
		await durable;
		log.warn({ txHash: entry.hash, outcome }, "a charge did not go through");
	}
}

function proofKeys(entry: OutboxEntry): readonly string[] {
	const { proof, token } = readPurpose(entry);
	return token === undefined ? [proof] : [proof, token];
}
