import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

/**
 * A chain's RPC as a server under test sees it: counted, and breakable. What it fails, it fails as a provider that went
 * away does, by closing the socket. Its URL holds something like an API key, so that a log that shows it can be caught.
 */
export class RpcProxy {
	/** Part of the URL that no log and no answer may show. */
	static readonly API_KEY = "rpc-api-key-0f9d5c1b";
	readonly url: string;
	/** Which calls fail now, by method. Nothing by default. */
	fails: (method: string) => boolean = () => false;
	/** What the chain seems to say to a call, where it is not what it says: `{ result: null }` hides what there is. */
	lies: (method: string, params: readonly unknown[]) => Readonly<{ result: unknown }> | undefined = () => undefined;
	/** What the chain is asked instead: as by a node that is behind another one and gives what it has. */
	asks: (method: string, params: readonly unknown[]) => readonly unknown[] = (_, params) => params;
	readonly #counts = new Map<string, number>();
	readonly #close: () => Promise<void>;

	private constructor(url: string, close: () => Promise<void>) {
		this.url = url;
		this.#close = close;
	}

	static async start(target: string): Promise<RpcProxy> {
		let proxy: RpcProxy | undefined;
		const server = createServer(async (request, response) => {
			try {
				const chunks: Buffer[] = [];
				for await (const chunk of request) chunks.push(chunk as Buffer);
				const call = JSON.parse(Buffer.concat(chunks).toString("utf8")) as {
					method: string;
					params?: unknown[];
					id: number;
				};
				const { method, params = [], id } = call;
				proxy?.count(method);
				if (proxy?.fails(method)) {
					request.socket.destroy();
					return;
				}
				response.setHeader("content-type", "application/json");
				const lie = proxy?.lies(method, params);
				if (lie !== undefined) {
					response.end(JSON.stringify({ jsonrpc: "2.0", id, ...lie }));
					return;
				}
				const headers = { "content-type": "application/json" };
				const body = JSON.stringify({ ...call, params: proxy?.asks(method, params) });
				const answer = await fetch(target, { method: "POST", body, headers });
				response.end(await answer.text());
			} catch {
				request.socket.destroy();
			}
		});
		server.listen(0, "127.0.0.1");
		await once(server, "listening");
		const { port } = server.address() as AddressInfo;
		proxy = new RpcProxy(`http://127.0.0.1:${port}/v3/${RpcProxy.API_KEY}`, async () => {
			server.closeAllConnections();
			server.close();
			await once(server, "close");
		});
		return proxy;
	}

	/** How many calls there were, of one method or of all. */
	calls(method?: string): number {
		if (method !== undefined) return this.#counts.get(method) ?? 0;
		return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
	}

	/** Every call fails from now on. */
	down(): void {
		this.fails = () => true;
	}

	/** Every call works again, and the chain says what it says. */
	up(): void {
		this.fails = () => false;
		this.lies = () => undefined;
		this.asks = (_, params) => params;
	}

	/** For the server inside; tests read `calls`. */
	count(method: string): void {
		this.#counts.set(method, (this.#counts.get(method) ?? 0) + 1);
	}

	stop(): Promise<void> {
		return this.#close();
	}
}
