import type { Round } from "./round.ts";

/** One side of a bench over all of its rounds: medians, and the least and the most that any round had. */
export type Figures = Readonly<{
	perSecond: number;
	leastPerSecond: number;
	mostPerSecond: number;
	/** Processor time of one operation, all threads together, in microseconds. */
	cpuMicros: number;
	/** Medians of the rounds' own percentiles, in ms. */
	p50Ms?: number;
	p99Ms?: number;
	/** The most that any round had resident at its end, in bytes. */
	rssBytes: number;
}>;

/** @throws RangeError without a round */
export function figuresOf(rounds: readonly Round[]): Figures {
	const perSecond = rounds.map(rate);
	const p50 = rounds.flatMap(({ p50Ms }) => p50Ms ?? []);
	const p99 = rounds.flatMap(({ p99Ms }) => p99Ms ?? []);
	return {
		perSecond: median(perSecond),
		leastPerSecond: Math.min(...perSecond),
		mostPerSecond: Math.max(...perSecond),
		cpuMicros: median(rounds.map(({ cpuSeconds, count }) => (1e6 * cpuSeconds) / count)),
		...(p50.length > 0 && { p50Ms: median(p50) }),
		...(p99.length > 0 && { p99Ms: median(p99) }),
		rssBytes: Math.max(...rounds.map(({ rssBytes }) => rssBytes)),
	};
}

/** How many times as many operations a second: the median of what it is from round to round, so that both had the same machine. */
export function ratioOf(rounds: readonly Round[], others: readonly Round[]): number {
	return median(
		rounds.flatMap((round, at) => {
			const other = others[at];
			return other === undefined ? [] : [rate(round) / rate(other)];
		}),
	);
}

/** @throws RangeError without a value */
export function median(values: readonly number[]): number {
	if (values.length === 0) throw new RangeError("there is no median of nothing");
	const sorted = values.toSorted((a, b) => a - b);
	const middle = (sorted.length - 1) / 2;
	return ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle)] ?? 0)) / 2;
}

function rate({ count, seconds }: Round): number {
	return count / seconds;
}
