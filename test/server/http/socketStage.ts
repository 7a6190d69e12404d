/** Paid sockets on a real server, and clients that say whatever a test tells them to. */
import { once } from "node:events";
import type { IncomingMessage, Server } from "node:http";
import { WebSocket } from "ws";
import { parseProblem, parseSocketFrame, type SocketControl, type SocketFrame } from "../../../src/protocol/index.ts";
import {
	type PaidSockets,
	type PriceConfig,
	paidSocket,
	type SocketHandler,
	type SocketOptions,
} from "../../../src/server/index.ts";
import { type Draft, encode, type PaidServer, type ServerOptions, type World } from "../../support/world.ts";

/** How long a condition may take to come true. */
const DEADLINE_MS = 20_000;

export type SocketPlace = Readonly<{ server: PaidServer; sockets: PaidSockets }>;

/** What one message costs here. */
export const UNIT = 100n;

export const METERED: PriceConfig = { price: UNIT, unitType: "message", metered: { per: "piece", blockUnits: 1 } };

/** A server with paid sockets at `/chat`, where vouchers are taken by `HEAD` as well. */
export async function serveSockets(
	world: World,
	handler: SocketHandler,
	{
		price = METERED,
		...options
	}: SocketOptions & Readonly<{ price?: PriceConfig; server?: Partial<ServerOptions> }> = {},
): Promise<SocketPlace> {
	let http: Server | undefined;
	let sockets: PaidSockets | undefined;
	const server = await world.serve({
		...options.server,
		routes(app) {
			http = app.server;
			app.get("/chat", { config: { payment: price } }, async () => "over HTTP");
			app.addHook("preClose", async () => sockets?.close());
		},
	});
	sockets = await paidSocket(server.engine, price, handler, { pingMs: 5_000, ...options });
	http?.on("upgrade", sockets.upgrade);
	return { server, sockets };
}

export type Said = Extract<SocketFrame, { kind: "control" }> & Readonly<{ data: Record<string, unknown> }>;

/** A client of a paid socket that does nothing by itself. */
export class Client {
	readonly ws: WebSocket;
	/** All frames so far, in order. */
	readonly frames: SocketFrame[] = [];
	readonly closed: Promise<Readonly<{ code: number; reason: string }>>;
	/** Answers in plain HTTP, where the server did not upgrade. */
	readonly answered: Promise<IncomingMessage>;
	/** The head of the upgrade. */
	head: IncomingMessage | undefined;

	constructor({ url }: Pick<PaidServer, "url">, authorization?: Draft | string, headers: Record<string, string> = {}) {
		const value = typeof authorization === "object" ? encode(authorization) : authorization;
		this.ws = new WebSocket(`${url.replace("http", "ws")}/chat`, {
			headers: { ...headers, ...(value !== undefined && { Authorization: value }) },
		});
		this.ws.on("error", () => undefined);
		this.ws.on("upgrade", (response) => {
			this.head = response;
		});
		this.ws.on("message", (data: Buffer, isBinary) => {
			const frame = parseSocketFrame(isBinary ? new Uint8Array(data) : data.toString());
			if (frame === undefined) throw new Error(`not a frame: ${data.toString()}`);
			this.frames.push(frame);
		});
		this.closed = once(this.ws, "close").then(([code, reason]) => ({ code, reason: String(reason) }));
		this.answered = once(this.ws, "unexpected-response").then(([, response]) => response as IncomingMessage);
		this.answered.catch(() => undefined);
	}

	/** What the application has sent. */
	get messages() {
		return this.frames.flatMap((frame) => (frame.kind === "message" ? [frame.message] : []));
	}

	/** What was said of the payment, by its name. */
	said(event: SocketControl): readonly Said[] {
		return this.frames.flatMap((frame) => (frame.kind === "control" && frame.event === event ? [frame as Said] : []));
	}

	/** The server's receipts, as numbers. */
	get receipts() {
		return this.said("payment-receipt").map(({ data, isAdmitted = false }) => ({
			acceptedCumulative: BigInt(String(data.acceptedCumulative)),
			spent: BigInt(String(data.spent)),
			isAdmitted,
		}));
	}

	authorize(draft: Draft | string, idempotencyKey?: string): void {
		const data = typeof draft === "string" ? draft : encode(draft);
		this.ws.send(JSON.stringify({ event: "payment-authorization", data, idempotencyKey }));
	}

	send(event: string, data: unknown): void {
		this.ws.send(JSON.stringify({ event, data }));
	}
}

/** The plain answer to an upgrade: its status, and the type of its problem. */
export async function plainAnswer(client: Client) {
	const response = await client.answered;
	let text = "";
	for await (const chunk of response) text += String(chunk);
	const { statusCode: status, headers } = response;
	return { status, headers, problem: text === "" ? undefined : parseProblem(JSON.parse(text)) };
}

/** Waits until something is so. */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
	const deadline = Date.now() + DEADLINE_MS;
	while (!(await isSo())) {
		if (Date.now() > deadline) throw new Error(`not so in time: ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
}
