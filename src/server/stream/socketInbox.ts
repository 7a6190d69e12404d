/** What has come and nobody has taken yet, bounded. May be iterated several times, one after the other: it goes on where it was. */
export class Inbox<T> implements AsyncIterable<T> {
	readonly #maxItems: number;
	readonly #maxBytes: number;
	readonly #items: { item: T; bytes: number }[] = [];
	readonly #waiting: ((result: IteratorResult<T, undefined>) => void)[] = [];
	#bytes = 0;
	#ended = false;

	constructor(maxItems: number, maxBytes: number) {
		this.#maxItems = maxItems;
		this.#maxBytes = maxBytes;
	}

	/** False when it is full: then the item is not taken. */
	push(item: T, bytes = 0): boolean {
		if (this.#ended) return true;
		const waiting = this.#waiting.shift();
		if (waiting !== undefined) {
			waiting({ done: false, value: item });
			return true;
		}
		if (this.#items.length >= this.#maxItems || this.#bytes + bytes > this.#maxBytes) return false;
		this.#items.push({ item, bytes });
		this.#bytes += bytes;
		return true;
	}

	/** Nothing more comes; what is there can still be taken. */
	end(): void {
		this.#ended = true;
		for (const waiting of this.#waiting.splice(0)) waiting({ done: true, value: undefined });
	}

	next(): Promise<IteratorResult<T, undefined>> {
		const first = this.#items.shift();
		if (first !== undefined) {
			this.#bytes -= first.bytes;
			return Promise.resolve({ done: false, value: first.item });
		}
		if (this.#ended) return Promise.resolve({ done: true, value: undefined });
		const { promise, resolve } = Promise.withResolvers<IteratorResult<T, undefined>>();
		this.#waiting.push(resolve);
		return promise;
	}

	[Symbol.asyncIterator](): AsyncIterator<T, undefined> {
		return { next: () => this.next() };
	}
}
