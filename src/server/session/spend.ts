import type { Hex } from "viem";
import { type Challenge, type Problem, problem, type SessionReceipt } from "../../protocol/index.ts";
import { voucherSigner } from "../../voucher/index.ts";
import { type Admission, type Admitted, type Captured, type PaidRequest, type Refused, refused } from "../admission.ts";
import { available, type Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { SessionOffer } from "../evm/offer.ts";
import type { VoucherEvent } from "../hooks.ts";
import { earlierAnswer, type IdempotencyScope, idempotencyScope } from "../idempotency.ts";
import {
	applyEvent,
	type Effect,
	type Reservation,
	requiredCumulative,
	type Transition,
	type VerifiedVoucher,
} from "../ledger.ts";
import { challengeKey, consumeChallenge, expiryOf, foreignChallengeProblem } from "../proofs.ts";
import type { ProofRecord, StoredResponse, Turn, TurnView, TurnWrites } from "../store/store.ts";
import type { MeterSettings } from "../stream/meter.ts";
import { withoutTheGone } from "./current.ts";
import { sessionReceipt } from "./receipt.ts";
import { SessionMeter } from "./sessionMeter.ts";

/** A voucher whose signature is verified, on a channel whose chain state is fresh, and the request it came with. */
export type Spend = Readonly<{
	request: PaidRequest;
	offer: Pick<SessionOffer, "amount" | "metered">;
	challenge: Challenge;
	channelId: Hex;
	voucher: Omit<VerifiedVoucher, "challengeId">;
	/** Names the credential byte for byte (D7). */
	credentialKey: string;
	/** `HEAD`, or an open whose voucher does not cover the price: the receipt is the answer (D11). */
	management: "always" | "when-not-covered" | "never";
}>;

/**
 * Takes a verified voucher and promises its price to the request, in one turn on the channel
 * (draft-evm-session-00, Voucher Verification steps 6 to 10 and Per-Request Processing).
 */
export async function spend(context: EngineContext, request: Spend): Promise<Admission> {
	const order: Order = { ...request, ticket: String(++lastTicket) };
	const inTheWay = await replaceStream(context, order);
	if (inTheWay !== undefined) return inTheWay;
	const scope = idempotencyScope(order.request, order.channelId);
	const keys = {
		channel: order.channelId,
		proofs: [order.credentialKey, challengeKey(order.challenge)],
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
		if (raised !== undefined && (listeners.any || wakes.size > 0)) void durable.then(tellRaised).catch(() => undefined);
		return admitted(context, order, scope, outcome, durable);
	}
	await durable;
	tellRaised();
	if (outcome.kind !== "accepted") return outcome;
	return { kind: "managed", receipt: sessionReceipt(context, outcome.channel, order.challenge) };
}

/** What a request holds before it is served: its price, or of a metered one as many units of a block as are covered. */
function toReserve(offer: Spend["offer"], channel: Channel): bigint {
	const { amount, metered } = offer;
	const least = leastToReserve(offer);
	if (metered === undefined) return least;
	const covered = available(channel) - (available(channel) % amount);
	const block = metered.blockUnits * amount;
	const wanted = block < covered ? block : covered;
	return wanted > least ? wanted : least;
}

function leastToReserve({ amount, metered }: Spend["offer"]): bigint {
	return metered === undefined ? amount : metered.estimateUnits * amount;
}

/**
 * A channel has one stream: a new one takes its place only when its voucher advances the channel, or when it is the same
 * request once more (draft-evm-session-00, Concurrency Model; D16).
 */
async function replaceStream(
	{ store, streams, terms, now }: EngineContext,
	{ request, offer, challenge, channelId, voucher, management }: Order,
): Promise<Refused | undefined> {
	const running = offer.metered === undefined || management === "always" ? undefined : streams.of(channelId);
	if (running === undefined) return undefined;
	const channel = await store.channel(channelId);
	const { minVoucherDelta } = terms;
	const verified = { ...voucher, challengeId: challenge.id };
	const step = applyEvent(channel, { type: "voucher", voucher: verified, minVoucherDelta }, now());
	if (!step.ok) return refused(step.problem);
	const isSame = request.idempotencyKey !== undefined && request.idempotencyKey === running.idempotencyKey;
	if (!isSame && step.channel === channel) {
		const detail =
			"A stream is running on this channel; a new one needs a higher voucher, or the same Idempotency-Key.";
		return refused(problem("conflict", detail, { channelId }));
	}
	running.control.stop("replaced");
	await running.ended;
	return undefined;
}

/** A `Spend` with a name of its own in this process, so that it gives back only what it holds itself. */
type Order = Spend & Readonly<{ ticket: string }>;
let lastTicket = 0;

type Reserved = Readonly<{ kind: "reserved"; channel: Channel; reservation: Reservation }>;
type Accepted = Readonly<{ kind: "accepted"; channel: Channel }>;
type Ended = Readonly<{
	result: Captured | Refused;
	ended?: Readonly<{ channel: Channel; effects: readonly Effect[] }>;
}>;
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
	{ offer, challenge, voucher, credentialKey, management, ticket }: Order,
	scope: IdempotencyScope | undefined,
	view: TurnView,
): Turn<Outcome> {
	const earlier = earlierAnswer(view.idempotency, scope, store);
	if (earlier !== undefined) return { value: earlier };

	const bound = view.proof(challengeKey(challenge));
	if (bound !== undefined && bound.usedBy !== view.channel?.channelId)
		return { value: refused(foreignChallengeProblem()) };

	const at = now();
	const { minVoucherDelta } = terms;
	const current = withoutTheGone(view.channel, store, at);
	const byContract = current !== undefined && signatures.isContract(voucherSigner(current));
	const verified = { ...voucher, challengeId: challenge.id, byContract };
	const accepted = applyEvent(current, { type: "voucher", voucher: verified, minVoucherDelta }, at);
	if (!accepted.ok) return { value: refused(accepted.problem) };
	const { channel } = accepted;
	const binding =
		bound === undefined ? consumeChallenge(challenge.id, expiryOf(challenge, at), channel.channelId, store) : {};
	const advanced = channel === view.channel ? {} : { channel, proofs: binding };
	if (management === "always") return { value: { kind: "accepted", channel }, writes: advanced };

	const seen = view.proof(credentialKey);
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
		expiresAt: expiryOf(challenge, at),
	};
	const reservation = { owner: store.owner, generation: held.channel.generation, amount };
	return {
		value: { kind: "reserved", channel: held.channel, reservation },
		writes: {
			channel: held.channel,
			// Where another request holds the credential already, it stays that one's.
			proofs: { ...binding, ...(isFree && { [credentialKey]: credential }) },
			...(scope !== undefined && {
				idempotency: { ...scope, state: "running", owner: store.owner, expiresAt: at + limits.idempotencyTtlMs },
			}),
		},
	};
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
	// A failed write shows at capture, which waits for it too; until then nobody may be listening.
	durable.catch(() => undefined);
	return {
		kind: "admitted",
		payment: { intent: "session", amount: order.offer.amount, payer: channel.payer, channelId: channel.channelId },
		async capture(response) {
			if (ended) throw new Error("this payment was captured or released already");
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

/** A request that is paid by what it uses: the same promise, kept unit by unit. */
function admittedMetered(
	context: EngineContext,
	order: Order,
	scope: IdempotencyScope | undefined,
	{ channel, reservation }: Pick<Reserved, "channel" | "reservation">,
	settings: MeterSettings,
	durable: Promise<void>,
): Admitted {
	const { channelId, payer } = channel;
	const { amount: unitPrice } = order.offer;
	const { minVoucherDelta } = context.terms;
	const control = new SessionMeter({ context, channelId, unitPrice, minVoucherDelta, settings, reservation });
	const { promise: over, resolve: end } = Promise.withResolvers<void>();
	const { idempotencyKey } = order.request;
	const leave = context.streams.begin(channelId, { control, idempotencyKey, ended: over });
	durable.catch(() => undefined);
	let ending: Promise<Captured | Refused | undefined> | undefined;
	const finish = async (isComplete: boolean, response: (receipt: SessionReceipt) => StoredResponse) => {
		try {
			const rest = await control.end(isComplete);
			if (!isComplete && rest.total === 0n) return void (await release(context, order, scope, rest.reservation));
			return await capture(context, order, scope, { ...rest, isComplete }, response);
		} finally {
			leave();
			end();
		}
	};
	return {
		kind: "admitted",
		payment: { intent: "session", amount: unitPrice, payer, channelId, meter: control.meter },
		metered: control,
		async receipt() {
			await durable;
			const now = (await context.store.channel(channelId)) ?? channel;
			return sessionReceipt(context, now, order.challenge, { units: Number(control.meter.units) });
		},
		async capture(response) {
			if (ending !== undefined) throw new Error("this payment was captured or released already");
			ending = finish(true, response);
			const captured = await ending;
			if (captured === undefined) throw new Error("a complete answer was released");
			return captured;
		},
		async release() {
			ending ??= finish(false, () => ({ status: 200, headers: {}, body: null }));
			await ending;
		},
	};
}

/** What a request takes of its reservation. */
type Taken = Readonly<{
	reservation: Reservation;
	/** Of the reservation. Base units. */
	used: bigint;
	/** With what was captured before. Base units. */
	total: bigint;
	units: bigint;
	/** Its answer has ended well: a retry with the same `Idempotency-Key` is the same request. */
	isComplete: boolean;
}>;

async function capture(
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
			expiresAt: expiryOf(challenge, at),
		};
		const done = scope && { ...scope, owner: store.owner, expiresAt: at + limits.idempotencyTtlMs };
		return {
			value: { result: { kind: "captured", receipt }, ended: { channel: step.channel, effects: step.effects } },
			writes: {
				channel: step.channel,
				proofs: { [credentialKey]: used },
				...(done !== undefined && {
					idempotency: isComplete ? { ...done, state: "done", response: response(receipt) } : null,
				}),
			},
		};
	});
	// Waits for the voucher and the promise as well: they were written before, on the same channel.
	await durable;
	const { result, ended } = value;
	if (ended === undefined) return result;
	context.onEffects(ended.channel, ended.effects);
	const { method, url } = order.request;
	const { payer } = ended.channel;
	context.listeners.tell("onCharged", { intent: "session", amount: total, payer, channelId, method, url });
	return result;
}

async function release(
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
	if (value.ok) context.onEffects(value.channel, value.effects);
}

/** Credential and `Idempotency-Key` of a request that cost nothing are as good as new. */
function givenBack({ credentialKey, ticket }: Order, view: TurnView): TurnWrites {
	const credential = view.proof(credentialKey);
	const isOwn = credential?.state === "held" && credential.reference === ticket;
	return {
		proofs: isOwn ? { [credentialKey]: null } : {},
		...(view.idempotency?.state === "running" && { idempotency: null }),
	};
}

function endKeys({ channelId, credentialKey }: Order, scope: IdempotencyScope | undefined) {
	return { channel: channelId, proofs: [credentialKey], ...(scope !== undefined && { idempotency: scope.key }) };
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
