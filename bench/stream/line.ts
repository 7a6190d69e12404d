/** Kept connections for what is said beside the streams: requests without a body, whose answers have none. */
import { connect, type Socket } from "node:net";

type Asked = Readonly<{ request: string; answered: (head: string) => void }>;

/** Sends requests over a few connections, one at a time on each. */
export class Line {
	readonly #port: number;
	readonly #most: number;
	readonly #fail: (error: Error) => void;
	readonly #idle: Connection[] = [];
	readonly #all = new Set<Socket>();
	readonly #waiting: Asked[] = [];
	#at = 0;

	constructor({
		port,
		connections,
		fail,
	}: Readonly<{ port: number; connections: number; fail: (error: Error) => void }>) {
		this.#port = port;
		this.#most = connections;
		this.#fail = fail;
	}

	/** `HEAD` alone. @param answered gets the head of the answer */
	send(request: string, answered: (head: string) => void): void {
		const asked = { request, answered };
		const connection = this.#idle.pop();
		if (connection !== undefined) connection.ask(asked);
		else if (this.#all.size < this.#most) this.#connect().ask(asked);
		else this.#waiting.push(asked);
	}

	/** Whatever is under way is given up. */
	close(): void {
		for (const socket of this.#all) socket.destroy();
		this.#all.clear();
	}

	#connect(): Connection {
		const socket = connect({ host: "127.0.0.1", port: this.#port, noDelay: true });
		this.#all.add(socket);
		socket.on("error", this.#fail);
		const connection: Connection = new Connection(socket, () => {
			const next = this.#waiting[this.#at];
			if (next === undefined) {
				this.#waiting.length = this.#at = 0;
				this.#idle.push(connection);
				return;
			}
			this.#at++;
			connection.ask(next);
		});
		return connection;
	}
}

class Connection {
	readonly #socket: Socket;
	#asked: Asked | undefined;
	#head = "";

	constructor(socket: Socket, onFree: () => void) {
		this.#socket = socket;
		socket.on("data", (bytes) => {
			this.#head += bytes.toString("latin1");
			if (!this.#head.endsWith("\r\n\r\n")) return;
			const head = this.#head;
			this.#head = "";
			this.#asked?.answered(head);
			onFree();
		});
	}

	ask(asked: Asked): void {
		this.#asked = asked;
		this.#socket.write(asked.request, "latin1");
	}
}
