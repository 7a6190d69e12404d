import type { Address } from "viem";
import { hasTransfer } from "../../escrow/events.ts";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import type { EngineContext } from "../context.ts";
import { challengeKey } from "../proofs.ts";
import type { ProofRecord } from "../store/store.ts";
import type { Conclusions } from "../transactions.ts";

/** What becomes of a charge's proof when its transfer was mined, or failed. */
export function chargeConclusions({ store, terms, log }: EngineContext): Conclusions {
	return {
		async succeeded(entry, receipt) {
			const { from, to, value } = fieldsOf(entry);
			const moved = hasTransfer(receipt, { token: terms.currency, from, to, value: BigInt(value) });
			if (!moved) {
				// draft-evm-charge-00, Authorization Verification 10: a token that says yes and moves nothing has not paid.
				log.error({ txHash: entry.hash }, "the token confirmed a transfer that its events do not show");
				return fail(entry, "reverted");
			}
			await write(entry, "confirmed", proofOf(entry, "paid", null));
			log.info({ txHash: entry.hash, amount: value }, "charge paid");
		},
		failed: fail,
	};

	async function fail(entry: OutboxEntry, state: "reverted" | "dropped"): Promise<void> {
		await write(entry, state, null);
		log.warn({ txHash: entry.hash, state }, "a charge did not go through");
	}

	async function write(entry: OutboxEntry, state: OutboxEntry["state"], proof: ProofRecord | null): Promise<void> {
		const key = challengeKey({ id: fieldsOf(entry).challengeId });
		const { durable } = await store.transact({ proofs: [key] }, (view) => {
			const outbox = [{ ...entry, state }];
			// Concluded before, and delivered since: the proof has moved on.
			const current = view.proof(key);
			const isOurs = current?.state === "held" && current.reference === entry.hash;
			return { value: undefined, writes: isOurs ? { outbox, proofs: { [key]: proof } } : { outbox } };
		});
		await durable;
	}

	function proofOf(entry: OutboxEntry, state: ProofRecord["state"], expiresAt: number | null): ProofRecord {
		const { challengeId, from } = fieldsOf(entry);
		const key = challengeKey({ id: challengeId });
		return { key, state, owner: store.owner, usedBy: from, reference: entry.hash, expiresAt };
	}

	function fieldsOf({ purpose }: OutboxEntry) {
		const { challengeId = "", from = "0x", to = "0x", value = "0" } = purpose;
		return { challengeId, from: from as Address, to: to as Address, value };
	}
}
