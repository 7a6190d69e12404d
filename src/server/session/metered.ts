/** What a channel promises to a request that is paid by what it uses, and how it is kept. */
import { problem, type SessionReceipt } from "../../protocol/index.ts";
import { type Admitted, type Captured, type Refused, refused } from "../admission.ts";
import { available, type Channel } from "../channel.ts";
import type { EngineContext } from "../context.ts";
import type { IdempotencyScope } from "../idempotency.ts";
import { applyEvent, type Reservation } from "../ledger.ts";
import type { StoredResponse } from "../store/store.ts";
import type { MeterSettings } from "../stream/meter.ts";
import { blockToReserve } from "./block.ts";
import { sessionReceipt } from "./receipt.ts";
import { SessionMeter } from "./sessionMeter.ts";
import { capture, type Order, release, type Spend } from "./spendEnd.ts";

/** How long a new stream waits for the one before to let go. */
const REPLACED_WITHIN_MS = 5_000;

/** What a request holds before it is served: its price, or of a metered one as many units of a block as are covered. */
export function toReserve(offer: Spend["offer"], channel: Channel): bigint {
	const { amount, metered } = offer;
	const least = leastToReserve(offer);
	// Those beside it need some as well.
	if (metered === undefined || metered.isShared) return least;
	return blockToReserve(available(channel), { unitPrice: amount, wanted: metered.blockUnits * amount, least });
}

export function leastToReserve({ amount, metered }: Spend["offer"]): bigint {
	return metered === undefined ? amount : metered.estimateUnits * amount;
}

/**
 * A channel has one stream: a new one takes its place only when its voucher advances the channel, or when it is the same
 * request once more (draft-evm-session-00, Concurrency Model; D16).
 */
export async function replaceStream(
	{ store, streams, terms, now }: EngineContext,
	{ request, offer, challenge, channelId, voucher, management }: Order,
): Promise<Refused | undefined> {
	const running = takesPlace(offer, management) ? streams.of(channelId) : undefined;
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
	const { promise: late, resolve } = Promise.withResolvers<"late">();
	const timer = setTimeout(() => resolve("late"), REPLACED_WITHIN_MS);
	const outcome = await Promise.race([running.ended, late]).finally(() => clearTimeout(timer));
	if (outcome !== "late") return undefined;
	const detail = "The stream that runs on this channel has not ended yet; send the same request again.";
	return refused(problem("conflict", detail, { channelId }), 1);
}

/** Whether a request is, or may become, its channel's one stream. */
export function takesPlace({ metered }: Spend["offer"], management: Spend["management"]): boolean {
	return metered !== undefined && !metered.isShared && management !== "always";
}

/** A request that is paid by what it uses: the same promise, kept unit by unit. */
export function admittedMetered(
	context: EngineContext,
	order: Order,
	scope: IdempotencyScope | undefined,
	{ channel, reservation }: Readonly<{ channel: Channel; reservation: Reservation }>,
	settings: MeterSettings,
	durable: Promise<void>,
): Admitted {
	const { channelId, payer } = channel;
	const { amount: unitPrice } = order.offer;
	const { minVoucherDelta } = context.terms;
	const control = new SessionMeter({ context, channelId, unitPrice, minVoucherDelta, settings, reservation });
	const { promise: over, resolve: end } = Promise.withResolvers<void>();
	const { idempotencyKey } = order.request;
	const leave = context.streams.begin(channelId, { control, idempotencyKey, ended: over }, settings.isShared);
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
			return sessionReceipt(context, now, order.challenge);
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
