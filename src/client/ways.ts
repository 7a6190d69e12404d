/** Sends a request in a way of its own. */
export type Way = (request: Request) => Promise<Response>;

/**
 * Addresses that stand for something else than HTTP: the operations of an MCP server, say. Requests to them, and those about
 * channels that were opened there, go another way. There each challenge is good for one credential
 * (draft-payment-transport-mcp-00, Replay Protection).
 */
export class Ways {
	/** The newest first. */
	#ways: readonly Readonly<{ prefix: string; way: Way }>[] = [];

	/**
	 * From now on requests to what begins with `prefix` go this way; of several that fit the newest counts.
	 *
	 * @returns ends it
	 */
	add(prefix: string, way: Way): () => void {
		const added = { prefix, way };
		this.#ways = [added, ...this.#ways];
		return () => {
			this.#ways = this.#ways.filter((one) => one !== added);
		};
	}

	to(url: string): Way | undefined {
		return this.#ways.find(({ prefix }) => url.startsWith(prefix))?.way;
	}
}
