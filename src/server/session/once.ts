import { type Challenge, problem } from "../../protocol/index.ts";
import { type Admission, type Refused, refused } from "../admission.ts";
import type { EngineContext } from "../context.ts";
import { expiryOf } from "../proofs.ts";
import type { ChannelStore, Turn } from "../store/store.ts";

/** Challenges that are being looked at, by the store that will remember those that were used. */
const looking = new WeakMap<ChannelStore, Set<string>>();

/**
 * Takes one credential for a challenge, and no other (draft-payment-transport-mcp-00, Replay Protection): over JSON-RPC a session
 * does not use its challenges again (D9). Of requests at the same time one has it from the start, in memory, since a challenge
 * costs nothing and a bad signature must not cost a write. Once the credential is good the mark is in the store, and on disk
 * before anything is delivered for it; it is taken away where nothing was taken.
 */
export async function once(
	context: EngineContext,
	challenge: Challenge,
	admit: () => Promise<Admission>,
): Promise<Admission> {
	const { store } = context;
	const key = `once:${challenge.id}`;
	const ours = looking.get(store) ?? new Set();
	looking.set(store, ours);
	if (ours.has(key)) return refused(usedProblem());
	ours.add(key);
	try {
		const { value: isUsed } = await store.transact({ proofs: [key] }, (view) => ({
			value: view.proof(key) !== undefined,
		}));
		if (isUsed) return refused(usedProblem());
		const admission = await admit();
		return admission.kind === "refused" ? admission : await marked(context, challenge, key, admission);
	} finally {
		ours.delete(key);
	}
}

/** What was admitted, with the mark for it. */
async function marked(
	{ store }: EngineContext,
	challenge: Challenge,
	key: string,
	admission: Exclude<Admission, Refused>,
): Promise<Admission> {
	const mark = () =>
		store.transact({ proofs: [key] }, (view): Turn<boolean> => {
			if (view.proof(key) !== undefined) return { value: false };
			const proof = {
				key,
				state: "used",
				owner: store.owner,
				usedBy: challenge.id,
				expiresAt: expiryOf(challenge),
			} as const;
			return { value: true, writes: { proofs: [proof] } };
		});
	const undo = async () => {
		if (admission.kind === "admitted") await admission.release();
	};
	const { value: isFirst, durable } = await mark().catch(async (error: unknown) => {
		await undo();
		throw error;
	});
	if (!isFirst) {
		await undo();
		return refused(usedProblem());
	}
	// Waited for below; until then nobody may be listening.
	durable.catch(() => undefined);
	if (admission.kind !== "admitted") {
		await durable;
		return admission;
	}
	const admitted = admission;
	const giveBack = async () => {
		const { durable: gone } = await store.transact({ proofs: [key] }, () => ({
			value: undefined,
			writes: { deletedProofs: [key] },
		}));
		await gone;
	};
	// What was taken once is used for ever, however the request goes on.
	let isOpen = true;
	return {
		...admitted,
		async capture(response) {
			isOpen = false;
			await durable;
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
