import type { Server } from "node:http";
import type { Socket } from "node:net";

/**
 * Watches the connections that have not sent a byte yet, as browsers open some in advance. Node takes each for one whose
 * request is on its way, and waits for it up to `headersTimeout`, a minute, before the server is closed.
 *
 * @returns ends those that are silent by then
 */
export function watchSilent(server: Pick<Server, "on">): () => void {
	const open = new Set<Socket>();
	const watch = (socket: Socket) => {
		open.add(socket);
		socket.once("close", () => open.delete(socket));
	};
	server.on("connection", watch);
	// Of TLS: one that has said nothing but its handshake.
	server.on("secureConnection", watch);
	return () => {
		for (const socket of open) if (socket.bytesRead === 0) socket.destroy();
	};
}
