import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { CACHE_CONTROL, PAYMENT_RECEIPT, paymentCredentials, problem } from "../../protocol/index.ts";
import { type Refused, refused } from "../admission.ts";
import { ownAnswer, refusalAnswer } from "../answer.ts";
import type { PaymentEngine, Transport } from "../engine.ts";
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
import { runSocket, type SocketHandler } from "./socketRun.ts";
import { answer, failureAnswer, isHandshake, loadUpgrader, orderOf, transportOf } from "./socketUpgrade.ts";

/** How a paid socket treats its clients. All of it may be left out. */
export type SocketOptions = Readonly<{
	/** Names the route in errors. */
	route?: string;
	/**
	 * Whether a client without a credential gets its challenge as the first message, and pays by its own first one: browsers
	 * can neither send a header with an upgrade nor read a 402. Default: no, it gets the 402.
	 */
	challengeInBand?: boolean;
	/** How long such a client has for each try, in ms (default 30,000), and how many of them are waited for (default 1,000). */
	payWithinMs?: number;
	maxUnpaid?: number;
	/** The longest message of a client, in bytes (default 65,536). */
	maxMessageBytes?: number;
	/** How many bytes of a client's messages may wait for the handler (default 1,048,576). */
	maxQueuedBytes?: number;
	/** How often it is looked whether a client is still there, in ms (default 20,000). After two times in vain it is not. */
	pingMs?: number;
	/** How a request came here, where its connection does not say it: behind a proxy that ends TLS. */
	transport?: (request: IncomingMessage) => Transport;
	/** Hears what the handler fails with. */
	onError?: (error: unknown) => void;
}>;

/** A place where sockets are paid for. */
export type PaidSockets = Readonly<{
	/** A listener for `upgrade`. Where there are several places, call the one that `request.url` is for. */
	upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
	/** How many clients there are, paid and not paid yet. */
	size: number;
	/** Takes no more clients, ends those there are with 1001, and resolves when what they owe is written down. */
	close(): Promise<void>;
}>;

/**
 * WebSockets that are paid for, at any HTTP server of Node's. The upgrade is a request like any other: it carries
 * `Authorization: Payment`, and is answered with a 402 where it does not. What then is said of the payment is said by the
 * messages of event streams, each a text frame of JSON; vouchers come on the socket, or by `HEAD` beside it where the same
 * URL is also a paid route. Needs the package `ws`.
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
