/**
 * Stands between a client and a server, and knows where their messages begin and end: cuts, delays, duplicates and reorders
 * what passes, as it is told for each exchange.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { decodeRequest, parseCredential } from "../../../src/protocol/index.ts";
import type { Fault, Hold } from "./plan.ts";

/** A server's answer as it came. */
export type Seen = Readonly<{ status: number; reason: string; headers: readonly string[]; head: Buffer; body: Buffer }>;

/** One request on its way: by its `Idempotency-Key`, the how manieth try of it. */
export type Passing = Readonly<{ key: string; attempt: number; isPaid: boolean; method: string; path: string }>;

/** What became of the requests with one key. */
export type Trail = Readonly<{
	/** Tries that the client made. */
	attempts: number;
	/** The highest price of the challenges that they answered, in base units. */
	agreed: bigint;
	/** The server's answers, also those that were lost. */
	answers: readonly Seen[];
	/** Whether the client lacks an answer to a payment that the server may have. */
	isLost: boolean;
}>;

type Mutable<T> = { -readonly [Name in keyof T]: T[Name] };
type Writable = Mutable<Omit<Trail, "answers">> & { answers: Seen[] };

/** How much shorter a pause is that the server asks for: it is right for people's networks, and long for ten thousand schedules. */
const HASTE = 0.005;

export class FaultProxy {
	readonly #server: Server;
	readonly #target: () => string;
	/** Whether requests lose their `Idempotency-Key`: nobody can be told from a copy then. */
	dropsKeys = false;
	/** Is told what passes. */
	trace: (text: string) => void = () => undefined;
	#faultOf: (passing: Passing) => Fault = () => ({});
	#onSeen: (count: number) => void = () => undefined;
	#onGone: (key: string) => void = () => undefined;
	#seen = 0;
	readonly #trails = new Map<string, Writable>();
	readonly #active = new Set<Promise<unknown>>();
	#failure: Error | undefined;
	readonly #holds = { request: new Set<() => void>(), response: new Set<() => void>() };
	#copies: { raw: Buffer; key: string; left: number }[] = [];

	private constructor(target: () => string) {
		this.#target = target;
		this.#server = createServer((request, response) => this.#track(this.#exchange(request, response)));
		this.#server.keepAliveTimeout = 60_000;
		this.#server.on("connection", (socket) => socket.on("error", () => undefined));
	}

	/** @param target - where the server is: its origin */
	static async start(target: () => string): Promise<FaultProxy> {
		const proxy = new FaultProxy(target);
		proxy.#server.listen(0, "127.0.0.1");
		await once(proxy.#server, "listening");
		return proxy;
	}

	get host(): string {
		return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
	}

	/**
	 * From now on.
	 *
	 * @param faultOf - what happens to each exchange
	 * @param onGone - hears of the requests whose channel the server does not have (any more)
	 * @param onSeen - hears how many exchanges have come since
	 */
	disturb(
		faultOf: (passing: Passing) => Fault,
		onGone: (key: string) => void = () => undefined,
		onSeen: (count: number) => void = () => undefined,
	): void {
		this.#faultOf = faultOf;
		this.#onGone = onGone;
		this.#onSeen = onSeen;
		this.#seen = 0;
	}

	/** No faults from now on: what is held goes on, what was to come later comes now. Resolves when nothing is on its way. */
	async quiet(): Promise<void> {
		this.#faultOf = () => ({});
		for (const holds of Object.values(this.#holds)) for (const goOn of [...holds]) goOn();
		for (const copy of this.#copies.splice(0)) this.#track(this.#ask(copy.raw, copy.key));
		while (this.#active.size > 0) await Promise.all(this.#active);
		if (this.#failure !== undefined) throw this.#failure;
	}

	/** What was seen so far is of no interest any more. */
	forget(): void {
		this.#trails.clear();
	}

	trail(key: string): Trail {
		return this.#trailOf(key);
	}

	async stop(): Promise<void> {
		this.#server.closeAllConnections();
		this.#server.close();
		await once(this.#server, "close");
	}

	async #exchange(request: IncomingMessage, response: ServerResponse): Promise<void> {
		const { socket } = request;
		response.on("error", () => undefined);
		const chunks: Buffer[] = [];
		for await (const chunk of request) chunks.push(chunk as Buffer);
		const { method = "", url: path = "", headers } = request;
		const key = String(headers["idempotency-key"] ?? "");
		const trail = this.#trailOf(key);
		const isPaid = headers.authorization !== undefined;
		const attempt = trail.attempts++;
		const agreed = priceOf(headers.authorization);
		if (agreed > trail.agreed) trail.agreed = agreed;
		const fault = this.#faultOf({ key, attempt, isPaid, method, path });
		this.trace(`-> ${method} ${path} ${attempt} ${paymentOf(headers.authorization)} ${JSON.stringify(fault)}`);
		this.#onSeen(++this.#seen);
		this.#sendDueCopies();
		const raw = rawRequest(request, Buffer.concat(chunks), this.dropsKeys ? WITHOUT_KEY : HOP_BY_HOP);
		const answer = await this.#pass(raw, key, fault, socket);
		if (answer === undefined) {
			trail.isLost ||= isPaid && fault.cut !== "beforeRequest";
			return;
		}
		if (fault.holdResponse !== undefined) await this.#hold("response", fault.holdResponse);
		if (GONE.test(answer.body.toString("latin1"))) this.#onGone(key);
		const arrived = await deliver(answer, response, fault);
		this.trace(`${arrived ? "<-" : "<x"} ${method} ${path} ${attempt} ${answerOf(answer)}`);
		this.#overtake("response");
		trail.isLost ||= isPaid && !arrived;
	}

	/** The request's way; resolves to the answer, or to nothing when the client's connection was cut. */
	async #pass(raw: Buffer, key: string, fault: Fault, socket: Socket): Promise<Seen | undefined> {
		const { cut, copy, byReset = false } = fault;
		if (fault.holdRequest !== undefined) await this.#hold("request", fault.holdRequest);
		this.#overtake("request");
		if (cut === "beforeRequest") return end(socket, byReset);
		if (cut === "inRequest" || cut === "afterRequest") {
			await this.#drop(cut === "inRequest" ? raw.subarray(0, Math.floor(raw.length * 0.7)) : raw, byReset);
			return end(socket, byReset);
		}
		if (copy === "before") await this.#ask(raw, key);
		if (copy === "beside") this.#track(this.#ask(raw, key));
		if (typeof copy === "number") this.#copies.push({ raw, key, left: copy });
		const answer = await this.#ask(raw, key);
		if (copy === "after") this.#track(this.#ask(raw, key));
		if (answer === undefined || cut === "beforeResponse") return end(socket, byReset);
		return answer;
	}

	/** Sends a request, or a part of it, and leaves: the server may have read it. */
	async #drop(raw: Buffer, byReset: boolean): Promise<void> {
		const upstream = this.#connect();
		await new Promise<void>((resolve) => {
			upstream.on("error", () => undefined).on("close", () => resolve());
			upstream.write(raw, () => setImmediate(() => end(upstream, byReset)));
		});
	}

	/** Sends a request on a connection of its own; resolves to the server's answer, or to nothing where it gave none. */
	async #ask(raw: Buffer, key: string): Promise<Seen | undefined> {
		const upstream = this.#connect();
		const chunks: Buffer[] = [];
		const bytes = await new Promise<Buffer>((resolve) => {
			upstream
				.on("data", (chunk: Buffer) => chunks.push(chunk))
				.on("error", () => undefined)
				.on("close", () => resolve(Buffer.concat(chunks)));
			upstream.write(raw);
		});
		const answer = parseAnswer(bytes, raw.toString("latin1", 0, 5) === "HEAD ");
		if (answer !== undefined) this.#trailOf(key).answers.push(answer);
		return answer;
	}

	#connect(): Socket {
		const { hostname, port } = new URL(this.#target());
		return connect({ host: hostname, port: Number(port), noDelay: true });
	}

	#sendDueCopies(): void {
		for (const copy of this.#copies) copy.left--;
		const due = this.#copies.filter(({ left }) => left <= 0);
		this.#copies = this.#copies.filter(({ left }) => left > 0);
		for (const { raw, key } of due) this.#track(this.#ask(raw, key));
	}

	#hold(phase: "request" | "response", { ms, untilOvertaken }: Hold): Promise<void> {
		return new Promise((resolve) => {
			const goOn = () => {
				clearTimeout(timer);
				this.#holds[phase].delete(goOn);
				resolve();
			};
			const timer = setTimeout(goOn, ms);
			if (untilOvertaken) this.#holds[phase].add(goOn);
		});
	}

	#overtake(phase: "request" | "response"): void {
		const [first] = this.#holds[phase];
		first?.();
	}

	#track(work: Promise<unknown>): void {
		const failed = (error: Error) => {
			this.#failure ??= error;
		};
		const tracked = work.catch(failed).finally(() => this.#active.delete(tracked));
		this.#active.add(tracked);
	}

	#trailOf(key: string): Writable {
		const known = this.#trails.get(key) ?? { attempts: 0, agreed: 0n, answers: [], isLost: false };
		this.#trails.set(key, known);
		return known;
	}
}

/** Ends a connection. Returns nothing, for whoever has no answer then. */
function end(socket: Socket, byReset: boolean): undefined {
	if (byReset) socket.resetAndDestroy();
	else socket.destroy();
}

/** Hands an answer to the client as far as the fault lets it. Resolves to whether it has it whole. */
async function deliver(answer: Seen, response: ServerResponse, { cut, byReset = false }: Fault): Promise<boolean> {
	const { socket } = response;
	const { status, reason, headers, head, body } = answer;
	if (socket === null || socket.destroyed) return false;
	const flushed = () => new Promise<void>((resolve) => setImmediate(resolve));
	if (cut === "inHead") {
		socket.write(head.subarray(0, Math.floor(head.length / 2)));
		await flushed();
		end(socket, byReset);
		return false;
	}
	response.sendDate = false;
	response.writeHead(status, reason, [...headers]);
	if (cut === "afterHead" || cut === "inBody") {
		response.flushHeaders();
		if (cut === "inBody" && body.length > 1) response.write(body.subarray(0, Math.floor(body.length / 2)));
		await flushed();
		end(socket, byReset);
		return false;
	}
	const finished = new Promise<void>((resolve) => response.on("close", resolve).on("finish", resolve));
	response.end(body);
	await finished;
	// An orderly end: a reset may overtake what was written.
	if (cut === "afterResponse") socket.destroySoon();
	return true;
}

/** The problems after which a request is paid on another channel (D10). */
const GONE = /"type":"[^"]*\/session\/channel-(not-found|finalized)"/;

const HOP_BY_HOP = new Set(["connection", "keep-alive", "transfer-encoding"]);
const WITHOUT_KEY = new Set([...HOP_BY_HOP, "idempotency-key"]);

/** The request's bytes, for a connection that carries nothing else. */
function rawRequest({ method, url, rawHeaders }: IncomingMessage, body: Buffer, dropped: ReadonlySet<string>): Buffer {
	const lines = [`${method} ${url} HTTP/1.1`];
	for (let index = 0; index < rawHeaders.length; index += 2) {
		const name = rawHeaders[index] ?? "";
		if (dropped.has(name.toLowerCase()) || name.toLowerCase() === "content-length") continue;
		lines.push(`${name}: ${rawHeaders[index + 1]}`);
	}
	if (method === "POST" || body.length > 0) lines.push(`Content-Length: ${body.length}`);
	return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\nConnection: close\r\n\r\n`, "latin1"), body]);
}

/** What a server sent on a connection that it closes after its answer; nothing where it did not come to that. */
function parseAnswer(bytes: Buffer, toHead: boolean): Seen | undefined {
	const headEnd = bytes.indexOf("\r\n\r\n");
	if (headEnd < 0) return undefined;
	const head = bytes.subarray(0, headEnd + 4);
	const [first = "", ...lines] = head.toString("latin1").trimEnd().split("\r\n");
	const [, status = "", reason = ""] = /^HTTP\/1\.1 (\d{3}) ?(.*)$/.exec(first) ?? [];
	const headers: string[] = [];
	let length = 0;
	for (const line of lines) {
		const colon = line.indexOf(":");
		const name = line.slice(0, colon);
		const value = line.slice(colon + 1).trim();
		if (name.toLowerCase() === "transfer-encoding") throw new Error("an answer of a test's server has a length");
		if (name.toLowerCase() === "content-length") length = Number(value);
		if (HOP_BY_HOP.has(name.toLowerCase())) continue;
		headers.push(name, name.toLowerCase() === "retry-after" ? String(Number(value) * HASTE) : value);
	}
	const body = bytes.subarray(headEnd + 4);
	// The server has died in the middle of it.
	if (!toHead && body.length < length) return undefined;
	return { status: Number(status), reason, headers, head, body };
}

/** The price of the challenge that a credential answers. */
function priceOf(authorization: string | undefined): bigint {
	if (authorization === undefined) return 0n;
	return BigInt(String(decodeRequest(parseCredential(authorization).challenge).amount));
}

/** What a credential pays with, for the trace. */
function paymentOf(authorization: string | undefined): string {
	if (authorization === undefined) return "unpaid";
	const { action, type, cumulativeAmount, topUp, deposit } = parseCredential(authorization).payload as Record<
		string,
		unknown
	>;
	const more = topUp === undefined && deposit === undefined ? "" : " with a deposit";
	return `${action ?? type} ${cumulativeAmount ?? ""}${more}`;
}

/** What an answer says of money, for the trace. */
function answerOf({ status, headers, body }: Seen): string {
	const receipt =
		headers[headers.findIndex((name, index) => index % 2 === 0 && name.toLowerCase() === "payment-receipt") + 1];
	if (status >= 400) return `${status} ${body.toString("utf8").slice(0, 400)}`;
	return `${status} ${receipt === undefined ? "" : Buffer.from(receipt, "base64url").toString("utf8").slice(0, 400)}`;
}
