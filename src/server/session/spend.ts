import { type Challenge, type Problem, problem } from "../../protocol/index.ts";
import { voucherSigner } from "../../voucher/index.ts";
import { type Admission, type Admitted, refused } from "../admission.ts";
import type { Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { SessionOffer } from "../evm/offer.ts";
import type { VoucherEvent } from "../hooks.ts";
import { earlierAnswer, type IdempotencyScope, idempotencyScope } from "../idempotency.ts";
import { applyEvent, type Reservation, requiredCumulative } from "../ledger.ts";
import { consumedChallenge, expiryOf, foreignChallengeProblem, sessionChallengeKey } from "../proofs.ts";
import type { ProofRecord, Turn, TurnView } from "../store/store.ts";
import { withoutTheGone } from "./current.ts";
import { admittedMetered, leastToReserve, replaceStream, takesPlace, toReserve } from "./metered.ts";
import { sessionReceipt } from "./receipt.ts";
import { capture, type Order, release, type Spend } from "./spendEnd.ts";

/**
 * Takes a verified voucher and promises its price to the request, in one turn on the channel
 * (draft-evm-session-00, Voucher Verification steps 6 to 10 and Per-Request Processing).
 */
export function spend(context: EngineContext, request: Spend): Promise<Admission> {
	const { challenge } = request;
	const expiresAt = expiryOf(challenge);
	const challengeKey = sessionChallengeKey(challenge.id, expiresAt);
	const order: Order = { ...request, ticket: String(++lastTicket), expiresAt, challengeKey };
	if (!takesPlace(order.offer, order.management)) return take(context, order);
	return context.streams.inTurn(order.channelId, async () => {
		const inTheWay = await replaceStream(context, order);
		if (inTheWay === undefined) return take(context, order);
		// An open that is sent once more gets its receipt again, whatever runs on its channel (D11).
		return order.management === "never" ? inTheWay : take(context, { ...order, management: "always" });
	});
}

async function take(context: EngineContext, order: Order): Promise<Admission> {
	const scope = idempotencyScope(order.request, order.channelId);
	const keys = {
		channel: order.channelId,
		proofs: [order.credentialKey, order.challengeKey],
		sought: soughtProof(context.store.peek(order.channelId), order, scope),
		...(scope !== undefined && { idempotency: scope.key }),
	};
	const { value, durable } = await context.store.transact(keys, (view) => spendTurn(context, order, scope, view));
	const { outcome, raised } = value;
	const { listeners, wakes } = context;
	const tellRaised = () => {
		if (raised === undefined) return;
		wakes.wake(order.channelId);
		listeners.tell("onVoucher", raised);
	};
	if (outcome.kind === "reserved") {
		if (raised !== undefined && (listeners.any || wakes.has(order.channelId)))
			void durable.then(tellRaised).catch(() => undefined);
		return admitted(context, order, scope, outcome, durable);
	}
	await durable;
	tellRaised();
	if (outcome.kind !== "accepted") return outcome;
	return { kind: "managed", receipt: sessionReceipt(context, outcome.channel, order.challenge) };
}

let lastTicket = 0;

type Reserved = Readonly<{ kind: "reserved"; channel: Channel; reservation: Reservation }>;
type Accepted = Readonly<{ kind: "accepted"; channel: Channel }>;
type Outcome = Reserved | Accepted | Exclude<Admission, Admitted>;

/** What came of a voucher, and what it raised, which holds also where the request is refused. */
type Spent = Readonly<{ outcome: Outcome; raised?: VoucherEvent }>;

function spendTurn(
	context: EngineContext,
	order: Order,
	scope: IdempotencyScope | undefined,
	view: TurnView,
): Turn<Spent> {
	const { value: outcome, writes = {} } = decideSpend(context, order, scope, view);
	const { channel } = writes;
	const delta = (channel?.acceptedCumulative ?? 0n) - (view.channel?.acceptedCumulative ?? 0n);
	if (channel === undefined || delta <= 0n) return { value: { outcome }, writes };
	const { channelId, payer, acceptedCumulative } = channel;
	return { value: { outcome, raised: { channelId, payer, acceptedCumulative, delta } }, writes };
}

function decideSpend(
	{ store, limits, terms, signatures, now }: EngineContext,
	{ request, offer, challenge, answered, voucher, credentialKey, management, ticket, expiresAt, challengeKey }: Order,
	scope: IdempotencyScope | undefined,
	view: TurnView,
): Turn<Outcome> {
	const goesOn = offer.metered !== undefined && request.lastEventId !== undefined;
	const earlier = earlierAnswer(view.idempotency, scope, store, goesOn);
	if (earlier !== undefined) return { value: earlier };

	const isKnown = hasAnswered(view.channel, challenge);
	const bound = isKnown ? undefined : view.proof(challengeKey);
	if (bound !== undefined && bound.usedBy !== view.channel?.channelId)
		return { value: refused(foreignChallengeProblem()) };
	// What other requests have left unspent would pay for more than the payer has answered to, and counts.
	const dearer = dearerProblem(offer, answered);
	if (dearer !== undefined && management === "never") return { value: refused(dearer) };

	const at = now();
	const { minVoucherDelta } = terms;
	const current = withoutTheGone(view.channel, store, at);
	const byContract = current !== undefined && signatures.isContract(voucherSigner(current));
	const verified = { ...voucher, challengeId: challenge.id, byContract };
	const accepted = applyEvent(current, { type: "voucher", voucher: verified, minVoucherDelta }, at);
	if (!accepted.ok) return { value: refused(accepted.problem) };
	const { channel } = accepted;
	const isBound = isKnown || bound !== undefined;
	const binding = isBound ? [] : [consumedChallenge(challenge.id, expiresAt, channel.channelId, store)];
	const advanced = channel === view.channel ? {} : { channel, proofs: binding };
	if (management === "always" || dearer !== undefined)
		return { value: { kind: "accepted", channel }, writes: advanced };

	// What raises the highest voucher was not here before: having been here, it would be the highest, or below it (I2).
	const isNew = channel.acceptedCumulative > (view.channel?.acceptedCumulative ?? 0n);
	const seen = isNew ? undefined : view.proof(credentialKey);
	const isFree = seen === undefined || (seen.state === "held" && store.isGone(seen.owner));
	if (!isFree && scope === undefined)
		return { value: refused(repeatedProblem(channel, leastToReserve(offer))), writes: advanced };

	const amount = toReserve(offer, channel);
	const held = applyEvent(
		channel,
		{ type: "reserve", amount, owner: store.owner, voucher: verified, minVoucherDelta },
		at,
	);
	if (!held.ok) {
		if (management === "when-not-covered") return { value: { kind: "accepted", channel }, writes: advanced };
		return { value: refused(held.problem), writes: advanced };
	}
	const credential: ProofRecord = {
		key: credentialKey,
		state: "held",
		owner: store.owner,
		usedBy: channel.channelId,
		reference: ticket,
		expiresAt,
	};
	const reservation = { owner: store.owner, generation: held.channel.generation, amount };
	return {
		value: { kind: "reserved", channel: held.channel, reservation },
		writes: {
			channel: held.channel,
			// Where another request holds the credential already, it stays that one's.
			proofs: isFree ? [...binding, credential] : binding,
			...(scope !== undefined && {
				idempotency: {
					...scope,
					state: "running",
					owner: store.owner,
					// Of the answer that it goes on with.
					...(view.idempotency?.response !== undefined && { response: view.idempotency.response }),
					expiresAt: at + limits.idempotencyTtlMs,
				},
			}),
		},
	};
}

/** A channel that has advanced under a challenge has it: both were written in one turn. */
function hasAnswered(channel: Channel | undefined, { id }: Challenge): boolean {
	return channel?.challengeIds.includes(id) === true;
}

/** The proof that its turn will most likely look at: whose a new challenge is, whether a voucher that may come again has been here. */
function soughtProof(
	channel: Channel | undefined,
	{ challenge, challengeKey, credentialKey }: Order,
	scope: IdempotencyScope | undefined,
): string | undefined {
	if (!hasAnswered(channel, challenge)) return challengeKey;
	return scope === undefined ? undefined : credentialKey;
}

/** The promise made by `spendTurn`, with the two ways it can end. The first one wins, the other does nothing. */
function admitted(
	context: EngineContext,
	order: Order,
	scope: IdempotencyScope | undefined,
	{ channel, reservation }: Reserved,
	durable: Promise<void>,
): Admitted {
	const { metered } = order.offer;
	if (metered !== undefined) return admittedMetered(context, order, scope, { channel, reservation }, metered, durable);
	let ended = false;
	return {
		kind: "admitted",
		payment: { intent: "session", amount: order.offer.amount, payer: channel.payer, channelId: channel.channelId },
		capture(response) {
			if (ended) return Promise.reject(new Error("this payment was captured or released already"));
			ended = true;
			const used = reservation.amount;
			return capture(context, order, scope, { reservation, used, total: used, units: 1n, isComplete: true }, response);
		},
		async release() {
			if (ended) return;
			ended = true;
			await release(context, order, scope, reservation);
		},
	};
}

/** A price above the one that was answered to, in base units both. */
export function dearerProblem({ amount }: Pick<SessionOffer, "amount">, answered: bigint): Problem | undefined {
	if (amount <= answered) return undefined;
	const detail = "The price of this request is higher than the one that this challenge names; answer the fresh one.";
	return problem("session/challenge-not-found", detail);
}

function repeatedProblem(channel: Channel, amount: bigint): Problem {
	return problem(
		"session/insufficient-balance",
		"This credential was used already; send a higher voucher, or an Idempotency-Key.",
		{
			channelId: channel.channelId,
			requiredCumulative: requiredCumulative(channel, amount, 0n),
			acceptedCumulative: channel.acceptedCumulative,
			deposit: channel.deposit,
		},
	);
}
