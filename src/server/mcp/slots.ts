/** Paid calls that run at a time on one connection, by default. */
export const MAX_RUNNING = 256;

/** Those of all connections of one `McpPayments`, by default. */
export const MAX_RUNNING_IN_ALL = 4_096;

/** A place that one call has, until it is answered and its handler has ended: one that is given up may go on for long. */
export type Slot = Readonly<{
	answered(): void;
	/** Keeps the place until the work is done as well. */
	until(work: Promise<unknown>): void;
}>;

/** How many calls may run at a time: on one connection, within what may run on all of them. */
export class Slots {
	readonly #max: number;
	readonly #all: Slots | undefined;
	#taken = 0;

	constructor(max: number, all?: Slots) {
		this.#max = max;
		this.#all = all;
	}

	/** `undefined` when all are taken. */
	take(): Slot | undefined {
		if (!this.#hasRoom()) return undefined;
		this.#add(1);
		let holds = 1;
		const letGo = () => {
			holds--;
			if (holds === 0) this.#add(-1);
		};
		return {
			answered: letGo,
			until(work) {
				holds++;
				work.then(letGo, letGo);
			},
		};
	}

	#hasRoom(): boolean {
		return this.#taken < this.#max && (this.#all === undefined || this.#all.#hasRoom());
	}

	#add(count: 1 | -1): void {
		this.#taken += count;
		if (this.#all !== undefined) this.#all.#add(count);
	}
}
