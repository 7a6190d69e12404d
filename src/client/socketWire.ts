import {
	formatSocketControl,
	formatSocketMessage,
	IDEMPOTENCY_KEY,
	type Problem,
	parseSocketFrame,
	parseSocketRefusal,
	type SocketFrame,
	type SocketMessage,
} from "../protocol/index.ts";
import type { Outgoing } from "./outgoing.ts";
import { receiptAnswer, refusalAnswer, unitTypeOf } from "./socketAnswers.ts";

/** How long the server may take for an answer to a credential, in ms: it may wait for a transaction. */
const ANSWER_MS = 120_000;

/** A paid socket was closed before its handler had ended, or never opened. */
export class SocketClosedError extends Error {
	override readonly name = "SocketClosedError";
	readonly code = "SOCKET_CLOSED";
	/** Of the close frame: 4402 not paid in time, 4409 a newer one took its place, 1011 the server failed, 1006 lost. */
	readonly closeCode: number;
	/** What the server has said of it, if anything. */
	readonly problem: Problem | undefined;
	constructor(closeCode: number, reason: string, problem?: Problem) {
		super(`the paid socket was closed with ${closeCode}${reason === "" ? "" : `: ${reason}`}`);
		this.closeCode = closeCode;
		this.problem = problem;
	}
}

type Control = Extract<SocketFrame, { kind: "control" }>;
type Kept = Readonly<{ message: SocketMessage; bytes: number }>;

/**
 * A paid socket in the shape of what it stands for: an answer with an event stream for its body, and `HEAD` requests beside
 * it. So it is paid for by the very code that pays for streams. Messages wait here, their events carry their number.
 */
export class SocketWire {
	/** The `https:` URL that the socket is at. */
	readonly url: string;
	readonly closed: Promise<Readonly<{ code: number; reason: string }>>;
	/** What one unit of the price is, as the challenge says. */
	unitType: string | undefined;
	readonly #ws: WebSocket;
	readonly #maxQueuedBytes: number;
	readonly #elsewhere: (request: Outgoing, credential?: string) => Promise<Response>;
	readonly #first = Promise.withResolvers<Control>();
	readonly #kept = new Map<number, Kept>();
	readonly #body: ReadableStream<Uint8Array<ArrayBuffer>>;
	#target: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>> | undefined;
	#waiting: PromiseWithResolvers<Control> | undefined;
	#turn: Promise<unknown> = Promise.resolve();
	#keptBytes = 0;
	#lastNumber = 0;
	#hasAsked = false;
	/** Something has come. */
	#isOpened = false;
	#isAdmitted = false;
	readonly #tellClosed: (how: Readonly<{ code: number; reason: string }>) => void;
	#problem: Problem | undefined;
	#failure: Error | undefined;

	/** @param elsewhere sends what is not for this socket: a top-up to where its channel was opened */
	constructor(
		ws: WebSocket,
		url: string,
		{ maxQueuedBytes, elsewhere }: Readonly<{ maxQueuedBytes: number; elsewhere: SocketWire["send"] }>,
	) {
		this.#ws = ws;
		this.url = url;
		this.#maxQueuedBytes = maxQueuedBytes;
		this.#elsewhere = elsewhere;
		const { promise, resolve } = Promise.withResolvers<Readonly<{ code: number; reason: string }>>();
		this.closed = promise;
		this.#first.promise.catch(() => undefined);
		this.#body = new ReadableStream({
			start: (controller) => {
				this.#target = controller;
			},
			cancel: () => this.close(),
		});
		ws.binaryType = "arraybuffer";
		ws.addEventListener("message", ({ data }) => this.#hear(data));
		this.#tellClosed = resolve;
		ws.addEventListener("close", ({ code, reason }) => {
			this.#end(code, reason);
			resolve({ code, reason });
		});
		// Not every platform says that a socket which never opened is closed.
		ws.addEventListener("error", () => {
			if (!this.#hasOpened)
				this.#fail("it could not be opened: its server may take payment by the upgrade's header alone");
		});
	}

	/** Resolves when the server has asked for payment, rejects when it never will. */
	get asked(): Promise<unknown> {
		return this.#first.promise;
	}

	get bufferedAmount(): number {
		return this.#ws.bufferedAmount;
	}

	/** Sends a message of the application. @throws SocketMessageError, SocketClosedError */
	post(message: SocketMessage): void {
		const frame = formatSocketMessage(message);
		if (this.#ws.readyState !== this.#ws.OPEN) throw this.#failure ?? new SocketClosedError(1000, "");
		this.#ws.send(frame as string | Uint8Array<ArrayBuffer>);
	}

	close(): void {
		this.#ws.close(1000);
		if (!this.#hasOpened) this.#fail("it was not opened in time, or not wanted any more");
	}

	/** The message of an event's data; it is kept until it is taken. */
	look(number: string): SocketMessage | undefined {
		return this.#kept.get(Number(number))?.message;
	}

	take(number: string): SocketMessage | undefined {
		const kept = this.#kept.get(Number(number));
		if (kept === undefined) return undefined;
		this.#kept.delete(Number(number));
		this.#keptBytes -= kept.bytes;
		return kept.message;
	}

	/** Sends a request of the payer's as what it is on a socket, and makes a response of what comes back. */
	readonly send = async (request: Outgoing, credential?: string): Promise<Response> => {
		if (request.url !== this.url) return this.#elsewhere(request, credential);
		const first = await this.#first.promise;
		if (credential === undefined && !this.#hasAsked) return this.#responseOf(first);
		try {
			// Without a credential a fresh challenge is wanted.
			const answer = await this.#ask(credential ?? "", request);
			return this.#responseOf(answer);
		} catch (error) {
			if (credential !== undefined) request.answerLost = true;
			throw error;
		}
	};

	/** One credential at a time: its answer is the next thing that the server says of the payment. */
	#ask(credential: string, request: Outgoing): Promise<Control> {
		const { signal } = request;
		// Without one, credit that was signed for an earlier request could not be used.
		const idempotencyKey = request.with(undefined).headers.get(IDEMPOTENCY_KEY);
		const asked = this.#turn.then(async () => {
			signal.throwIfAborted();
			if (this.#failure !== undefined) throw this.#failure;
			const waiting = Promise.withResolvers<Control>();
			const tooLate = setTimeout(() => {
				waiting.reject(new SocketClosedError(1006, "the server does not answer"));
				this.close();
			}, ANSWER_MS);
			this.#waiting = waiting;
			this.#hasAsked = true;
			try {
				this.#ws.send(
					formatSocketControl("payment-authorization", credential, {
						...(idempotencyKey !== null && { idempotencyKey }),
					}),
				);
				return await waiting.promise;
			} finally {
				clearTimeout(tooLate);
				this.#waiting = undefined;
			}
		});
		this.#turn = asked.catch(() => undefined);
		return asked;
	}

	#responseOf({ event, data, isAdmitted = false }: Control): Response {
		if (event === "payment-receipt") return receiptAnswer(data, isAdmitted ? this.#body : undefined);
		this.unitType ??= unitTypeOf(data);
		return refusalAnswer(data);
	}

	#hear(data: unknown): void {
		this.#isOpened = true;
		if (this.#failure !== undefined) return;
		const frame = parseSocketFrame(typeof data === "string" ? data : new Uint8Array(data as ArrayBuffer));
		if (frame?.kind === "message" && this.#isAdmitted) {
			this.#keep(frame.message, typeof data === "string" ? data.length : (data as ArrayBuffer).byteLength);
		} else if (frame?.kind === "control" && frame.event !== "payment-authorization") {
			this.#hearOfPayment(frame);
		} else {
			this.#end(1002, "the server does not speak as a paid socket does");
			this.close();
		}
	}

	#hearOfPayment(control: Control): void {
		const { event, data, isAdmitted = false } = control;
		const isOpening = isAdmitted && !this.#isAdmitted;
		if (isOpening) this.#isAdmitted = true;
		else if (event !== "payment-required" && this.#isAdmitted) this.#emit(event, JSON.stringify(data));
		if (event === "payment-need-voucher") return;
		if (event === "payment-required") {
			this.#problem = parseSocketRefusal(data)?.problem;
			this.#first.resolve(control);
		}
		this.#waiting?.resolve(control);
	}

	#keep(message: SocketMessage, bytes: number): void {
		this.#keptBytes += bytes;
		if (this.#keptBytes > this.#maxQueuedBytes) {
			this.#end(1009, "the server sends more than is read; read on, or raise maxQueuedBytes");
			this.close();
			return;
		}
		this.#lastNumber++;
		this.#kept.set(this.#lastNumber, { message, bytes });
		this.#emit("message", String(this.#lastNumber));
	}

	#emit(event: string, data: string): void {
		this.#target?.enqueue(new TextEncoder().encode(`event: ${event}\ndata: ${data}\n\n`));
	}

	get #hasOpened(): boolean {
		return this.#isOpened || this.#ws.readyState === this.#ws.OPEN;
	}

	#fail(reason: string): void {
		this.#end(1006, reason);
		this.#tellClosed({ code: 1006, reason });
	}

	#end(code: number, reason: string): void {
		if (this.#failure !== undefined) return;
		const failure = new SocketClosedError(code, reason, this.#problem);
		this.#failure = failure;
		this.#first.reject(failure);
		this.#waiting?.reject(failure);
		try {
			if (code === 1000) this.#target?.close();
			else this.#target?.error(failure);
		} catch {
			// Nobody reads any more.
		}
	}
}
