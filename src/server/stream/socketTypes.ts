import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { SocketMessage } from "../../protocol/index.ts";
import type { Payment } from "../admission.ts";
import type { Transport } from "../engine.ts";
import type { Meter } from "./meter.ts";

/**
 * A WebSocket that is paid for, as its handler works with it.
 *
 * @example
 * const chat = await paidSocket(engine, { price: "100", unitType: "token", metered: true }, async ({ payment, send, messages }) => {
 *   for await (const question of messages) {
 *     for await (const token of model(question)) {
 *       await meterOf(payment).charge(1);
 *       await send(token);
 *     }
 *   }
 * });
 */
export type PaidSocket = Readonly<{
	payment: Payment;
	/** Where the price is metered: what is sent is charged with it. */
	meter?: Meter;
	/**
	 * Sends one message, after it was charged where the price says what one costs (`per`). Resolves when the connection has
	 * taken it: a client that reads slowly slows the handler.
	 *
	 * @throws MeterStoppedError when it won't be paid for, or the client has left
	 * @throws SocketMessageError, UnawaitedSendError
	 */
	send(message: SocketMessage): Promise<void>;
	/** What the client sends, in order, until it leaves. More than is read in time ends the socket with 1008. */
	messages: AsyncIterable<SocketMessage>;
	/** Aborts when the client has left, or nothing more is paid for. */
	signal: AbortSignal;
}>;

/** What serves a paid socket: until it returns. */
export type SocketHandler = (socket: PaidSocket, request: IncomingMessage) => void | Promise<void>;

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

/** Messages that a handler may have given to `send` without waiting for them. */
export const MAX_UNSENT = 256;

/** A handler gives messages faster than they leave, and waits for none of them. */
export class UnawaitedSendError extends Error {
	override readonly name = "UnawaitedSendError";
	readonly code = "UNAWAITED_SEND";
	constructor() {
		super(`${MAX_UNSENT} messages wait to be sent on a paid socket; await each send before the next one`);
	}
}

/** The library `ws` is not installed. */
export class SocketLibraryError extends Error {
	override readonly name = "SocketLibraryError";
	readonly code = "SOCKET_LIBRARY";
	constructor(cause: unknown) {
		super("paid WebSockets need the package ws: npm install ws", { cause });
	}
}
