/** How a promise to a request ends: taken, or given back. */
import type { Hex } from "viem";
import type { Challenge, SessionReceipt } from "../../protocol/index.ts";
import type { Captured, PaidRequest, Refused } from "../admission.ts";
import { refused } from "../admission.ts";
import type { Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { SessionOffer } from "../evm/offer.ts";
import type { IdempotencyScope } from "../idempotency.ts";
import { applyEvent, type Effect, type Reservation, type Transition, type VerifiedVoucher } from "../ledger.ts";
import type { IdempotencyRecord, ProofRecord, StoredResponse, Turn, TurnView, TurnWrites } from "../store/store.ts";
import { sessionReceipt } from "./receipt.ts";

/** A voucher whose signature is verified, on a channel whose chain state is fresh, and the request it came with. */
export type Spend = Readonly<{
	request: PaidRequest;
	offer: Pick<SessionOffer, "amount" | "metered">;
	challenge: Challenge;
	/** The price that the challenge names: more than that is not charged (D9). Base units. */
	answered: bigint;
	channelId: Hex;
	voucher: Omit<VerifiedVoucher, "challengeId">;
	/** Names the credential byte for byte (D7). */
	credentialKey: string;
	/** `HEAD`, or an open whose voucher does not cover the price: the receipt is the answer (D11). */
	management: "always" | "when-not-covered" | "never";
}>;

/** A `Spend` with a name of its own in this process, so that it gives back only what it holds itself. */
export type Order = Spend &
	Readonly<{
		ticket: string;
		/** When what is kept of its challenge may be forgotten, in Unix milliseconds. */
		expiresAt: number;
		/** Names the proof of who answered its challenge (D9). */
		challengeKey: string;
	}>;

/** What a request takes of its reservation. */
export type Taken = Readonly<{
	reservation: Reservation;
	/** Of the reservation. Base units. */
	used: bigint;
	/** With what was captured before. Base units. */
	total: bigint;
	units: bigint;
	/** Its answer has ended well: a retry with the same `Idempotency-Key` is the same request. */
	isComplete: boolean;
}>;

type Ended = Readonly<{
	result: Captured | Refused;
	ended?: Readonly<{ channel: Channel; effects: readonly Effect[] }>;
}>;

export async function capture(
	context: EngineContext,
	order: Order,
	scope: IdempotencyScope | undefined,
	{ reservation, used: usedNow, total, units, isComplete }: Taken,
	response: (receipt: SessionReceipt) => StoredResponse,
): Promise<Captured | Refused> {
	const { store, limits, now } = context;
	const { channelId, credentialKey, challenge } = order;
	const { value, durable } = await store.transact(endKeys(order, scope), (view): Turn<Ended> => {
		const at = now();
		const step = applyEvent(view.channel, { type: "capture", reservation, used: usedNow }, at);
		if (!step.ok) return { value: { result: refused(step.problem) }, writes: givenBack(order, view) };
		const receipt = sessionReceipt(context, step.channel, challenge, { units: Number(units) });
		const used: ProofRecord = {
			key: credentialKey,
			state: "used",
			owner: store.owner,
			usedBy: channelId,
			expiresAt: order.expiresAt,
		};
		// Of a credential that comes again and again, it is there.
		const isUsed = scope !== undefined && view.proof(credentialKey)?.state === "used";
		const expiresAt = expiryAfter(view.idempotency, at, limits.idempotencyTtlMs);
		const done = scope && { ...scope, owner: store.owner, expiresAt };
		return {
			value: { result: { kind: "captured", receipt }, ended: { channel: step.channel, effects: step.effects } },
			writes: {
				channel: step.channel,
				...(!isUsed && { proofs: [used] }),
				...(done !== undefined && {
					idempotency: isComplete ? { ...done, state: "done", response: response(receipt) } : asBefore(view),
				}),
			},
		};
	});
	// Waits for the voucher and the promise as well: they were written before, on the same channel.
	await durable;
	const { result, ended } = value;
	if (ended === undefined) return result;
	context.onEffects(ended.channel, ended.effects);
	// A stream may go on with what was held and not used.
	if (usedNow < reservation.amount) context.wakes.wake(channelId);
	const { method, url } = order.request;
	const { payer } = ended.channel;
	context.listeners.tell("onCharged", { intent: "session", amount: total, payer, channelId, method, url });
	return result;
}

/** As when the request began, if that was just now: then its place in the order of expiry stays the same. */
function expiryAfter(running: IdempotencyRecord | undefined, now: number, ttlMs: number): number {
	const latest = now + ttlMs;
	return running !== undefined && latest - running.expiresAt < ttlMs / PARTS ? running.expiresAt : latest;
}

/** Of its time an answer may lose one of so many. */
const PARTS = 1_000;

export async function release(
	context: EngineContext,
	order: Order,
	scope: IdempotencyScope | undefined,
	reservation: Reservation,
): Promise<void> {
	const { store, now } = context;
	const { value, durable } = await store.transact(endKeys(order, scope), (view): Turn<Transition> => {
		const step = applyEvent(view.channel, { type: "release", reservation }, now());
		if (!step.ok) return { value: step };
		return { value: step, writes: { channel: step.channel, ...givenBack(order, view) } };
	});
	await durable;
	if (!value.ok) return;
	context.onEffects(value.channel, value.effects);
	context.wakes.wake(order.channelId);
}

/** Credential and `Idempotency-Key` of a request that cost nothing are as good as new. */
function givenBack({ credentialKey, ticket }: Order, view: TurnView): TurnWrites {
	const credential = view.proof(credentialKey);
	const isOwn = credential?.state === "held" && credential.reference === ticket;
	return {
		...(isOwn && { deletedProofs: [credentialKey] }),
		...(view.idempotency?.state === "running" && { idempotency: asBefore(view) }),
	};
}

/** What its `Idempotency-Key` stood for before: one that went on with an answer leaves that one as it was. */
function asBefore({ idempotency }: TurnView): IdempotencyRecord | null {
	return idempotency?.response === undefined ? null : { ...idempotency, state: "done" };
}

function endKeys({ channelId, credentialKey }: Order, scope: IdempotencyScope | undefined) {
	return { channel: channelId, proofs: [credentialKey], ...(scope !== undefined && { idempotency: scope.key }) };
}
