import type { SocketMessage } from "../protocol/index.ts";
import { receiptOf } from "./answer.ts";
import { assertSecure } from "./policy.ts";
import { SocketWire } from "./socketWire.ts";
import { parseStreamOptions, type StreamOptions, type StreamSettings } from "./stream/options.ts";

/** How a socket is opened and paid for. */
export type SocketOptions = Pick<StreamOptions, "aheadUnits" | "stepUnits"> &
	Readonly<{
		/** How many units a message is worth, as the client counts what was delivered. Default 1, or what the server sells. */
		unitsOf?: (message: SocketMessage) => number;
		/** Aborting closes the socket, and so stops paying. */
		signal?: AbortSignal;
		/** Subprotocols, as of `WebSocket`. */
		protocols?: readonly string[];
		/** How long it may take to open and to ask for payment, in ms (default 30,000). */
		openWithinMs?: number;
		/** How many bytes of messages may wait to be read (default 16 MiB). More end the socket. */
		maxQueuedBytes?: number;
		/**
		 * Makes the WebSocket. Default: the platform's own, which browsers and Node from 22 on have; give another one where
		 * there is none, or where it needs headers: `(url, protocols) => new WebSocket(url, protocols, { headers })` of the
		 * package `ws`.
		 */
		connect?: (url: string, protocols: string[]) => WebSocket;
	}>;

/** There is no WebSocket on this platform. */
export class SocketUnavailableError extends Error {
	override readonly name = "SocketUnavailableError";
	readonly code = "SOCKET_UNAVAILABLE";
	constructor() {
		super("this platform has no WebSocket; give one as option connect, that of the package ws for example");
	}
}

/** The server did not take the payment for a socket. */
export class SocketRefusedError extends Error {
	override readonly name = "SocketRefusedError";
	readonly code = "SOCKET_REFUSED";
	/** What it said, as a response. */
	readonly response: Response;
	constructor(response: Response) {
		super(`the server answered ${response.status} to the payment for a socket`);
		this.response = response;
	}
}

/** What opening works with. */
export type SocketParts = Readonly<{
	/** Pays for a request that is sent by `send`, by channel or charge, within the policy. */
	pay: (request: Request, stream: StreamSettings, send: SocketWire["send"]) => Promise<Response>;
	/** Over HTTP. */
	send: SocketWire["send"];
	stream: StreamOptions;
	/** Unix milliseconds. */
	now: () => number;
}>;

/**
 * A WebSocket that is paid for as it is read: what has not been read is not paid for any further, so that the server waits.
 *
 * @example
 * const socket = await payer.socket("wss://api.example.com/chat");
 * socket.send("Hello");
 * for await (const message of socket) console.log(message);
 */
export class PayerSocket implements AsyncIterable<SocketMessage> {
	/** Resolves when it is closed, with the code and reason of the close. */
	readonly closed: Promise<Readonly<{ code: number; reason: string }>>;
	/** Of the payment that opened it. */
	readonly receipt: ReturnType<typeof receiptOf>;
	readonly #wire: SocketWire;
	readonly #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
	#turn: Promise<unknown> = Promise.resolve();

	constructor(wire: SocketWire, response: Response) {
		this.#wire = wire;
		this.#reader = response.body?.getReader();
		this.closed = wire.closed;
		this.receipt = receiptOf(response);
	}

	/** Bytes that were given to `send` and have not left. */
	get bufferedAmount(): number {
		return this.#wire.bufferedAmount;
	}

	/** @throws SocketMessageError, SocketClosedError */
	send(message: SocketMessage): void {
		this.#wire.post(message);
	}

	/**
	 * The next message; `undefined` when the server has ended the socket well.
	 *
	 * @throws SocketClosedError when it has not, and what keeps the socket from being paid for
	 */
	next(): Promise<SocketMessage | undefined> {
		const next = this.#turn.then(() => this.#next());
		this.#turn = next.catch(() => undefined);
		return next;
	}

	/** Reads on where it was: to leave a loop does not end the socket, `close` does. */
	async *[Symbol.asyncIterator](): AsyncGenerator<SocketMessage, void, undefined> {
		for (;;) {
			const message = await this.next();
			if (message === undefined) return;
			yield message;
		}
	}

	/** Ends it, and so stops paying: what was read is paid for. */
	async close(): Promise<void> {
		await this.#reader?.cancel().catch(() => undefined);
		this.#wire.close();
		await this.closed;
	}

	async #next(): Promise<SocketMessage | undefined> {
		for (;;) {
			const { done, value } = (await this.#reader?.read()) ?? { done: true };
			if (done) return undefined;
			// Each chunk is one event. One of the payment has no number.
			const [, number = ""] = /^event: message\ndata: (\d+)\n\n$/.exec(new TextDecoder().decode(value)) ?? [];
			const message = this.#wire.take(number);
			if (message !== undefined) return message;
		}
	}
}

/** Opens a paid socket, and pays for its opening. */
export async function openSocket(
	parts: SocketParts,
	input: string | URL,
	options: SocketOptions,
): Promise<PayerSocket> {
	const {
		signal,
		protocols = [],
		openWithinMs = 30_000,
		maxQueuedBytes = 16_777_216,
		connect = platformSocket,
	} = options;
	const { aheadUnits = parts.stream.aheadUnits, stepUnits = parts.stream.stepUnits } = options;
	const url = new URL(input);
	url.protocol = url.protocol.replace(/^ws/, "http");
	url.hash = "";
	// Before anything is connected to: the policy is asked once more when the price is known.
	assertSecure(url.href);
	const request = new Request(url, { ...(signal !== undefined && { signal }) });
	request.signal.throwIfAborted();
	const ws = connect(url.href.replace(/^http/, "ws"), [...protocols]);
	const wire = new SocketWire(ws, request.url, { maxQueuedBytes, elsewhere: parts.send });
	const stop = () => wire.close();
	const tooLate = setTimeout(stop, openWithinMs);
	wire.asked.then(
		() => clearTimeout(tooLate),
		() => clearTimeout(tooLate),
	);
	request.signal.addEventListener("abort", stop);
	void wire.closed.then(() => request.signal.removeEventListener("abort", stop));
	const settings = parseStreamOptions({
		...(aheadUnits !== undefined && { aheadUnits }),
		...(stepUnits !== undefined && { stepUnits }),
		unitsOf: unitCounter(wire, options.unitsOf, parts.now),
	});
	try {
		const response = await parts.pay(request, settings, wire.send);
		if (!response.ok) throw new SocketRefusedError(response);
		return new PayerSocket(wire, response);
	} catch (error) {
		stop();
		request.signal.throwIfAborted();
		throw error;
	}
}

/** How the payer counts messages: as it is told to, else as the server sells. */
function unitCounter(
	wire: SocketWire,
	own: SocketOptions["unitsOf"],
	now: () => number,
): NonNullable<StreamOptions["unitsOf"]> {
	const startedAt = now();
	let seconds = 0;
	return ({ data }) => {
		const message = wire.look(data);
		if (message === undefined) return 0;
		if (own !== undefined) return own(message);
		const sold = wire.unitType?.toLowerCase().replace(/s$/, "");
		if (sold === "byte") return bytesOf(message);
		if (sold !== "second") return 1;
		const begun = Math.max(0, Math.floor((now() - startedAt) / 1_000)) + 1;
		const more = Math.max(0, begun - seconds);
		seconds += more;
		return more;
	};
}

function bytesOf(message: SocketMessage): number {
	if (message instanceof Uint8Array) return message.byteLength;
	return new TextEncoder().encode(typeof message === "string" ? message : JSON.stringify(message.data)).byteLength;
}

function platformSocket(url: string, protocols: string[]): WebSocket {
	if (typeof WebSocket === "undefined") throw new SocketUnavailableError();
	return new WebSocket(url, protocols);
}
