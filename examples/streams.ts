import type { FastifyInstance } from "fastify";
import { meterOf, type PaidSockets, type PaymentEngine, paidSocket } from "sluice/server";

/** Stands for yours: tokens from a number on, as they come. */
export type Model = (prompt: string, from: number, signal: AbortSignal) => AsyncIterable<string>;

export async function declareStreams(app: FastifyInstance, engine: PaymentEngine, model: Model): Promise<PaidSockets> {
	const token = { price: "100", unitType: "token", suggestedDeposit: "20000" };

	// Server-Sent Events: say what the next token costs, wait until it is paid for, let go of it.
	const chat = { config: { payment: { ...token, metered: { blockUnits: 32 } } } };
	app.get<{ Querystring: { q?: string } }>("/chat", chat, async function* ({ payment, query, headers }) {
		const meter = meterOf(payment);
		let id = Number(headers["last-event-id"]) || 0; // a client that lost its connection has all up to this one
		for await (const data of model(query.q ?? "", id, meter.signal)) {
			await meter.charge(1);
			yield { id: String(++id), data };
		}
	});

	// A price for each piece, byte or second: the handler says nothing, and may return any stream. Only events can ask for
	// a voucher, so the estimate covers the first piece.
	const metered = { per: "byte" as const, estimateUnits: 100, blockUnits: 65_536 };
	app.get("/text", { config: { payment: { price: "1", unitType: "byte", metered } } }, async (_request, reply) => {
		reply.type("text/plain");
		return model("", 0, AbortSignal.timeout(60_000));
	});

	// Not streamed: an estimate is reserved, what was used is charged, and the rest is given back.
	const whole = { config: { payment: { ...token, metered: { estimateUnits: 80 } } } };
	app.get("/summary", whole, async ({ payment }) => {
		const meter = meterOf(payment);
		const tokens = [];
		for await (const text of model("", 0, meter.signal)) if (tokens.push(text) === 50) break;
		await meter.charge(tokens.length);
		return { summary: tokens.join("") };
	});

	// WebSocket: the same meter; with `challengeInBand` also for clients that can't send a header, as browsers.
	const sockets = await paidSocket(
		engine,
		{ ...token, metered: { per: "piece" } },
		async ({ messages, send, signal }) => {
			for await (const question of messages)
				for await (const text of model(String(question), 0, signal)) await send(text);
		},
		{ challengeInBand: true },
	);
	app.server.on("upgrade", sockets.upgrade);
	app.addHook("preClose", () => sockets.close());
	return sockets;
}
