import { createServer, type Server, type Socket } from "node:net";
import type { Hex } from "viem";
import type { PayerStore } from "../store/store.ts";
import type { WalletFolder } from "./folder.ts";
import { hear, lineOf, MAX_LINE_BYTES } from "./lines.ts";
import { isSame, listenForOthers, type Whereabouts, withdraw } from "./whereabouts.ts";
import {
	type Announced,
	type Call,
	callShape,
	faultOf,
	fromHolderShape,
	greetingShape,
	type Hello,
	helloShape,
	MAX_CALLS,
	plain,
	WIRE_VERSION,
} from "./wire.ts";

/** What is served: one book, for any number of holders. */
export type SharedBook = Readonly<{
	as(holder: string): PayerStore;
	/** This holder is there again, and has these channels, as far as nobody else was given them. */
	holderBack(holder: string, held: readonly Announced[]): Promise<unknown>;
	/** This holder is gone: what it had is free. */
	holderGone(holder: string): Promise<void>;
}>;

/** Connections at a time, those included that are not let in yet. */
const MAX_CONNECTIONS = 256;
const HELLO_MS = 2_000;
/** A holder that leaves so many pings unanswered is taken for dead. */
const MISSED_PINGS = 4;
/** What waits for a holder that reads nothing. */
const MAX_UNREAD_BYTES = 64 * MAX_LINE_BYTES;

export type OwnerOptions = Readonly<{
	book: SharedBook;
	folder: WalletFolder;
	/** How long a holder may be silent, or away, until its channels are free. */
	holderGraceMs: number;
}>;

/** Serves a wallet's book to the other processes of the agent. A holder is there for as long as its connection is. */
export class WalletOwner {
	readonly #book: SharedBook;
	readonly #folder: WalletFolder;
	readonly #server: Server;
	readonly #pings: NodeJS.Timeout;
	readonly #connections = new Set<HolderConnection>();
	readonly #byHolder = new Map<string, HolderConnection>();
	#whereabouts: Whereabouts | undefined;

	static async start(options: OwnerOptions): Promise<WalletOwner> {
		const owner = new WalletOwner(options);
		try {
			owner.#whereabouts = await listenForOthers(owner.#server, options.folder);
			// Not before: nothing that goes wrong later may end the process.
			owner.#server.on("error", () => undefined);
			return owner;
		} catch (error) {
			await owner.close();
			throw error;
		}
	}

	private constructor({ book, folder, holderGraceMs }: OwnerOptions) {
		this.#book = book;
		this.#folder = folder;
		this.#server = createServer((socket) => this.#accept(socket));
		this.#server.maxConnections = MAX_CONNECTIONS;
		this.#server.unref();
		this.#pings = setInterval(() => {
			for (const connection of this.#connections) connection.ping();
		}, holderGraceMs / MISSED_PINGS);
		this.#pings.unref();
	}

	isConnected(holder: string): boolean {
		return this.#byHolder.has(holder);
	}

	#accept(socket: Socket): void {
		socket.unref();
		const connection: HolderConnection = new HolderConnection(socket, {
			letIn: (hello) => this.#letIn(connection, hello),
			gone: () => this.#gone(connection),
		});
		this.#connections.add(connection);
	}

	/** @returns what the owner answers and the holder's store; `undefined` for whoever may not be let in */
	async #letIn(
		connection: HolderConnection,
		{ token, holder, held }: Hello,
	): Promise<Readonly<{ answer: string; store: PayerStore }> | undefined> {
		const whereabouts = this.#whereabouts;
		if (whereabouts === undefined || !isSame(token, whereabouts.token)) return undefined;
		const earlier = this.#byHolder.get(holder);
		connection.holder = holder;
		this.#byHolder.set(holder, connection);
		// What is still under way for it could take a channel that nobody would know of.
		await earlier?.end();
		await this.#book.holderBack(holder, held);
		return { answer: whereabouts.answer, store: this.#book.as(holder) };
	}

	async #gone(connection: HolderConnection): Promise<void> {
		await connection.end();
		this.#connections.delete(connection);
		const { holder } = connection;
		if (holder === undefined || this.#byHolder.get(holder) !== connection) return;
		this.#byHolder.delete(holder);
		// A book that can't be written to tells whoever asks it next.
		await this.#book.holderGone(holder).catch(() => undefined);
	}

	/** Hangs up on everybody, and is not to be found any more. What is under way is finished. */
	async close(): Promise<void> {
		clearInterval(this.#pings);
		this.#server.close();
		const connections = [...this.#connections];
		this.#byHolder.clear();
		await Promise.all(connections.map((connection) => connection.end()));
		if (this.#whereabouts !== undefined) await withdraw(this.#folder, this.#whereabouts);
	}
}

type HolderHooks = Readonly<{
	letIn: (hello: Hello) => Promise<Readonly<{ answer: string; store: PayerStore }> | undefined>;
	gone: () => void;
}>;

/** One other holder. */
class HolderConnection {
	/** Who it is, once it is let in. */
	holder: string | undefined;
	readonly #socket: Socket;
	readonly #hooks: HolderHooks;
	readonly #calls = new Map<number, Readonly<{ cancel: AbortController; done: Promise<void> }>>();
	readonly #helloDeadline: NodeJS.Timeout;
	#store: PayerStore | undefined;
	#entry: Promise<void> | undefined;
	#missedPings = 0;
	#stopWanted: (() => void) | undefined;

	constructor(socket: Socket, hooks: HolderHooks) {
		this.#socket = socket;
		this.#hooks = hooks;
		this.#helloDeadline = setTimeout(() => socket.destroy(), HELLO_MS);
		this.#helloDeadline.unref();
		hear(socket, { message: (message) => this.#hear(message), gone: hooks.gone });
	}

	#hear(message: unknown): void {
		this.#missedPings = 0;
		if (this.#entry === undefined) {
			this.#entry = this.#enter(message).catch(() => {
				this.#socket.destroy();
			});
			return;
		}
		// Nobody may ask anything before it is let in.
		if (this.#store === undefined) throw new Error("not let in yet");
		const heard = fromHolderShape.parse(message);
		if ("cancel" in heard) this.#calls.get(heard.cancel)?.cancel.abort();
		else if ("ask" in heard) this.#take(this.#store, heard.id, heard.ask);
	}

	async #enter(message: unknown): Promise<void> {
		if (greetingShape.parse(message).wallet !== WIRE_VERSION) {
			// That is all it may know without the token.
			this.#send({ wallet: WIRE_VERSION });
			this.#socket.end();
			return;
		}
		const entry = await this.#hooks.letIn(helloShape.parse(message));
		if (entry === undefined) throw new Error("a wrong token");
		clearTimeout(this.#helloDeadline);
		if (this.#socket.destroyed) return;
		this.#store = entry.store;
		this.#stopWanted = entry.store.onWanted((wanted) => this.#send({ wanted }));
		this.#send({ wallet: WIRE_VERSION, answer: entry.answer });
	}

	#take(store: PayerStore, id: number, ask: unknown): void {
		if (this.#calls.size >= MAX_CALLS || this.#calls.has(id)) throw new Error("too many calls");
		const cancel = new AbortController();
		const done = this.#answer(store, id, ask, cancel.signal).finally(() => this.#calls.delete(id));
		this.#calls.set(id, { cancel, done });
	}

	async #answer(store: PayerStore, id: number, ask: unknown, signal: AbortSignal): Promise<void> {
		try {
			const parsed = callShape.safeParse(ask);
			if (!parsed.success) throw new TypeError("a call that is none");
			const answer = plain((await carryOut(store, parsed.data, signal)) ?? null);
			if (Array.isArray(answer)) this.#sendList(id, answer);
			else this.#sendWhole(id, { id, answer });
		} catch (error) {
			this.#send({ id, fault: faultOf(error) });
		}
	}

	/** In parts, each short enough for a line. */
	#sendList(id: number, items: readonly unknown[]): void {
		let part: unknown[] = [];
		let length = 0;
		for (const item of items) {
			// In UTF-8 a character of a string has three bytes at most.
			const bytes = 3 * JSON.stringify(item).length;
			if (part.length > 0 && length + bytes > MAX_LINE_BYTES / 2) {
				this.#sendWhole(id, { id, part });
				part = [];
				length = 0;
			}
			part.push(item);
			length += bytes;
		}
		this.#sendWhole(id, { id, answer: part });
	}

	#sendWhole(id: number, message: unknown): void {
		if (!this.#send(message)) throw new RangeError(`the answer to ${id} is too long`);
	}

	/** @returns false when it is too long to be sent */
	#send(message: unknown): boolean {
		const line = lineOf(message);
		if (line === undefined) return false;
		if (this.#socket.writableLength > MAX_UNREAD_BYTES) this.#socket.destroy();
		if (this.#socket.writable) this.#socket.write(line);
		return true;
	}

	/** A process that is stopped, or hangs, can't use its channels. */
	ping(): void {
		if (this.#store === undefined) return;
		if (this.#missedPings++ >= MISSED_PINGS) this.#socket.destroy();
		else this.#send({ ping: true });
	}

	/** Hangs up, and waits until nothing is under way any more. */
	async end(): Promise<void> {
		clearTimeout(this.#helloDeadline);
		this.#socket.destroy();
		this.#stopWanted?.();
		await this.#entry;
		const calls = [...this.#calls.values()];
		for (const { cancel } of calls) cancel.abort();
		await Promise.all(calls.map(({ done }) => done));
	}
}

function carryOut(store: PayerStore, call: Call, signal: AbortSignal): Promise<unknown> {
	switch (call.call) {
		case "take":
			return store.take(call.key, call.waitMs, signal);
		case "takeById":
			return store.takeById(call.channelId as Hex, call.waitMs, signal);
		case "add":
			return store.add(call.record, call.max);
		case "write":
			return store.write(call);
		case "confirm":
			return store.confirm(call.channelId, call.fence);
		case "release":
			return store.release(call.channelId, call.fence);
		case "list":
			return store.list(call);
		case "damaged":
			return store.damaged();
		case "counts":
			return store.counts(call.keys);
		case "note":
			return store.note(call.receipt);
		case "receipts":
			return store.receipts(call.limit);
		case "keepPayment":
			return store.keepPayment(call.key, call.payment);
		case "takePayment":
			return store.takePayment(call.key, call.named);
		case "freePayment":
			return store.freePayment(call.key, call.id);
		case "dropPayment":
			return store.dropPayment(call.key, call.id);
		case "setPaused":
			return store.setPaused(call.reason ?? undefined);
		case "paused":
			return store.paused();
		default:
			return store.close();
	}
}
