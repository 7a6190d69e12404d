/** What this process connects to, seen below `fetch`: whatever library opens it, a client socket is announced here. */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";

const CHANNEL = "net.client.socket";

export type SocketWatch = Readonly<{
	/** The addresses and names that were looked for or reached since the watch began, each once. */
	hosts(): readonly string[];
	end(): void;
}>;

/**
 * Watches the client sockets of this process from now on.
 *
 * @example
 * const watch = watchSockets();
 * await agent.fetch(url);
 * expect(watch.hosts()).toEqual(["127.0.0.1"]);
 * watch.end();
 */
export function watchSockets(): SocketWatch {
	const hosts = new Set<string>();
	const seen = (message: unknown) => {
		const { socket } = message as { socket: Socket };
		// A name is remembered before it is resolved: an attempt that fails counts too.
		socket.once("lookup", (_error, address: string, _family, host: string) => hosts.add(host ?? address));
		socket.once("connectionAttempt", (address: string) => hosts.add(address));
	};
	subscribe(CHANNEL, seen);
	return { hosts: () => [...hosts], end: () => unsubscribe(CHANNEL, seen) };
}
