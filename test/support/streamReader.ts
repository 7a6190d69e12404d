/** A client that reads an answer while it comes, as slowly as a test wants. */
import { once } from "node:events";
import { Agent, type IncomingMessage, request } from "node:http";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import {
	decodeReceipt,
	PAYMENT_RECEIPT,
	parseProblem,
	type Receipt,
	receiptFromJson,
} from "../../src/protocol/index.ts";
import type { Send } from "./http.ts";
import { type Draft, encode } from "./payer.ts";

export type Event = EventSourceMessage;

/** What a `payment-need-voucher` event says. */
export type Need = Readonly<{
	channelId: string;
	requiredCumulative: bigint;
	acceptedCumulative: bigint;
	deposit: bigint;
}>;

/** One answer, on a connection of its own. Nothing is read but what is asked for, and what sockets read ahead. */
export class StreamReader {
	readonly #response: IncomingMessage;
	readonly #chunks: AsyncIterator<Buffer>;
	readonly #events: Event[] = [];
	readonly #parser = createParser({ onEvent: (event) => this.#events.push(event) });

	private constructor(response: IncomingMessage) {
		this.#response = response;
		this.#chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
	}

	/** Resolves when the head of the answer is there. */
	static async open(
		origin: string,
		path: string,
		draft: Draft,
		{ method = "GET", key, headers = {}, body }: Omit<Send, "authorization" | "signal"> = {},
	): Promise<StreamReader> {
		const { hostname, port } = new URL(origin);
		const agent = new Agent({ keepAlive: false });
		const sent = request({ agent, hostname, port, path, method, headers: headers as Record<string, string> });
		sent.setHeader("Authorization", encode(draft));
		if (key !== undefined) sent.setHeader("Idempotency-Key", key);
		if (body !== undefined) sent.setHeader("Content-Type", "application/json");
		sent.on("error", () => undefined);
		const answered = once(sent, "response");
		sent.end(body);
		const [response] = (await answered) as [IncomingMessage];
		return new StreamReader(response);
	}

	get status(): number {
		return this.#response.statusCode ?? 0;
	}

	header(name: string): string | undefined {
		const value = this.#response.headers[name.toLowerCase()];
		return Array.isArray(value) ? value.join(", ") : value;
	}

	/** Of the head. */
	get receipt(): Receipt | undefined {
		const field = this.header(PAYMENT_RECEIPT);
		return field === undefined ? undefined : decodeReceipt(field);
	}

	/** Of the trailer, once the answer has ended. */
	get trailer(): Receipt | undefined {
		const field = this.#response.trailers[PAYMENT_RECEIPT.toLowerCase()];
		return field === undefined ? undefined : decodeReceipt(field);
	}

	/** Whatever comes next; `undefined` at the end. Rejects where the answer breaks off. */
	async read(): Promise<Buffer | undefined> {
		const { done, value } = await this.#chunks.next();
		return done ? undefined : value;
	}

	/** The next event; `undefined` at the end. Rejects where the answer breaks off. */
	async event(): Promise<Event | undefined> {
		for (;;) {
			const event = this.#events.shift();
			if (event !== undefined) return event;
			const chunk = await this.read();
			if (chunk === undefined) return undefined;
			this.#parser.feed(chunk.toString("utf8"));
		}
	}

	/** The rest as text. */
	async text(): Promise<string> {
		let text = "";
		for (let chunk = await this.read(); chunk !== undefined; chunk = await this.read()) text += chunk.toString("utf8");
		return text;
	}

	async problem() {
		return parseProblem(JSON.parse(await this.text()));
	}

	/** How many listeners this end's socket has. */
	get listeners(): number {
		const { socket } = this.#response;
		return socket.eventNames().reduce((sum, name) => sum + socket.listenerCount(name), 0);
	}

	/** Closes the connection, as a client that has gone. */
	leave(): void {
		this.#response.socket.destroy();
	}
}

/** What came of an answer: what was delivered, what was asked, and how it ended. */
export type Read = Readonly<{
	pieces: readonly string[];
	needs: readonly Need[];
	receipt: Receipt | undefined;
	isBroken: boolean;
}>;

/**
 * Reads events to the end. `pay` is called with each need; the reading goes on after it.
 *
 * @param stop ends the reading early, when it says so of the pieces so far
 */
export async function readEvents(
	reader: StreamReader,
	pay: (need: Need) => Promise<unknown> = async () => undefined,
	stop: (pieces: readonly string[]) => boolean = () => false,
): Promise<Read> {
	const pieces: string[] = [];
	const needs: Need[] = [];
	let receipt: Receipt | undefined;
	let isBroken = false;
	const next = () =>
		reader.event().catch(() => {
			isBroken = true;
			return undefined;
		});
	for (let event = await next(); event !== undefined; event = await next()) {
		if (event.event === "payment-receipt") receipt = receiptFromJson(JSON.parse(event.data));
		else if (event.event === "payment-need-voucher") {
			const need = needOf(event);
			needs.push(need);
			await pay(need);
		} else pieces.push(event.data);
		if (stop(pieces)) break;
	}
	return { pieces, needs, receipt, isBroken };
}

export function needOf({ data }: Event): Need {
	const { channelId, requiredCumulative, acceptedCumulative, deposit } = JSON.parse(data) as Record<string, string>;
	return {
		channelId: channelId ?? "",
		requiredCumulative: BigInt(requiredCumulative ?? -1),
		acceptedCumulative: BigInt(acceptedCumulative ?? -1),
		deposit: BigInt(deposit ?? -1),
	};
}
