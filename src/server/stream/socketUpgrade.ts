import { type IncomingMessage, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { WebSocketServer } from "ws";
import { ACCEPT_PAYMENT, IDEMPOTENCY_KEY, isLoopback } from "../../protocol/index.ts";
import { type OwnAnswer, refusalAnswer } from "../answer.ts";
import type { PaymentEngine, Transport } from "../engine.ts";
import type { SocketOrder } from "./socketAdmission.ts";
import { SocketLibraryError } from "./socketTypes.ts";

/** How long a client may take to answer a close. */
const CLOSE_MS = 5_000;

export function orderOf(engine: PaymentEngine, request: IncomingMessage, offers: SocketOrder["offers"]): SocketOrder {
	const idempotencyKey = fieldOf(request, IDEMPOTENCY_KEY);
	return {
		engine,
		request,
		url: request.url ?? "",
		offers,
		idempotencyKey,
		asked: { acceptPayment: fieldOf(request, ACCEPT_PAYMENT) },
	};
}

function fieldOf({ headersDistinct }: IncomingMessage, name: string): string | undefined {
	return headersDistinct[name.toLowerCase()]?.join(",");
}

export function transportOf({ socket }: IncomingMessage): Transport {
	const { remoteAddress } = socket;
	// A Unix socket has no address.
	return {
		isSecure: (socket as TLSSocket).encrypted === true,
		isLoopback: !remoteAddress || isLoopback(remoteAddress),
	};
}

/** What `ws` asks of a request as well: looked at before anything is charged for it. */
export function isHandshake({ method, headers }: IncomingMessage): boolean {
	const isKey = /^[+/0-9A-Za-z]{22}==$/.test(headers["sec-websocket-key"] ?? "");
	const isVersion = ["13", "8"].includes(headers["sec-websocket-version"] ?? "");
	return method === "GET" && headers.upgrade?.toLowerCase() === "websocket" && isKey && isVersion;
}

/** Answers in plain HTTP, and ends the connection. */
export function answer(socket: Duplex, { status, headers, body }: OwnAnswer): void {
	const bytes = Buffer.from(body ?? "");
	const fields = Object.entries({ ...headers, "content-length": String(bytes.length), connection: "close" });
	const lines = fields.flatMap(([name, value]) => [value].flat().map((one) => `${name}: ${one}`));
	socket.once("finish", () => socket.destroy());
	socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n${lines.join("\r\n")}\r\n\r\n`);
	socket.end(bytes);
}

/** What the application's price function says itself of a request that it has no price for. */
export function failureAnswer(engine: PaymentEngine, error: unknown): OwnAnswer {
	const { statusCode } = error as Readonly<{ statusCode?: unknown }>;
	if (typeof statusCode === "number" && statusCode >= 400 && statusCode < 500)
		return { status: statusCode, headers: {}, body: null };
	return refusalAnswer(engine, [], engine.refusalFor(error), {});
}

export async function loadUpgrader(maxPayload: number): Promise<WebSocketServer> {
	const library = await import("ws").catch((error: unknown) => {
		throw new SocketLibraryError(error);
	});
	const options = {
		noServer: true,
		clientTracking: false,
		perMessageDeflate: false,
		maxPayload,
		closeTimeout: CLOSE_MS,
	};
	return new library.WebSocketServer(options);
}
