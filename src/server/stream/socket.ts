import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { CACHE_CONTROL, PAYMENT_RECEIPT, paymentCredentials, problem } from "../../protocol/index.ts";
import { type Refused, refused } from "../admission.ts";
import { ownAnswer, refusalAnswer } from "../answer.ts";
import type { PaymentEngine } from "../engine.ts";
import { type Price, PriceList } from "../price.ts";
import { receiptField } from "../receipts.ts";
import {
	admitInBand,
	admitUpgrade,
	type Begun,
	beginSocket,
	releaseSocket,
	type SocketOrder,
} from "./socketAdmission.ts";
import { SocketLine } from "./socketLine.ts";
import { runSocket } from "./socketRun.ts";
import type { PaidSockets, SocketHandler, SocketOptions } from "./socketTypes.ts";
import { answer, failureAnswer, isHandshake, loadUpgrader, orderOf, transportOf } from "./socketUpgrade.ts";

/**
 * WebSockets that are paid for, at any HTTP server of Node's. The upgrade is a request like any other: it carries
 * `Authorization: Payment`, and is answered with a 402 where it does not. What then is said of the payment is said by the
 * messages of event streams, each a text frame of JSON; vouchers come on the socket, or by `HEAD` beside it. Needs the package
 * `ws`.
 *
 * Give the same URL a paid route at the same price as well, whatever that answers: a channel that was opened on a socket is
 * closed and topped up there.
 *
 * @param price as of every other face; with `metered` the client pays as it reads
 * @throws OfferError for a wrong price, SocketLibraryError
 * @example
 * const chat = await paidSocket(engine, { price: "100", metered: { per: "piece" } }, async ({ send, messages }) => {
 *   for await (const message of messages) await send(message);
 * });
 * server.on("upgrade", chat.upgrade); // Fastify: app.server.on("upgrade", …)
 * await chat.close(); // before the server is closed, which waits for its sockets; Fastify: in a preClose hook
 */
export async function paidSocket(
	engine: PaymentEngine,
	price: Price<IncomingMessage>,
	handler: SocketHandler,
	options: SocketOptions = {},
): Promise<PaidSockets> {
	const { route = "paid socket", challengeInBand = false, maxUnpaid = 1_000, payWithinMs = 30_000 } = options;
	const { maxMessageBytes = 65_536, maxQueuedBytes = 1_048_576, pingMs = 20_000 } = options;
	const { transport = transportOf, onError = () => undefined } = options;
	const prices = new PriceList<IncomingMessage>(engine);
	prices.constant(route, price);
	const upgrader = await loadUpgrader(maxMessageBytes);
	const receipts = new WeakMap<IncomingMessage, Begun>();
	upgrader.on("headers", (headers: string[], request: IncomingMessage) => {
		const begun = receipts.get(request);
		if (begun === undefined) return;
		headers.push(`${PAYMENT_RECEIPT}: ${receiptField(begun.receipt)}`, `${CACHE_CONTROL}: private`);
	});
	const lines = new Map<SocketLine, Promise<void>>();
	const upgrading = new Set<Promise<void>>();
	let unpaidLines = 0;
	let isClosed = false;

	async function take(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
		const refuse = (offers: SocketOrder["offers"], refusal: Refused, asked = {}) =>
			answer(socket, refusalAnswer(engine, offers, refusal, asked));
		const plain = engine.transportRefusal(transport(request));
		if (plain !== undefined) return refuse([], plain);
		if (isClosed) return refuse([], refused(problem("service-unavailable", "This server stops.")));
		const offers = await prices.of(route, price, request);
		if ("kind" in offers) return refuse([], offers);
		const order = orderOf(engine, request, offers);
		const { asked } = order;
		const authorization = request.headersDistinct.authorization ?? [];
		if (challengeInBand && unpaidLines < maxUnpaid && paymentCredentials(authorization).length === 0)
			return void upgrade(request, socket, head, (line) => payInBand(order, line));
		const admission = await admitUpgrade(order, authorization);
		if (admission.kind !== "admitted") return answer(socket, ownAnswer(engine, offers, admission, asked));
		const begun = await beginSocket(order, admission);
		if ("kind" in begun) return refuse(offers, begun, asked);
		receipts.set(request, begun);
		const isTaken = upgrade(request, socket, head, (line) => runSocket(order, line, begun, handler, onError));
		if (!isTaken) await releaseSocket(engine, admission);
	}

	/** False when the client has left, or has not asked for a WebSocket in the right way: then it is answered. */
	function upgrade(
		request: IncomingMessage,
		socket: Duplex,
		head: Buffer,
		serve: (line: SocketLine) => Promise<void>,
	): boolean {
		let isTaken = false;
		upgrader.handleUpgrade(request, socket, head, (ws) => {
			isTaken = true;
			const line = new SocketLine(ws, { pingMs, maxQueuedBytes });
			const served = serve(line)
				.catch((error: unknown) => {
					engine.refusalFor(error);
					return line.close("failed");
				})
				.finally(() => lines.delete(line));
			lines.set(line, served);
			if (isClosed) void line.close("goingAway");
		});
		return isTaken;
	}

	async function payInBand(order: SocketOrder, line: SocketLine): Promise<void> {
		unpaidLines++;
		let begun: Begun | undefined;
		try {
			begun = await admitInBand(order, line, payWithinMs);
		} finally {
			unpaidLines--;
		}
		if (begun !== undefined) await runSocket(order, line, begun, handler, onError);
	}

	return {
		upgrade(request, socket, head) {
			// Until the end: a connection may also fail while it is refused.
			socket.on("error", () => socket.destroy());
			if (!isHandshake(request)) return void upgrade(request, socket, head, (line) => line.close("policy"));
			const taken = take(request, socket, head)
				.catch((error: unknown) => answer(socket, failureAnswer(engine, error)))
				.finally(() => upgrading.delete(taken));
			upgrading.add(taken);
		},
		get size() {
			return lines.size;
		},
		async close() {
			isClosed = true;
			await Promise.all(upgrading);
			for (const line of lines.keys()) void line.close("goingAway", "this server stops");
			await Promise.all(lines.values());
			upgrader.close();
		},
	};
}
