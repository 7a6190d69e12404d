import { setTimeout as pause } from "node:timers/promises";
import type { FastifyRequest } from "fastify";
import { meterOf, type ServerSentEvent } from "../../server/index.ts";

/** What the demo's model is asked for. */
export type TokensQuery = Readonly<{ tokens?: string; pauseMs?: string }>;

/** A stand-in for a model: one token after the other, as fast as they are paid for, or with pauses. Goes on after `Last-Event-ID`. */
export async function* tokens(
	request: FastifyRequest<{ Querystring: TokensQuery }>,
): AsyncGenerator<ServerSentEvent, void, undefined> {
	const meter = meterOf(request.payment);
	const count = Number(request.query.tokens ?? 1);
	const pauseMs = Number(request.query.pauseMs ?? 0);
	const last = Number(request.headers["last-event-id"] ?? 0);
	for (let id = last + 1; id <= count; id++) {
		if (pauseMs > 0) await pause(pauseMs);
		await meter.charge(1);
		yield { id: String(id), data: `token ${id}` };
	}
}
