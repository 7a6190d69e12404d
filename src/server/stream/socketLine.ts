import type { WebSocket } from "ws";
import {
	formatSocketControl,
	parseSocketFrame,
	SOCKET_CLOSE,
	type SocketBeside,
	type SocketControl,
	type SocketMessage,
} from "../../protocol/index.ts";
import { Inbox } from "./socketInbox.ts";

/** Credentials that wait to be looked at: a client has no use for more than one or two. */
const MAX_CREDENTIALS = 16;

/** Messages that wait for the handler. */
const MAX_MESSAGES = 256;

/** The longest reason of a close frame, in bytes (RFC 6455, Control Frames). */
const MAX_REASON_BYTES = 123;

export type LineOptions = Readonly<{
	/** How often it is looked whether the client is still there. One that was not heard of since the last time is gone. */
	pingMs: number;
	/** How many bytes of messages may wait for the handler. */
	maxQueuedBytes: number;
}>;

/** A `Payment …` value, and the `Idempotency-Key` that came along. */
export type SentCredential = Readonly<{ credential: string; idempotencyKey: string | undefined }>;

/** A WebSocket as frames of ours: what comes is sorted and bounded, what goes waits until the connection has taken it. */
export class SocketLine {
	/** What the application is sent. */
	readonly messages: Inbox<SocketMessage>;
	readonly credentials = new Inbox<SentCredential>(MAX_CREDENTIALS, Number.POSITIVE_INFINITY);
	/** Resolves when nothing of the connection is left. */
	readonly closed: Promise<void>;
	/** Whether messages of the application are taken by now. */
	takesMessages = false;
	readonly #ws: WebSocket;
	readonly #leavers = new Set<() => void>();
	/** Something came, or the connection has taken something, since it was last looked. */
	#isAlive = true;

	constructor(ws: WebSocket, { pingMs, maxQueuedBytes }: LineOptions) {
		this.#ws = ws;
		this.messages = new Inbox(MAX_MESSAGES, maxQueuedBytes);
		const { promise, resolve } = Promise.withResolvers<void>();
		this.closed = promise;
		const pinging = setInterval(() => this.#ping(), pingMs);
		const end = () => {
			clearInterval(pinging);
			this.#leave();
			resolve();
		};
		ws.on("message", (data: Buffer, isBinary) => this.#take(data, isBinary));
		ws.on("pong", () => {
			this.#isAlive = true;
		});
		// Its close follows, which says all there is to say.
		ws.on("error", () => this.#leave());
		ws.on("close", end);
		if (ws.readyState === ws.CLOSED) end();
	}

	/** Whether anything can still be sent. */
	get isOpen(): boolean {
		return this.#ws.readyState === this.#ws.OPEN;
	}

	/** Calls `leave` when the client leaves, or is gone already. */
	onLeave(leave: () => void): void {
		if (this.isOpen) this.#leavers.add(leave);
		else leave();
	}

	/** Sends a frame; resolves when the connection has taken it, or was lost. */
	send(frame: string | Uint8Array): Promise<void> {
		const { promise, resolve } = Promise.withResolvers<void>();
		this.#ws.send(frame, (error) => {
			if (!error) this.#isAlive = true;
			resolve();
		});
		return promise;
	}

	/** Says something of the payment. */
	say(event: SocketControl, data: unknown, beside?: SocketBeside): Promise<void> {
		return this.send(formatSocketControl(event, data, beside));
	}

	/** Closes it in good order; a client that does not answer is cut off. */
	close(why: keyof typeof SOCKET_CLOSE, reason = ""): Promise<void> {
		let text = reason;
		while (Buffer.byteLength(text) > MAX_REASON_BYTES) text = text.slice(0, -1);
		this.#ws.close(SOCKET_CLOSE[why], text);
		this.#leave();
		return this.closed;
	}

	#take(data: Buffer, isBinary: boolean): void {
		this.#isAlive = true;
		if (!this.isOpen) return;
		const frame = parseSocketFrame(isBinary ? data : data.toString("utf8"));
		if (frame?.kind === "message" && this.takesMessages) {
			if (!this.messages.push(frame.message, data.length))
				void this.close("policy", "more messages than the handler takes");
		} else if (frame?.kind === "control" && frame.event === "payment-authorization" && isText(frame.data)) {
			const { data: credential, idempotencyKey } = frame;
			if (!this.credentials.push({ credential, idempotencyKey }))
				void this.close("policy", "more credentials than are taken");
		} else {
			const isEarly = frame?.kind === "message";
			void this.close("policy", isEarly ? "pay first, and wait for the receipt" : "not a frame of this protocol");
		}
	}

	#ping(): void {
		if (!this.#isAlive) {
			this.#ws.terminate();
			return;
		}
		this.#isAlive = false;
		if (this.isOpen) this.#ws.ping();
	}

	#leave(): void {
		this.messages.end();
		this.credentials.end();
		const leavers = [...this.#leavers];
		this.#leavers.clear();
		for (const leave of leavers) leave();
	}
}

function isText(value: unknown): value is string {
	return typeof value === "string";
}
