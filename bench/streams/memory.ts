import type { Sample } from "./messages.ts";

const SAMPLE_MS = 1_000;

/** How many collections are forced over a run: each stops the process for a while, and all are among the figures. */
const COLLECTIONS = 4;

/** Samples the memory of this process. */
export class Memory {
	readonly samples: Sample[] = [];
	readonly #startedAt = performance.now();
	readonly #timer: NodeJS.Timeout;
	readonly #collectEveryMs: number;
	readonly #cpuBefore = process.cpuUsage();
	#collections = 0;

	/** @param runMs how long it is going to take, about */
	constructor(runMs: number) {
		this.#collectEveryMs = runMs / COLLECTIONS;
		this.#timer = setInterval(() => this.#sample(), Math.min(SAMPLE_MS, Math.max(50, runMs / 20)));
		this.#sample();
	}

	/** All samples, and how much of one processor this process has had meanwhile. */
	stop(): Readonly<{ samples: readonly Sample[]; cpuShare: number }> {
		clearInterval(this.#timer);
		this.#sample(true);
		const { user, system } = process.cpuUsage(this.#cpuBefore);
		return { samples: this.samples, cpuShare: (user + system) / 1_000 / (performance.now() - this.#startedAt) };
	}

	#sample(last = false): void {
		const atMs = performance.now() - this.#startedAt;
		if (!last && atMs < this.#collections * this.#collectEveryMs) {
			this.samples.push({ atMs, rss: process.memoryUsage.rss() });
			return;
		}
		this.#collections++;
		globalThis.gc?.();
		const { rss, heapUsed: heap } = process.memoryUsage();
		this.samples.push({ atMs, rss, heap });
	}
}
