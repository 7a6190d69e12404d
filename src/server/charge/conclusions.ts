import type { Address, Hex } from "viem";
import { findAuthorizedTransfer, hasTransfer } from "../../escrow/events.ts";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import type { EngineContext } from "../context.ts";
import type { Turn } from "../store/store.ts";
import { type Conclusions, concludedEntry, type FailedOutcome } from "../transactions.ts";

/** What becomes of a charge's proof when its transfer was mined, or failed. */
export function chargeConclusions({ store, client, terms, log }: EngineContext): Conclusions {
	return {
		async succeeded(entry, receipt) {
			const { from, to, value } = transferOf(entry);
			if (hasTransfer(receipt, { token: terms.currency, from, to, value })) return paid(entry, "confirmed", entry.hash);
			// draft-evm-charge-00, Authorization Verification 10: a token that says yes and moves nothing has not paid.
			log.error({ txHash: entry.hash }, "the token confirmed a transfer that its events do not show");
			return unpaid(entry, "reverted");
		},
		async failed(entry, outcome) {
			// A stranger who copied our pending call and was first has paid for the payer all the same.
			const txHash = await findAuthorizedTransfer(client, terms.currency, transferOf(entry));
			if (txHash === undefined) return unpaid(entry, outcome);
			await paid(entry, concludedEntry(entry, outcome).state, txHash);
		},
	};

	async function paid(entry: OutboxEntry, state: OutboxEntry["state"], txHash: Hex): Promise<void> {
		const { proof: key, from } = transferOf(entry);
		const { durable } = await store.transact({ proofs: [key] }, (view): Turn<void> => {
			const outbox = [{ ...entry, state }];
			// Concluded before, and perhaps delivered since: the proof has moved on.
			const current = view.proof(key);
			const isOpen = current === undefined || (current.state === "held" && current.reference === entry.hash);
			if (!isOpen) return { value: undefined, writes: { outbox } };
			const proof = {
				key,
				state: "paid" as const,
				owner: store.owner,
				usedBy: from,
				reference: txHash,
				expiresAt: null,
			};
			return { value: undefined, writes: { outbox, proofs: { [key]: proof } } };
		});
		await durable;
		log.info({ txHash, amount: entry.purpose.value }, "charge paid");
	}

	/** The challenge was not answered after all, and its `Idempotency-Key` is free again. */
	async function unpaid(entry: OutboxEntry, outcome: FailedOutcome): Promise<void> {
		const { proof: key } = transferOf(entry);
		const { idempotency: scope } = entry.purpose;
		const { durable } = await store.transact(
			{ proofs: [key], ...(scope !== undefined && { idempotency: scope }) },
			(view): Turn<void> => {
				const current = view.proof(key);
				const isOurs = current?.state === "held" && current.reference === entry.hash;
				const isRunning = view.idempotency?.state === "running" && view.idempotency.paidBy === key;
				return {
					value: undefined,
					writes: {
						outbox: [concludedEntry(entry, outcome)],
						...(isOurs && { proofs: { [key]: null } }),
						...(isOurs && isRunning && { idempotency: null }),
					},
				};
			},
		);
		await durable;
		log.warn({ txHash: entry.hash, outcome }, "a charge did not go through");
	}
}

function transferOf({ purpose }: OutboxEntry) {
	const { proof = "", from = "0x", to = "0x", value = "0", nonce = "0x" } = purpose;
	return { proof, from: from as Address, to: to as Address, value: BigInt(value), nonce: nonce as Hex };
}
