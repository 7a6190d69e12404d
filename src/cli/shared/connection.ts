import { http, type Transport, webSocket } from "viem";
import { socketClientCache } from "viem/utils";

/** How long one call of the RPC may take, and how often it is tried again. */
const RPC_TIMEOUT_MS = 20_000;
const RPC_RETRIES = 2;

/** How the RPC is asked. An open connection would keep the process from ending: `close` it. */
export type Connection = Readonly<{ transport: Transport; close: () => void }>;

/** Asks by HTTP, or by a WebSocket that is opened by the first call and shared by all. */
export function connectTo(url: string, { timeoutMs = RPC_TIMEOUT_MS, retries = RPC_RETRIES } = {}): Connection {
	const options = { timeout: timeoutMs, retryCount: retries };
	if (!/^wss?:/i.test(url)) return { transport: http(url, options), close: () => undefined };
	return {
		// Reconnecting, viem would write its errors to the console, and the RPC's URL with them.
		transport: webSocket(url, { ...options, keepAlive: false, reconnect: false }),
		close: () => {
			for (const socket of socketClientCache.values()) if (socket.url === url) socket.close();
		},
	};
}
