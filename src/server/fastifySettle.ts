import type { FastifyReply, FastifyRequest } from "fastify";
import { PAYMENT_RECEIPT } from "../protocol/index.ts";
import type { Admitted, Captured, Refused } from "./admission.ts";
import { type OwnAnswer, refusalAnswer, releaseQuietly } from "./answer.ts";
import type { PaymentEngine } from "./engine.ts";
import { settleMetered } from "./fastifyMetered.ts";
import {
	assertSendableHead,
	clearHeaders,
	hasBegun,
	isStream,
	type Payload,
	setOwnAnswer,
	setReceipt,
	settlePayload,
	storedReply,
} from "./fastifyReply.ts";
import { asked, stateOf } from "./fastifyRequest.ts";
import { isMetered } from "./stream/body.ts";
import { stopOf, stopRefusal } from "./stream/meterStop.ts";

/** The last `onSend` hook of a paid route: calls `done` where there is nothing to wait for, returns a promise of what is sent elsewhere. */
export type Settle = (
	request: FastifyRequest,
	reply: FastifyReply,
	sent: unknown,
	done: (error: Error | null, payload: unknown) => void,
) => unknown;

/**
 * Makes the hook that takes the payment for an answer before its first byte leaves, or gives it back.
 *
 * @param unpaidAnswer what is sent in place of an answer that nobody has paid for
 */
export function settlement(
	engine: PaymentEngine,
	unpaidAnswer: (request: FastifyRequest) => Promise<OwnAnswer>,
): Settle {
	return function settle(request, reply, sent, done) {
		const state = stateOf(request);
		const { admitted, offers = [] } = state;
		if (admitted === undefined) {
			if (state.ownAnswer || reply.statusCode >= 400) return done(null, sent);
			return replaced();
		}
		if (state.answered) {
			if (reply.statusCode < 400) return done(null, sent);
			// A hook failed after the payment was taken: an error carries no receipt.
			reply.removeHeader(PAYMENT_RECEIPT);
			const stop = isMetered(admitted) ? stopOf(admitted.metered) : undefined;
			const refusal = stop && stopRefusal(stop);
			if (refusal === undefined || reply.statusCode < 500) return done(null, sent);
			// Its meter stopped before the first byte had left: Fastify takes that for an error of the handler.
			clearHeaders(reply);
			return done(null, setOwnAnswer(reply, refusalAnswer(engine, offers, refusal, asked(request))));
		}
		state.answered = true;
		if (isMetered(admitted)) return settleMetered(engine, request, reply, sent, admitted);
		return settleWhole(engine, request, reply, sent, admitted);

		/** Something before us has answered a request to a paid route: a cache, another plugin. It was not paid for. */
		async function replaced(): Promise<unknown> {
			if (isStream(sent)) sent.destroy();
			clearHeaders(reply);
			return setOwnAnswer(reply, await unpaidAnswer(request));
		}
	};
}

/** What is sent of an answer with a price of its own. */
async function settleWhole(
	engine: PaymentEngine,
	request: FastifyRequest,
	reply: FastifyReply,
	sent: unknown,
	admitted: Admitted,
): Promise<unknown> {
	let payload: Payload | typeof WITHDRAWN;
	try {
		const judged = judge(reply, sent, request.raw.socket?.destroyed === true);
		payload = judged instanceof Promise ? await judged : judged;
	} catch (error) {
		await releaseQuietly(engine, admitted);
		throw error;
	}
	if (payload === WITHDRAWN || reply.statusCode >= 400) {
		await releaseQuietly(engine, admitted);
		return payload === WITHDRAWN ? "" : payload;
	}
	let captured: Captured | Refused;
	try {
		const { maxReplayBytes } = engine.limits;
		captured = await admitted.capture((receipt) => storedReply(reply, payload, receipt, maxReplayBytes));
	} catch (error) {
		captured = engine.refusalFor(error);
	}
	if (captured.kind === "captured") return setReceipt(reply, payload, captured.receipt);
	// Nothing may be delivered: the answer becomes the refusal.
	if (isStream(payload)) payload.destroy();
	clearHeaders(reply);
	const { offers = [] } = stateOf(request);
	return setOwnAnswer(reply, refusalAnswer(engine, offers, captured, asked(request)));
}

/** The client left before there was anything to send. */
const WITHDRAWN = Symbol("sluice.withdrawn");

type Judged = Payload | typeof WITHDRAWN;

/**
 * The payload as it is going to be sent, once it is certain that it can be: of a whole one at once.
 *
 * @throws what keeps it from being sent
 */
function judge(reply: FastifyReply, sent: unknown, isGone: boolean): Judged | Promise<Judged> {
	const payload = settlePayload(reply, sent);
	if (isGone) return withdraw(payload);
	if (reply.statusCode >= 400) return payload;
	assertSendableHead(reply);
	if (!isStream(payload)) return payload;
	return hasBegun(payload, reply.raw).then((begun) => (begun ? payload : withdraw(payload)));
}

/** Nobody reads it: whoever feeds it may stop. */
function withdraw(payload: Payload): typeof WITHDRAWN {
	if (isStream(payload)) payload.destroy();
	return WITHDRAWN;
}

/** Ends the payment of a request whose connection closed before anything went through `onSend`. */
export async function endUnanswered(admitted: Admitted, { raw }: FastifyReply): Promise<void> {
	// A handler that wrote to the socket past Fastify: what it served, it served unpaid, so it is paid now.
	if (!raw.headersSent || raw.statusCode >= 400) {
		admitted.metered?.stop("left");
		return admitted.release();
	}
	await admitted.capture(() => ({ status: raw.statusCode, headers: {}, body: null }));
}

/** Answers in the application's place. */
export function answer(request: FastifyRequest, reply: FastifyReply, own: OwnAnswer): FastifyReply {
	stateOf(request).ownAnswer = true;
	return reply.send(setOwnAnswer(reply, own));
}
