/** Which stream of a channel is its newest: a channel has one at a time (draft-evm-session-00, Concurrency Model; D16). */
export class NewestStream {
	readonly #askedFor = new WeakSet<object>();
	/** Until it has ended. */
	#newest: object | undefined;

	/** A stream is asked for. Only the first time it takes the place of the one before: then it is the same one, resumed. */
	askFor(stream: object): void {
		if (this.#askedFor.has(stream)) return;
		this.#askedFor.add(stream);
		this.#newest = stream;
	}

	/** Whether a newer one has taken the place of this one. */
	hasReplaced(stream: object): boolean {
		return this.#newest !== undefined && this.#newest !== stream;
	}

	ended(stream: object): void {
		if (this.#newest === stream) this.#newest = undefined;
	}
}
