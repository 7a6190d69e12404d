import { AsyncLocalStorage } from "node:async_hooks";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { MessageExtraInfo } from "@modelcontextprotocol/sdk/types.js";
import { isLoopback } from "../../protocol/index.ts";
import type { Transport } from "../engine.ts";
import { nestMeta } from "./nestMeta.ts";

/** By which socket the message that is being heard came. */
const arrival = new AsyncLocalStorage<Transport>();

/** What of the SDK's `StreamableHTTPServerTransport` is used. */
type HttpTransport = Readonly<{
	handleRequest(request: IncomingMessage, response: ServerResponse, body?: unknown): Promise<void>;
}>;

/**
 * Gives an HTTP request to the SDK's transport, and says what that one can't know: by which socket it came. Payments are taken
 * over TLS, and on this machine; a request's own `Host` proves neither. `_meta` at the root of a message goes to where the SDK
 * reads it (`nestMeta`). Behind a proxy that ends TLS the option `transport` of `payments.over` counts instead.
 *
 * @param body the request's, parsed; without it the SDK reads it, and refuses `_meta` at the root
 * @example
 * app.post("/mcp", (request, response) => overHttp(transport, request, response, request.body));
 */
export function overHttp(
	transport: HttpTransport,
	request: IncomingMessage,
	response: ServerResponse,
	body?: unknown,
): Promise<void> {
	const { socket } = request;
	const isSecure = "encrypted" in socket && socket.encrypted === true;
	// A Unix socket has no address.
	const came = { isSecure, isLoopback: !socket.remoteAddress || isLoopback(socket.remoteAddress) };
	return arrival.run(came, () => transport.handleRequest(request, response, nestMeta(body)));
}

/** How a message came, as far as that can be told without its application. */
export function arrivalOf(extra: MessageExtraInfo | undefined): Transport {
	const info = extra?.requestInfo;
	if (info === undefined) return { isSecure: false, isLoopback: true };
	// Its host is what the client, or a proxy, says it is.
	const isHttps = "url" in info && info.url instanceof URL && info.url.protocol === "https:";
	return arrival.getStore() ?? { isSecure: isHttps, isLoopback: false };
}
