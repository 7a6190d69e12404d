/** Work that is done again and again, never twice at a time. */
export class Pass<T> {
	readonly #work: () => Promise<T>;
	#running: Promise<T> | undefined;
	#next: Promise<T> | undefined;

	/** @param work never rejects */
	constructor(work: () => Promise<T>) {
		this.#work = work;
	}

	/** Joins the one under way. */
	begin(): Promise<T> {
		this.#running ??= this.#work().finally(() => {
			this.#running = undefined;
		});
		return this.#running;
	}

	/** One behind the one under way, which may have passed over what has changed meanwhile. */
	next(): Promise<T> {
		this.#next ??= (this.#running ?? Promise.resolve()).then(() => {
			this.#next = undefined;
			return this.begin();
		});
		return this.#next;
	}

	/** Resolves when none is under way. */
	async idle(): Promise<void> {
		await this.#running;
	}
}
