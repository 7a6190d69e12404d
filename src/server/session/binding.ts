import type { Hex } from "viem";
import type { OutboxEntry } from "../../escrow/outbox.ts";
import type { Challenge } from "../../protocol/index.ts";
import { type Refused, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import {
	ChallengeTakenError,
	consumedChallenge,
	expiryOf,
	foreignChallengeProblem,
	sessionChallengeKey,
} from "../proofs.ts";
import type { Turn } from "../store/store.ts";

/** A challenge belongs to the first channel that answers it (D9): another one's is refused before anything is sent. */
export async function usedByAnother(
	{ store }: EngineContext,
	challenge: Pick<Challenge, "id" | "expires">,
	channelId: Hex,
): Promise<Refused | undefined> {
	const key = sessionChallengeKey(challenge.id, expiryOf(challenge));
	const { value } = await store.transact({ proofs: [key] }, (view) => ({ value: view.proof(key)?.usedBy }));
	return value === undefined || value === channelId ? undefined : refused(foreignChallengeProblem());
}

export type Binding = Readonly<{
	challengeId: string;
	/** Unix milliseconds. */
	expiresAt: number;
	channelId: Hex;
	entry: OutboxEntry;
}>;

/**
 * Writes, durably and before the broadcast, a transaction and that its channel has taken the challenge.
 *
 * @throws ChallengeTakenError
 */
export async function bindChallenge(
	{ store }: EngineContext,
	{ challengeId, expiresAt, channelId, entry }: Binding,
): Promise<void> {
	const key = sessionChallengeKey(challengeId, expiresAt);
	const { durable } = await store.transact({ proofs: [key] }, (view): Turn<void> => {
		const bound = view.proof(key);
		if (bound !== undefined && bound.usedBy !== channelId) throw new ChallengeTakenError();
		const proofs = [consumedChallenge(challengeId, expiresAt, channelId, store)];
		return { value: undefined, writes: { outbox: [entry], proofs } };
	});
	await durable;
}
