/** A wire that can be watched: a relay for HTTP between a payer of streams and its server. */
import { once } from "node:events";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { createParser } from "eventsource-parser";
import { AUTHORIZATION, IDEMPOTENCY_KEY, parseCredential, parseSessionPayload } from "../../protocol/index.ts";
import { Lead } from "./lead.ts";

/** A request as it passed. */
export type Passed = Readonly<{
	method: string;
	/** What its voucher says in all, in base units; `undefined` where it carries none. */
	cumulativeAmount: bigint | undefined;
	idempotencyKey: string | undefined;
	lastEventId: string | undefined;
}>;

/**
 * Hands requests and answers on, and sees all of it. A voucher has left the client when its request's head is here, and has
 * reached the server when the kernel has taken that head for the server's socket. A unit is an event of a
 * `text/event-stream`, those of the payment itself not counted; it has left the server when its last byte is here, and has
 * reached the client when the kernel has taken that byte for the client's socket.
 *
 * Nothing is kept back: more is read of an answer when what was read of it is handed on, so that a slow reader is as slow
 * to the server as without a relay. Where one side breaks off, so does the other.
 */
export class Wire {
	readonly lead: Lead;
	/** All requests so far. Grows. */
	readonly passed: Passed[] = [];
	readonly #relay: Server;
	readonly #target: URL;
	readonly #answers = new Set<ServerResponse>();

	/**
	 * Opens one on a free port of the loopback interface.
	 *
	 * @param target the server's URL
	 * @param unitPrice what an event costs, in base units
	 */
	static async open(target: string, unitPrice: bigint): Promise<Wire> {
		const wire = new Wire(target, unitPrice);
		wire.#relay.listen(0, "127.0.0.1");
		await once(wire.#relay, "listening");
		return wire;
	}

	private constructor(target: string, unitPrice: bigint) {
		this.#target = new URL(target);
		this.lead = new Lead(unitPrice);
		this.#relay = createServer((near, answer) => this.#handOn(near, answer));
	}

	/** Where the client goes. */
	get url(): string {
		return `http://127.0.0.1:${(this.#relay.address() as AddressInfo).port}`;
	}

	/** How many answers are under way: what a server that has died had sent has been handed on when there are none. */
	get underWay(): number {
		return this.#answers.size;
	}

	async close(): Promise<void> {
		this.#relay.close();
		this.#relay.closeAllConnections();
		await once(this.#relay, "close");
	}

	#handOn(near: IncomingMessage, answer: ServerResponse): void {
		const passed = seen(near);
		const { cumulativeAmount } = passed;
		this.passed.push(passed);
		this.#answers.add(answer);
		if (cumulativeAmount !== undefined) this.lead.voucherLeft(cumulativeAmount);
		const { hostname, port } = this.#target;
		const { method, url: path, headers } = near;
		const far = request({ hostname, port, method, path, headers });
		far.on("finish", () => {
			if (cumulativeAmount !== undefined) this.lead.voucherArrived(cumulativeAmount);
		});
		far.on("response", (response) => void this.#answer(response, answer).catch(() => answer.destroy()));
		far.on("error", () => answer.destroy());
		answer.on("close", () => {
			this.#answers.delete(answer);
			far.destroy();
		});
		near.pipe(far);
	}

	async #answer(response: IncomingMessage, answer: ServerResponse): Promise<void> {
		let units = 0;
		const events = createParser({
			onEvent({ event }) {
				if (!event?.startsWith("payment-")) units++;
			},
		});
		const isEventStream = response.headers["content-type"]?.startsWith("text/event-stream") === true;
		const decoder = new TextDecoder();
		answer.writeHead(response.statusCode ?? 502, response.rawHeaders);
		answer.flushHeaders();
		for await (const chunk of response) {
			if (isEventStream) events.feed(decoder.decode(chunk, { stream: true }));
			for (let unit = 0; unit < units; unit++) this.lead.unitLeft();
			await new Promise<void>((resolve, reject) => {
				answer.write(chunk, (error) => (error ? reject(error) : resolve()));
			});
			this.lead.unitsArrived(units);
			units = 0;
		}
		answer.end();
	}
}

function seen({ method = "", headers }: IncomingMessage): Passed {
	const one = (name: string) => {
		const value = headers[name.toLowerCase()];
		return Array.isArray(value) ? value[0] : value;
	};
	return {
		method,
		cumulativeAmount: cumulativeOf(one(AUTHORIZATION)),
		idempotencyKey: one(IDEMPOTENCY_KEY),
		lastEventId: one("last-event-id"),
	};
}

function cumulativeOf(authorization: string | undefined): bigint | undefined {
	if (authorization === undefined) return undefined;
	const payload = parseSessionPayload(parseCredential(authorization).payload);
	return "cumulativeAmount" in payload ? payload.cumulativeAmount : undefined;
}
