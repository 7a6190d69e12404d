/** What one measured stretch of work has taken. */
export type Round = Readonly<{
	/** How many operations were done. */
	count: number;
	seconds: number;
	/** Processor time of the measured process, all of its threads. */
	cpuSeconds: number;
	/** From the beginning to the end of one operation, where each has a time of its own, in ms. */
	p50Ms?: number;
	p99Ms?: number;
	/** Resident memory of the measured process at the end, in bytes. */
	rssBytes: number;
}>;

/**
 * Measures one stretch of work in this process.
 *
 * @param count how many operations `work` does
 * @param latenciesMs what `work` puts into it is told as p50 and p99
 * @example
 * const round = await measureRound(10_000, async (latenciesMs) => verifyAll(latenciesMs));
 */
export async function measureRound(
	count: number,
	work: (latenciesMs: number[]) => Promise<void> | void,
): Promise<Round> {
	const latenciesMs: number[] = [];
	const cpuBefore = process.cpuUsage();
	const startedAt = performance.now();
	await work(latenciesMs);
	const seconds = (performance.now() - startedAt) / 1_000;
	const { user, system } = process.cpuUsage(cpuBefore);
	return {
		count,
		seconds,
		cpuSeconds: (user + system) / 1e6,
		...percentiles(latenciesMs),
		rssBytes: process.memoryUsage.rss(),
	};
}

/** p50 and p99 of times in ms; nothing where there are none. */
export function percentiles(timesMs: readonly number[]): Pick<Round, "p50Ms" | "p99Ms"> {
	if (timesMs.length === 0) return {};
	const sorted = Float64Array.from(timesMs).sort();
	const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
	return { p50Ms: at(0.5), p99Ms: at(0.99) };
}
