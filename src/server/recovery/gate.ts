/**
 * Keeps threads from being at their arithmetic when the process ends. Node terminates them then, and libsecp256k1's addon makes an
 * abort of it when what it calls in the middle fails: an exit code of 134 where another one was given.
 */

const SHUT = 0;
const INSIDE = 1;

/** How long the end of the process may be held up, in ms: many times what a signature takes, in JavaScript too. */
const MOST_MS = 50;

/** One for all threads of a process; `shared` is what they are given of it. */
export class Gate {
	readonly shared: Int32Array<SharedArrayBuffer>;

	constructor(shared = new Int32Array(new SharedArrayBuffer(8))) {
		this.shared = shared;
	}

	/** What a thread does inside. Once the gate is shut this and `pass` never return. */
	inside<T>(work: () => T): T {
		Atomics.add(this.shared, INSIDE, 1);
		try {
			this.pass();
			return work();
		} finally {
			this.#leave();
		}
	}

	/** Between two signatures. */
	pass(): void {
		if (Atomics.load(this.shared, SHUT) === 0) return;
		this.#leave();
		Atomics.wait(this.shared, SHUT, 1);
	}

	#leave(): void {
		Atomics.sub(this.shared, INSIDE, 1);
		Atomics.notify(this.shared, INSIDE);
	}

	/** Nobody enters any more; waits until nobody is inside, for as long as the end of a process can wait. */
	shut(mostMs: number = MOST_MS): void {
		Atomics.store(this.shared, SHUT, 1);
		const until = performance.now() + mostMs;
		for (let left = mostMs; left > 0; left = until - performance.now()) {
			const inside = Atomics.load(this.shared, INSIDE);
			if (inside === 0) return;
			Atomics.wait(this.shared, INSIDE, inside, left);
		}
	}
}
