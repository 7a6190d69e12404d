/** Sends a request in a way of its own. */
export type Way = (request: Request) => Promise<Response>;

/**
 * Addresses that stand for something else than HTTP: the operations of an MCP server, say. Requests to them, and those about
 * channels that were opened there, go another way. There each challenge is good for one credential
 * (draft-payment-transport-mcp-00, Replay Protection).
 */
export class Ways {
	readonly #ways = new Map<string, Way>();

	/**
	 * From now on requests to what begins with `prefix` go this way; the newest counts.
	 *
	 * @returns ends it
	 */
	add(prefix: string, way: Way): () => void {
		this.#ways.set(prefix, way);
		return () => {
			if (this.#ways.get(prefix) === way) this.#ways.delete(prefix);
		};
	}

	to(url: string): Way | undefined {
		for (const [prefix, way] of this.#ways) if (url.startsWith(prefix)) return way;
		return undefined;
	}
}
