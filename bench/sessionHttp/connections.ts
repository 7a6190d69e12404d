/** A load of HTTP/1.1 requests that costs little itself, so that the server is what is measured. */
import { connect, type Socket } from "node:net";

export type Load = Readonly<{
	port: number;
	/** Whole requests, heads and all, as they are sent: a text would be put together and copied while the clock runs. */
	requests: readonly Uint8Array[];
	/**
	 * How many connections, each with one request under way. Connection c sends the requests c, c + connections, and so on:
	 * where their number divides that of the payers, who pay in turn, each payer's requests come in their order.
	 */
	connections: number;
	/** Gets how long each took, in ms. */
	latenciesMs: number[];
	/** Looks at the head of an answer; not at all of them, which would cost more than to send them. */
	check: (head: string) => void;
}>;

/** Every so-many-th answer of a connection is looked at; the status of each one is. */
const CHECKED = 50;

/**
 * Sends all requests over kept connections and reads all of their answers.
 *
 * @throws for an answer other than 200, with its text, and for a connection that ends
 */
export async function sendAll({ port, requests, connections, latenciesMs, check }: Load): Promise<void> {
	const connection = async (number: number) => {
		let take = (_text: string): void => undefined;
		const socket = open(port, (text) => take(text));
		try {
			await new Promise<void>((resolve, reject) => {
				let sentAt = 0;
				let at = number - connections;
				const answers = new Answers((head, body) => {
					latenciesMs.push(performance.now() - sentAt);
					if (!head.startsWith("HTTP/1.1 200 "))
						return reject(new Error(`request ${at} was answered: ${head}\n${body}`));
					if (Math.floor(at / connections) % CHECKED === 0) check(head);
					send();
				});
				const send = () => {
					at += connections;
					const request = requests[at];
					if (request === undefined) return resolve();
					sentAt = performance.now();
					socket.write(request);
				};
				take = (text) => {
					try {
						answers.take(text);
					} catch (error) {
						reject(error);
					}
				};
				socket.on("error", reject);
				socket.on("close", () => reject(new Error("the server has closed a connection")));
				socket.on("connect", send);
			});
		} finally {
			socket.destroy();
		}
	};
	await Promise.all(Array.from({ length: Math.min(connections, requests.length) }, (_, number) => connection(number)));
}

/** One buffer for all: what is read is taken out of it at once. (Windows reads ahead: there each would need its own.) */
const read = Buffer.alloc(64 * 1_024);

function open(port: number, take: (text: string) => void): Socket {
	const callback = (length: number) => {
		take(read.toString("latin1", 0, length));
		return true;
	};
	return connect({ host: "127.0.0.1", port, noDelay: true, onread: { buffer: read, callback } });
}

/** Takes answers apart, one at a time: no more than these servers send. */
class Answers {
	readonly #onAnswer: (head: string, body: string) => void;
	#pending = "";

	constructor(onAnswer: (head: string, body: string) => void) {
		this.#onAnswer = onAnswer;
	}

	take(bytes: string): void {
		const text = this.#pending + bytes;
		const headEnd = text.indexOf("\r\n\r\n");
		const head = text.slice(0, headEnd);
		if (headEnd < 0 || !isWhole(head, text.length - headEnd - 4, text)) {
			this.#pending = text;
			return;
		}
		this.#pending = "";
		this.#onAnswer(head, text.slice(headEnd + 4));
	}
}

function isWhole(head: string, bodyLength: number, text: string): boolean {
	const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
	return length === undefined ? text.endsWith("\r\n0\r\n\r\n") : bodyLength >= Number(length);
}
