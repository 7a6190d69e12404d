import { type Challenge, problem } from "../../protocol/index.ts";
import { type Admission, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import { expiryOf } from "../proofs.ts";
import type { Turn } from "../store/store.ts";

/**
 * Takes one credential for a challenge, and no other (draft-payment-transport-mcp-00, Replay Protection): over JSON-RPC a session
 * does not use its challenges again (D9). The mark is set before anything is looked at, so that of requests at the same time
 * one has it; it is on disk before anything is delivered for it, and is taken away where nothing was taken.
 */
export async function once(
	context: EngineContext,
	challenge: Challenge,
	admit: () => Promise<Admission>,
): Promise<Admission> {
	const { store, now } = context;
	const key = `once:${challenge.id}`;
	const { value: isFirst, durable: marked } = await store.transact({ proofs: [key] }, (view): Turn<boolean> => {
		if (view.proof(key) !== undefined) return { value: false };
		const proof = {
			key,
			state: "used",
			owner: store.owner,
			usedBy: challenge.id,
			expiresAt: expiryOf(challenge, now()),
		} as const;
		return { value: true, writes: { proofs: { [key]: proof } } };
	});
	if (!isFirst) return refused(usedProblem());
	// Waited for below; until then nobody may be listening.
	marked.catch(() => undefined);
	const giveBack = async () => {
		const { durable } = await store.transact({ proofs: [key] }, () => ({
			value: undefined,
			writes: { proofs: { [key]: null } },
		}));
		await durable;
	};
	let admission: Admission;
	try {
		admission = await admit();
	} catch (error) {
		await giveBack().catch(() => undefined);
		throw error;
	}
	if (admission.kind === "refused") {
		await giveBack();
		return admission;
	}
	if (admission.kind !== "admitted") {
		await marked;
		return admission;
	}
	const admitted = admission;
	// What was taken once is used for ever, however the request goes on.
	let isOpen = true;
	return {
		...admitted,
		async capture(response) {
			isOpen = false;
			await marked;
			return admitted.capture(response);
		},
		async release() {
			const mayGiveBack = isOpen;
			isOpen = false;
			await admitted.release();
			if (mayGiveBack) await giveBack();
		},
	};
}

function usedProblem() {
	return problem(
		"session/challenge-not-found",
		"This challenge was answered already; each is good once, answer the fresh one.",
	);
}
